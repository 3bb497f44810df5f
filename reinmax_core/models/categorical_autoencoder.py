"""Encoder and decoder of images under categorical latents with a uniform prior."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from reinmax_core.categorical import log_probabilities
from reinmax_core.models.autoencoder import Autoencoder

SLOPE = 0.01
"""Of the leaky rectifiers below 0."""

Activation = Literal["relu", "leaky_relu"]


class CategoricalAutoencoder(Autoencoder):
    """An `Autoencoder` pixels-512-256-(latents x classes) and the same way back, rectifiers between layers.

    Args:
        pixels: of an image.
        latents: L.
        categories: C, the classes of a latent.
        activation: the rectifiers, plain or with a slope of 0.01 below 0.
    """

    def __init__(self, pixels: int, latents: int, categories: int, *, activation: Activation = "relu") -> None:
        super().__init__()
        self.latents, self.categories = latents, categories
        self.encoder = _perceptron(pixels, 512, 256, latents * categories, activation=activation)
        self.decoder = _perceptron(latents * categories, 256, 512, pixels, activation=activation)

    def logits(self, images: Tensor) -> Tensor:
        """Unnormalised log q(z|x), [images, latents, categories], for images [images, pixels] in [0, 1]."""
        code: Tensor = self.encoder(images)
        logits: Tensor = code.unflatten(-1, (self.latents, self.categories))  # type: ignore[no-untyped-call]
        return logits

    def prior_logits(self) -> Tensor:
        """Zeros, [latents, categories]."""
        weight = next(self.parameters())
        return torch.zeros(self.latents, self.categories, dtype=weight.dtype, device=weight.device)

    def decoded(self, draws: Tensor) -> Tensor:
        pixels: Tensor = self.decoder(draws.flatten(-2))
        return pixels

    def log_ratio(self, draws: Tensor, logits: Tensor) -> Tensor:
        # log q - log p = sum_l log q_l(z_l) + L log C
        return (draws * log_probabilities(logits)).sum((-2, -1)) + self.latents * math.log(self.categories)

    def divergence(self, logits: Tensor) -> Tensor:
        # sum_l sum_c q log q + L log C
        log_q = log_probabilities(logits)
        return (log_q.exp() * log_q).sum((-2, -1)) + self.latents * math.log(self.categories)

    def entropy(self, logits: Tensor) -> Tensor:
        # -sum_l sum_c q log q = L log C - divergence
        return self.latents * math.log(self.categories) - self.divergence(logits)


def _perceptron(inputs: int, first: int, second: int, outputs: int, *, activation: Activation) -> nn.Sequential:
    sizes = (inputs, first, second, outputs)
    layers = [nn.Linear(width, following) for width, following in pairwise(sizes)]
    return nn.Sequential(layers[0], _rectifier(activation), layers[1], _rectifier(activation), layers[2])


def _rectifier(activation: Activation) -> nn.Module:
    return nn.ReLU() if activation == "relu" else nn.LeakyReLU(SLOPE)
