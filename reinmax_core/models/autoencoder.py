"""What autoencoders of images with discrete latents have in common: their likelihood and their evidence bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Autoencoder(nn.Module, ABC):
    """q(z|x), p(z) and p(x|z) for images x in [0, 1] and independent latents z. All terms are in nats.

    Draws are one-hot [..., images, latents, classes]. Pixels are independent given z; grey levels are the
    targets of a Bernoulli likelihood.
    """

    encoder: nn.Module
    """From images [images, pixels] to what `logits` are made of."""

    decoder: nn.Module
    """From codes to the logits of pixels [..., images, pixels]."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Unnormalised log q(z|x), [images, latents, classes], for images [images, pixels]."""

    @abstractmethod
    def prior_logits(self) -> Tensor:
        """Unnormalised log p(z), [latents, classes]."""

    @abstractmethod
    def decoded(self, draws: Tensor) -> Tensor:
        """Logits of the pixels' means, [..., images, pixels]."""

    @abstractmethod
    def log_ratio(self, draws: Tensor, logits: Tensor) -> Tensor:
        """log q(z|x) - log p(z), [..., images]; its mean over draws is `divergence`."""

    @abstractmethod
    def divergence(self, logits: Tensor) -> Tensor:
        """Kullback-Leibler divergence of q(z|x) from p(z), [images]."""

    @abstractmethod
    def entropy(self, logits: Tensor) -> Tensor:
        """Of q(z|x), [images]."""

    def reconstruction(self, images: Tensor, draws: Tensor) -> Tensor:
        """-log p(x|z), [..., images]."""
        return self.cross_entropy(images, self.decoded(draws))

    def cross_entropy(self, images: Tensor, pixels: Tensor) -> Tensor:
        """Of images [images, pixels] and the logits of pixels [..., images, pixels] that are shown for them, [...]."""
        return binary_cross_entropy_with_logits(pixels, images.expand_as(pixels), reduction="none").sum(-1)

    def bound(self, images: Tensor, draws: Tensor, logits: Tensor) -> Tensor:
        """-log of the mean importance weight p(x, z) / q(z|x) of draws [samples, images, latents, classes], [images].

        Its mean falls with the samples, from the negative evidence lower bound at one towards -log p(x). Source:
        Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016, arXiv 1509.00519.
        """
        log_weights = -self.reconstruction(images, draws) - self.log_ratio(draws, logits)
        return math.log(len(draws)) - log_weights.logsumexp(0)
