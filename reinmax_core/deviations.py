"""Mean and variance of an estimator's gradient: sums over all draws, or over some that are made.

Sums are kept in double precision, and of deviations from one estimate: an entry that is the same in all of
them has no variance, and a mean of nothing but zeros is 0, not a rounding error that others are divided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from reinmax_core import categorical
from reinmax_core.estimators.base import DrawDetermined, Estimator, Separable

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Cost

PARTS = 32
"""Parts of the draws that are summed apart, so that they tell how far their totals can be trusted."""

WORKING_SET = 2**16
"""Numbers in the draws that a cost is called with at a time; what a decoder makes of them is many times larger."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Logits [batch, ..., n], a cost with values [batch, ...] or fewer axes, and its exact gradient."""

    logits: Tensor
    cost: Cost
    exact: Tensor
    """In double precision on the CPU."""
    values: tuple[int, ...]
    """The shape of the cost's values."""
    shape: tuple[int, ...]
    """Of the logits as they were given."""

    @classmethod
    def of(cls, logits: Tensor, cost: Cost, exact: Tensor) -> Problem:
        """The problem, with an axis of length 1 for the batch where the cost has a single value."""
        logits, shape, values = logits.detach(), tuple(logits.shape), _shape_of_values(logits, cost)
        if not values:
            logits, cost, values = logits.unsqueeze(0), _wrapped(cost, partial(_batched, axes=logits.ndim)), (1,)
        return cls(logits, cost, exact.detach().cpu().double().reshape(logits.shape), values, shape)

    @property
    def terms(self) -> Cost:
        """The cost, in as many terms as it is the sum of."""
        cost = self.cost
        return (lambda draws: cost.each(draws) / draws.shape[-2]) if isinstance(cost, Separable) else cost

    @property
    def joint(self) -> tuple[int, ...]:
        """The axes beneath a term, by their lengths."""
        return () if isinstance(self.cost, Separable) else tuple(self.logits.shape[len(self.values) : -1])

    @property
    def states(self) -> int:
        """Joint states of the latents beneath a term."""
        states: int = self.logits.shape[-1] ** math.prod(self.joint)
        return states


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums of an estimator's deviations from one of its estimates, and of their squares, [parts, *logits].

    For an enumeration, one part of sums that are weighted by probabilities, and infinite `counts`.
    """

    origin: Tensor
    """The estimate from which the others deviate."""
    first: Tensor
    """Of deviations."""
    second: Tensor
    """Of squares of deviations."""
    counts: Tensor
    """Estimates in each part, [parts]."""

    @classmethod
    def of_constant(cls, gradient: Tensor) -> Sums:
        """Those of an estimator that always gives the same."""
        nothing = torch.zeros_like(gradient).unsqueeze(0)
        return cls(gradient, nothing, nothing, torch.tensor([math.inf], device="cpu"))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each entry."""
        return self._moments(self.first.sum(0), self.second.sum(0), self.counts.sum())

    def without_each(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same, [parts, *logits], without each part; and how many estimates are left, [parts]."""
        counts = self.counts.sum() - self.counts
        left = counts.view(-1, *[1] * self.origin.ndim)
        return *self._moments(self.first.sum(0) - self.first, self.second.sum(0) - self.second, left), counts

    def _moments(self, first: Tensor, second: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        if bool(count.isinf().all()):
            return self.origin + first, (second - first.square()).clamp(min=0)
        return self.origin + first / count, ((second - first.square() / count) / (count - 1)).clamp(min=0)


@torch.enable_grad()
def enumerated(estimator: DrawDetermined, problem: Problem) -> Sums:
    """Sums over all joint states of the latents beneath a term."""
    likeliest = categorical.largest(categorical.rows(problem.logits)).cpu().long().unsqueeze(0)
    origin = _gradient_through(estimator, problem, likeliest)[0]
    first, second = torch.zeros_like(origin), torch.zeros_like(origin)
    for states in _parts(problem.states, WORKING_SET // max(1, problem.logits.numel())):
        drawn = _classes(states, problem)
        weights = _chances(drawn, problem)
        # A state that cannot be may have an infinite gradient, and 0 times that must be 0.
        deviations = torch.where(weights > 0, _gradient_through(estimator, problem, drawn) - origin, 0)
        first += (weights * deviations).sum(0)
        second += (weights * deviations.square()).sum(0)
    return Sums(origin, first.unsqueeze(0), second.unsqueeze(0), torch.tensor([math.inf], device="cpu"))


@torch.enable_grad()
def sampled(estimator: Estimator, problem: Problem, draws: int, generator: Generator | None) -> Sums:
    """Sums over independent estimates, in parts of as many each, or nearly so."""
    parts, largest = min(PARTS, draws), WORKING_SET // max(1, problem.logits.numel() * estimator.evaluations)
    counts = [draws // parts + (part < draws % parts) for part in range(parts)]
    origin = _estimates(estimator, problem, 1, generator)[:, 0]
    first, second = (torch.zeros(parts, *origin.shape, dtype=torch.float64, device="cpu") for _ in range(2))
    for part, count in enumerate(counts):
        for some in _parts(count, largest):
            deviations = _estimates(estimator, problem, len(some), generator) - origin.unsqueeze(1)
            first[part] += deviations.sum(1)
            second[part] += deviations.square().sum(1)
    return Sums(origin, first, second, torch.tensor(counts, dtype=torch.float64, device="cpu"))


def gradient(values: Tensor, leaf: Tensor) -> Tensor:
    """The derivative of the sum of the values with respect to the leaf, in double precision on the CPU."""
    (slope,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
    return slope.cpu().double()


def _gradient_through(estimator: DrawDetermined, problem: Problem, drawn: Tensor) -> Tensor:
    """The estimator's gradient at given classes [states, ...], in each term's own logits."""
    leaf = problem.logits.expand(len(drawn), *problem.logits.shape).contiguous().requires_grad_()
    rows = categorical.rows(leaf)
    if rows.shape[-1] == 2:
        drawn = drawn.to(rows.dtype)
    draws = estimator.through(rows, drawn.to(rows.device), categorical.probabilities(rows))
    return gradient(problem.terms(categorical.unrowed(draws, rows, leaf)), leaf)


def _classes(states: range, problem: Problem) -> Tensor:
    """The class of every latent in the numbered joint states, [states, ...]."""
    shape, classes = problem.logits.shape[:-1], problem.logits.shape[-1]
    exponents = torch.arange(math.prod(problem.joint) - 1, -1, -1, device="cpu")
    digits = torch.arange(states.start, states.stop, device="cpu").unsqueeze(-1) // classes**exponents % classes
    above = [1] * (len(shape) - len(problem.joint))
    return digits.reshape(len(states), *above, *problem.joint).expand(len(states), *shape).contiguous()


def _chances(drawn: Tensor, problem: Problem) -> Tensor:
    """The probability of each joint state beneath each term, broadcastable to [states, *logits]."""
    probs = categorical.probabilities(problem.logits.cpu().double()).expand(*drawn.shape, -1)
    each = probs.gather(-1, drawn.unsqueeze(-1))
    above = each.shape[: each.ndim - 1 - len(problem.joint)]
    return each.reshape(*above, -1).prod(-1).view(*above, *[1] * (each.ndim - len(above)))


def _estimates(estimator: Estimator, problem: Problem, count: int, generator: Generator | None) -> Tensor:
    """Independent estimates of the gradient, [batch, count, ...].

    Behind the axis of the batch, because an estimator may compare the values on the first axis.
    """
    leaf = problem.logits.unsqueeze(1).repeat(1, count, *[1] * (problem.logits.ndim - 1)).requires_grad_()
    cost = _wrapped(problem.cost, partial(_repeated, axes=leaf.ndim))
    return gradient(estimator.expectation(leaf, cost, generator=generator), leaf)


def _parts(count: int, largest: int) -> Iterator[range]:
    size = max(1, largest)
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def _shape_of_values(logits: Tensor, cost: Cost) -> tuple[int, ...]:
    with torch.no_grad():
        rows = categorical.rows(logits.detach())
        likeliest = categorical.one_hot(categorical.largest(rows), rows.shape[-1], logits.dtype)
        values = cost(likeliest)
    categorical.beneath(values.shape, likeliest.shape)
    return tuple(values.shape)


def _wrapped(cost: Cost, wrapper: Callable[[Cost], Cost]) -> Cost:
    """The cost that takes and gives other axes; a separable one stays separable."""
    return Separable(wrapper(cost.each)) if isinstance(cost, Separable) else wrapper(cost)


def _batched(cost: Cost, axes: int) -> Cost:
    """For draws [..., 1, *logits], of a cost of draws [..., *logits] with so many axes."""

    def batched(draws: Tensor) -> Tensor:
        batch = draws.ndim - axes - 1
        return cost(draws.squeeze(batch)).unsqueeze(batch)

    return batched


def _repeated(cost: Cost, axes: int) -> Cost:
    """For draws [..., batch, count, ...], with so many axes from the batch on, of a cost of [..., batch, ...]."""

    def repeated(draws: Tensor) -> Tensor:
        batch = draws.ndim - axes
        return cost(draws.transpose(batch, batch + 1)).transpose(batch, batch + 1)

    return repeated
