"""A draw's cost explained by its noise: gradients that are unbiased because what is taken off is put back.

Symbols: p = softmax(theta), z = log p + Gumbel noise, D the one-hot argmax of z, which is a draw from p;
z~ has the law of z given D, from noise of its own, and f is the cost. For every function c of z with a
derivative (Tucker et al., 2017, https://arxiv.org/abs/1703.07370)

    [f(D) - c(z~)] (D - p) + d c(z) / d theta - d c(z~) / d theta

has the mean of f(D) (D - p), because given D both z and z~ have the same law, and varies the less, the
better c(z~) foretells f(D). With E_j independent Exp(1) numbers, z~ is -log E_d for the drawn class d and
log p_j - log(E_j + E_d p_j) for the others: entry j follows log p_j alone, at a rate between 0 and 1.

Everything here is a function of log p, so that derivatives with respect to theta are v - p sum(v).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from reinmax_core import categorical, gradients

FAR = 1e30
"""Stands for infinity where that times 0 would be no number; in float32, and so far off that its softmax is 0."""

NETWORK_RANGE = 30.0
"""What a network reads is clamped to this on either side: a chance of 1e-13, and noise, are within it."""

NETWORK_WIDTH = 137

NO_SECOND = (
    "the derivatives of the relaxed costs were taken at fixed noise and are not followed further; "
    "use an estimator without a relaxation, such as 'rloo' or 'reinmax'"
)


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A draw with its noise, and with other noise that would have led to the same draw; constants all.

    Of two classes only differences count, so that m numbers describe a row: one for n = 2, else n.
    """

    draws: Tensor
    """D, one-hot [..., n]."""

    known: Tensor
    """log p, or for two classes log p_0 - log p_1; finite, [..., m]."""

    points: Tensor
    """z and z~, or for two classes z_0 - z_1 and z~_0 - z~_1; [2, ..., m]."""

    rates: Tensor
    """The derivative of each number of z~ with respect to that of `known`, [..., m]. Those of z are 1."""

    def relaxed(self, points: Tensor, inverse_temperature: Tensor | float) -> Tensor:
        """softmax(z / temperature) [2, ..., n] at points [2, ..., m]."""
        if self.draws.shape[-1] == 2:
            difference = points.squeeze(-1) * inverse_temperature
            return categorical.pair(difference, -difference).sigmoid()
        # Differences from the largest entry stay finite, or become -inf, however small the temperature is.
        return categorical.probabilities((points - points.detach().amax(-1, keepdim=True)) * inverse_temperature)

    def gradient(self, gaps: Tensor, slopes: Tensor) -> Tensor:
        """The estimate [..., n] from f(D) - c(z~), above the rows, and the derivatives of c at the points."""
        gaps, followed = categorical.above(gaps, self.draws), slopes[0] - self.rates * slopes[1]
        if self.draws.shape[-1] == 2:
            # (a, -a)  with  a = [f(D) - c(z~)] (D_0 - p_0) + v
            first = (gaps * (self.draws[..., :1] - self.known.sigmoid()) + followed).squeeze(-1)
            return categorical.pair(first, -first)
        # [f(D) - c(z~)] (D - p) + v - p sum(v)
        probs = self.known.exp()
        return gaps * (self.draws - probs) + followed - probs * followed.sum(-1, keepdim=True)


def perturbed(logits: Tensor, generator: Generator | None = None) -> Perturbed:
    """Draws for rows [..., n], with two kinds of noise; no gradient passes through any of it."""
    classes, by_class = logits.shape[-1], categorical.distinct(logits.detach())
    if classes == 2:
        odds = (by_class[..., 0] - by_class[..., 1]).clamp(-FAR, FAR).expand(logits.shape[:-1])
        free = odds + _logistic(odds, generator)
        drawn = (free < 0).to(odds.dtype)
        given, rates = given_draw_of_two(odds, drawn, generator)
        known, points, rates = odds.unsqueeze(-1), torch.stack((free, given)).unsqueeze(-1), rates.unsqueeze(-1)
        return Perturbed(categorical.one_hot(drawn, 2, odds.dtype), known, points, rates)
    log_probs = categorical.log_probabilities(by_class).clamp(min=-FAR).expand(logits.shape)
    free = log_probs + categorical.gumbel(logits, generator)
    drawn = free.argmax(-1)
    given, rates = given_draw(log_probs, drawn, generator)
    return Perturbed(categorical.one_hot(drawn, classes, logits.dtype), log_probs, torch.stack((free, given)), rates)


