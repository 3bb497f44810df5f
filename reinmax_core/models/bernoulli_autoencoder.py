"""Encoder, decoder and prior of binary images under binary latents, and the terms of their evidence bound."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from reinmax_core.models.autoencoder import Autoencoder

SLOPE = 0.3
"""Of the leaky rectifiers below 0."""


class BernoulliAutoencoder(Autoencoder):
    """An `Autoencoder`, q(b|x), p(b) and p(x|b), for images x of 0 and 1 and latents b of 0 and 1.

    Encoder and decoder have two hidden layers with leaky rectifiers each; weights are initialised as by
    Glorot, biases with 0. Draws are one-hot [..., images, latents, 2], the first class standing for b = 1, and
    the decoder reads b.

    Args:
        pixels: of an image.
        hidden: width of the hidden layers.
        latents: L.
        learned_prior: whether p(b) has logits of its own, 0 at first; otherwise it is uniform.
        parameterisation: "logit" for logits (eta, 0) of the classes, where the encoder gives eta; "paper" for
            (r, 1 - r), where it gives r and P(b = 1) = sigmoid(2 r - 1).
    """

    prior: Tensor
    """Logits of p(b = 1), [latents]."""

    def __init__(
        self,
        pixels: int,
        hidden: int,
        latents: int,
        *,
        learned_prior: bool = False,
        parameterisation: Literal["logit", "paper"] = "logit",
    ) -> None:
        super().__init__()
        self.parameterisation = parameterisation
        self.encoder = _perceptron(pixels, hidden, latents)
        self.decoder = _perceptron(latents, hidden, pixels)
        if learned_prior:
            self.prior = nn.Parameter(torch.zeros(latents))
        else:
            self.register_buffer("prior", torch.zeros(latents))

    def logits(self, images: Tensor) -> Tensor:
        """Those of q(b|x), [images, latents, 2], for images [images, pixels]."""
        first = self.encoder(images)
        return torch.stack((first, 1 - first if self.parameterisation == "paper" else torch.zeros_like(first)), -1)

    def prior_logits(self) -> Tensor:
        """Those of p(b), [latents, 2]."""
        return torch.stack((self.prior, torch.zeros_like(self.prior)), -1)

    def decoded(self, draws: Tensor) -> Tensor:
        pixels: Tensor = self.decoder(draws[..., 0])
        return pixels

    def log_ratio(self, draws: Tensor, logits: Tensor) -> Tensor:
        """log q(b|x) - log p(b), [..., images]; its mean over draws is `divergence`.

        The sum over classes of draw times log-probability, so that it is linear in relaxed draws too.
        """
        # log q - log p = b . (eta - pi) - sum log(1 + exp eta) + sum log(1 + exp pi)
        log_odds = logits[..., 0] - logits[..., 1]
        constant = softplus(self.prior).sum() - softplus(log_odds).sum(-1)
        return (draws[..., 0] * (log_odds - self.prior)).sum(-1) + constant

    def divergence(self, logits: Tensor) -> Tensor:
        """Kullback-Leibler divergence of q(b|x) from p(b), [images]."""
        return self.log_ratio(logits.softmax(-1), logits)

    def entropy(self, logits: Tensor) -> Tensor:
        """Of q(b|x), [images]."""
        # sum log(1 + exp eta) - q(b = 1) eta
        log_odds = logits[..., 0] - logits[..., 1]
        return (softplus(log_odds) - log_odds.sigmoid() * log_odds).sum(-1)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.LeakyReLU(SLOPE), layers[1], nn.LeakyReLU(SLOPE), layers[2])
