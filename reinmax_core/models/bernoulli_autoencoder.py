"""Encoder, decoder and prior of binary images under binary latents, and the terms of their evidence bound."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

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
        prior: "fixed" for a uniform p(b), "learned" for one with logits of its own, 0 at first; "paper" for the same
            with the classes' probabilities in the order of ReinMax's script, see `prior_logits`.
        parameterisation: "logit" for logits (eta, 0) of the classes, where the encoder gives eta; "paper" for
            (r, 1 - r), where it gives r and P(b = 1) = sigmoid(2 r - 1).
    """

    prior: Tensor
    """Logits of p(b = 1), [latents], unless they are in the order of ReinMax's script."""

    def __init__(
        self,
        pixels: int,
        hidden: int,
        latents: int,
        *,
        prior: Literal["fixed", "learned", "paper"] = "fixed",
        parameterisation: Literal["logit", "paper"] = "logit",
    ) -> None:
        super().__init__()
        self.parameterisation = parameterisation
        self.has_paper_prior = prior == "paper"
        self.encoder = _perceptron(pixels, hidden, latents)
        self.decoder = _perceptron(latents, hidden, pixels)
        if prior == "fixed":
            self.register_buffer("prior", torch.zeros(latents))
        else:
            self.prior = nn.Parameter(torch.zeros(latents))

    def logits(self, images: Tensor) -> Tensor:
        """Those of q(b|x), [images, latents, 2], for images [images, pixels]."""
        first = self.encoder(images)
        return torch.stack((first, 1 - first if self.parameterisation == "paper" else torch.zeros_like(first)), -1)

    def prior_logits(self) -> Tensor:
        """Those of p(b), [latents, 2].

        In ReinMax's script the probabilities of a draw stand in the order (q_1, 1 - q_1, q_2, 1 - q_2, ...), and
        those of the prior beside them in the order (p_1, ..., p_L, 1 - p_1, ..., 1 - p_L). So those of one latent
        belong to different p and do not add up to 1. As all of them add up to L, the product of the latents' sums,
        which is the mass of p(b), is at most 1: bounds remain bounds, but are looser than they need to be.
        """
        if self.has_paper_prior:
            return torch.cat((logsigmoid(self.prior), logsigmoid(-self.prior))).view(-1, 2)
        return torch.stack((self.prior, torch.zeros_like(self.prior)), -1)

    def decoded(self, draws: Tensor) -> Tensor:
        # side by side in memory: otherwise a product with a batch of batches is made, and rounded, in another way
        pixels: Tensor = self.decoder(draws[..., 0].contiguous())
        return pixels

    def log_ratio(self, draws: Tensor, logits: Tensor) -> Tensor:
        """log q(b|x) - log p(b), [..., images]; its mean over draws is `divergence`.

        The sum over classes of draw times log-probability, so that it is linear in relaxed draws too.
        """
        # log q - log p = b . (eta - pi) - sum log(1 + exp eta) - log p(0)
        log_odds = logits[..., 0] - logits[..., 1]
        prior, cost_of_zeros = self._prior()
        constant = cost_of_zeros - softplus(log_odds).sum(-1)
        return (draws[..., 0] * (log_odds - prior)).sum(-1) + constant

    def _prior(self) -> tuple[Tensor, Tensor]:
        """pi, the log-odds of the latents under p(b), [latents], and -log p(0), a scalar."""
        if self.has_paper_prior:
            one, zero = self.prior_logits().unbind(-1)
            return one - zero, -zero.sum()
        return self.prior, softplus(self.prior).sum()

    def divergence(self, logits: Tensor) -> Tensor:
        """Kullback-Leibler divergence of q(b|x) from p(b), [images]; more than that where p(b) has less mass than 1."""
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