def given_draw(log_probs: Tensor, drawn: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """z~ given drawn classes [...], and the derivative of each entry with respect to its log p_j, both [..., n]."""
    index = drawn.unsqueeze(-1)
    clocks = categorical.exponential(log_probs.shape, log_probs, generator)
    first = clocks.gather(-1, index)
    # log p_j - log(E_j + E_d p_j), of derivative E_j / (E_j + E_d p_j); but -log E_d at d
    total = clocks + first * log_probs.exp()
    return (log_probs - total.log()).scatter(-1, index, -first.log()), (clocks / total).scatter(-1, index, 0)


def given_draw_of_two(odds: Tensor, drawn: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """z~_0 - z~_1 given drawn classes, 0 or 1, and its derivative with respect to log p_0 - log p_1, all [...].

    The lead of the drawn class d over the other class o is log(1 + E_o / (E_d p_o)), where log(E_o / E_d) is
    a logistic number; log p_o follows the odds of d at the rate -p_d.
    """
    sign = 1 - 2 * drawn
    toward = sign * odds
    steep = _logistic(odds, generator) - logsigmoid(-toward)
    return -sign * logsigmoid(-steep), toward.sigmoid() * steep.sigmoid()


def _logistic(odds: Tensor, generator: Generator | None) -> Tensor:
    return categorical.inner_uniform(odds.shape, odds, generator).logit_()


@dataclass(frozen=True, slots=True)
class ControlVariate:
    """c(z) = scale * f(softmax(z / temperature)) + network(log p, z)."""

    inverse_temperature: Tensor | float
    scale: Tensor | float
    network: nn.Sequential | None = None

    @classmethod
    def fixed(cls, tau: float, scale: float) -> ControlVariate:
        """With numbers in place of parts, and no network."""
        return cls(1 / tau, scale)

    @classmethod
    def of(cls, parts: nn.ParameterDict, network: nn.Sequential | None = None) -> ControlVariate:
        """From what `initial` gave."""
        return cls(parts["log_temperature"].neg().exp(), parts["scale"], network)

    def measured(
        self, logits: Tensor, cost: Callable[[Tensor], Tensor], generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """The costs of draws and the estimated gradient of each, see `Measured.measure`.

        Raises:
            ValueError: the cost has no derivative or gives values that fit no latents, or the network is for
                another number of latents.
            RuntimeError: the gradient is differentiated.
        """
        if not torch.is_grad_enabled():
            return cost(categorical.sample(logits, generator)), torch.zeros_like(logits)
        noisy = perturbed(logits, generator)
        values = cost(noisy.draws)
        heights, slopes = self._heights_and_slopes(cost, noisy)
        # A gradient that parts are trained by keeps all that the parameters of the cost have in it.
        gaps = (values if self._is_trained() else values.detach()).to(logits.dtype) - heights[1]
        refused = gradients.constant(logits, logits.new_zeros(()), NO_SECOND)
        return values, noisy.gradient(gaps, slopes) + refused

    def _is_trained(self) -> bool:
        """Whether the gradient is to be differentiated with respect to the parts."""
        parts = (self.inverse_temperature, self.scale, *(self.network.parameters() if self.network is not None else ()))
        return categorical.readable() and any(isinstance(part, Tensor) and part.requires_grad for part in parts)

    def _heights_and_slopes(self, cost: Callable[[Tensor], Tensor], noisy: Perturbed) -> tuple[Tensor, Tensor]:
        def height(points: Tensor) -> Tensor:
            return self._height(cost, points, noisy)

        if not self._is_trained():
            heights, slopes = gradients.values_and_slopes(height, noisy.points)
            return heights.detach(), slopes
        points = noisy.points.requires_grad_()
        heights = height(points)
        (slopes,) = torch.autograd.grad(heights.sum(), points, create_graph=True)
        return heights, slopes

    def _height(self, cost: Callable[[Tensor], Tensor], points: Tensor, noisy: Perturbed) -> Tensor:
        """c at the points [2, ..., m]."""
        costs = cost(noisy.relaxed(points, self.inverse_temperature))
        if categorical.readable() and not costs.requires_grad:
            raise ValueError(
                "the estimator follows the derivative of the cost at relaxed draws, but the cost has none; "
                "leave out detach and argmax, or choose an estimator that needs none, such as 'rloo'"
            )
        height = self.scale * costs.to(points.dtype)
        if self.network is None:
            return height
        seen = torch.cat((noisy.known.expand_as(points), points), -1).clamp(-NETWORK_RANGE, NETWORK_RANGE)
        return height + _read(self.network, seen.flatten(height.ndim)).to(points.dtype)


def initial(tau: float, scale: float) -> nn.ParameterDict:
    """The parts that `ControlVariate.of` reads: the logarithm of the temperature, and the scale."""
    return nn.ParameterDict({"log_temperature": torch.tensor(math.log(tau)), "scale": torch.tensor(scale)})


def network(latents: int, classes: int) -> nn.Sequential:
    """One that maps log p and z of so many latents to a number, which before training is 0."""
    last = nn.Linear(NETWORK_WIDTH, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first = nn.Linear(2 * latents * (1 if classes == 2 else classes), NETWORK_WIDTH)
    return nn.Sequential(first, nn.LeakyReLU(0.3), last)


def _read(network: nn.Sequential, seen: Tensor) -> Tensor:
    """The numbers [...] that the network makes of [..., inputs]."""
    weight = network[0].get_parameter("weight")
    if seen.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"the network of the estimator's parts reads {weight.shape[1]} numbers for each value of the cost, but the "
            f"latents beneath a value have {seen.shape[-1]}; make the parts for the latents and classes of this cost"
        )
    numbers: Tensor = network(seen.to(weight.dtype))
    return numbers.squeeze(-1)
