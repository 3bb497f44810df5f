"""How good an estimator is on a problem: bias, spread and direction of its gradient, against the exact one.

Where an estimator is a function of the draw its mean and spread are sums over all draws. For the others
they are estimated from draws, and every figure has a standard error by the jackknife: the figure is
worked out again without each of 32 equal parts of the draws (Efron and Stein, "The Jackknife Estimate of
Variance", 1981, https://doi.org/10.1214/aos/1176345462).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor

from reinmax_core import deviations
from reinmax_core.deviations import Problem, Sums
from reinmax_core.estimators.base import DrawDetermined, Estimator
from reinmax_core.estimators.exact import Exact

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Cost


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its standard error, which is 0 where nothing was drawn."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.4f}" if self.error else f"{self.value:.4f}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of an estimator's gradient, where `mean` and `std` are its own, entry by entry, and || || is 2-norm.

    A figure is NaN where a norm that it is divided by is 0.
    """

    relative_bias: Figure
    """||mean - exact|| / ||exact||; noise in a sampled mean raises it, by most where the bias is least."""
    relative_bias_corrected: Figure
    """The same less what noise adds: the root of (||mean - exact||^2 - ||std||^2 / draws) / ||exact||^2, or 0
    if that is negative. Its error is how far one standard error more of the square would move it."""
    relative_bias_to_mean: Figure
    """||mean - exact|| / ||mean||."""
    relative_std: Figure
    """||std|| / ||mean||, of a single estimate."""
    cosine: Figure
    """<exact, mean> / (||exact|| ||mean||)."""


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """What `quality` found. Tensors have the shape of the logits, in double precision, on the CPU."""

    estimator: Estimator
    how: Literal["enumerated", "sampled"]
    """Whether mean and spread are sums over all draws or were estimated from some."""
    count: int
    """Joint states that were enumerated, or draws that were made."""
    whole: Figures
    """Figures of the whole gradient, taken as one vector."""
    rows: Figures
    """Figures of the part of the gradient that belongs to one value of the cost, averaged over the values;
    `relative_bias_corrected` in the square. Parts that give NaN are left out."""
    exact: Tensor
    """The gradient of the sum of the expected values."""
    mean: Tensor
    """The estimator's mean."""
    std: Tensor
    """The standard deviation of each entry of a single estimate."""

    def __str__(self) -> str:
        found, unit = self.whole, "states" if self.how == "enumerated" else "draws"
        return (
            f"{self.estimator.name}: relative bias {found.relative_bias}, relative std {found.relative_std}, "
            f"cosine {found.cosine} ({self.how}, {self.count} {unit})"
        )


def quality(
    estimator: Estimator,
    logits: Tensor,
    cost: Cost,
    *,
    exact: Tensor | None = None,
    draws: int = 1024,
    generator: Generator | None = None,
    max_states: int = 16384,
) -> Quality:
    """Compares an estimator's gradient of the sum of a cost's values with the exact one.

    A `DrawDetermined` estimator is enumerated where the latents beneath a value have at most `max_states`
    states, any other is sampled; a batch is a batch still, to an estimator that compares its rows. Memory
    is bounded, however many draws there are.

    Args:
        estimator: one with learned parts is taken as it is, and its parts are left alone.
        logits: [..., n], classes on the last axis; float64 where `cost` can compute in it.
        cost: maps draws of that shape to values, see `Cost`.
        exact: the gradient of the sum of the expected values, if it is known already.
        draws: estimates to sample, at least 4.
        generator: the source of randomness; torch's global one if None.
        max_states: the most joint states to enumerate, for the exact gradient (see `Exact`) as for the estimator.

    Raises:
        ValueError: too few draws, `exact` of another shape than the logits, more states than `max_states`
            (`TooManyStates`) with no exact gradient given, or as for `Estimator.expectation`.
    """
    if draws < 4:
        raise ValueError(f"draws must be at least 4, to tell how far figures can be trusted, got {draws}; draw more")
    if exact is None:
        exact = exact_gradient(logits, cost, max_states=max_states)
    if exact.shape != logits.shape:
        raise ValueError(
            f"the exact gradient must have the shape of the logits, {tuple(logits.shape)}, but has "
            f"{tuple(exact.shape)}; leave it out to have it computed"
        )
    problem = Problem.of(logits, cost, exact)
    if isinstance(estimator, Exact):
        return _quality(estimator, problem, "enumerated", problem.states, Sums.of_constant(problem.exact))
    if isinstance(estimator, DrawDetermined) and problem.states <= max_states:
        return _quality(estimator, problem, "enumerated", problem.states, deviations.enumerated(estimator, problem))
    return _quality(estimator, problem, "sampled", draws, deviations.sampled(estimator, problem, draws, generator))


def compare(
    estimators: Iterable[Estimator],
    logits: Tensor,
    cost: Cost,
    *,
    draws: int = 1024,
    generator: Generator | None = None,
    max_states: int = 16384,
) -> tuple[Quality, ...]:
    """`quality` of each estimator on the same problem; one a line makes a table.

    Example:
        >>> import torch
        >>> from reinmax_core.diagnostics import compare
        >>> from reinmax_core.estimators import ReinMax, StraightThrough
        >>> for found in compare((ReinMax(), StraightThrough()), torch.tensor([0.0, 1.0]), lambda z: z[..., 0] ** 2):
        ...     print(found)
        reinmax: relative bias 0.0000, relative std 1.6487, cosine 1.0000 (enumerated, 2 states)
        straight_through: relative bias 0.4621, relative std 1.6487, cosine 1.0000 (enumerated, 2 states)
    """
    exact = exact_gradient(logits, cost, max_states=max_states)
    settings = {"exact": exact, "draws": draws, "generator": generator, "max_states": max_states}
    return tuple(quality(estimator, logits, cost, **settings) for estimator in estimators)  # type: ignore[arg-type]


def exact_gradient(logits: Tensor, cost: Cost, *, max_states: int = 16384) -> Tensor:
    """The gradient of the sum of the expected values, by `Exact`, in double precision on the CPU.

    Raises:
        TooManyStates: the latents beneath a value have more than `max_states`; a ValueError.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        return deviations.gradient(Exact(max_states=max_states).expectation(leaf, cost), leaf)


def _quality(
    estimator: Estimator, problem: Problem, how: Literal["enumerated", "sampled"], count: int, sums: Sums
) -> Quality:
    mean, variance = sums.whole()
    return Quality(
        estimator=estimator,
        how=how,
        count=count,
        whole=_figures(sums, problem.exact.reshape(1, -1)),
        rows=_figures(sums, problem.exact.reshape(math.prod(problem.values), -1)),
        exact=problem.exact.reshape(problem.shape),
        mean=mean.reshape(problem.shape),
        std=variance.sqrt().reshape(problem.shape),
    )


def _figures(sums: Sums, exact: Tensor) -> Figures:
    """Figures of parts of the gradient, averaged; `exact` [values, entries] says which parts."""
    found, squares = _statistics(*sums.whole(), sums.counts.sum(), exact), torch.zeros(5, device="cpu")
    if len(sums.counts) > 1:
        others = _statistics(*sums.without_each(), exact)
        squares = (others - others.mean(0)).square().sum(0) * (1 - 1 / len(others))
    figures = [Figure(value, error) for value, error in zip(found.tolist(), squares.sqrt().tolist(), strict=True)]
    figures[1] = _root(figures[1])
    return Figures(*figures)


def _statistics(mean: Tensor, variance: Tensor, count: Tensor, exact: Tensor) -> Tensor:
    """The five figures, [..., 5], the second of them squared, from moments [..., *logits] and counts [...]."""
    mean, variance = (moment.reshape(*count.shape, *exact.shape) for moment in (mean, variance))
    bias_norm, mean_norm, exact_norm = (vector.norm(dim=-1) for vector in (mean - exact, mean, exact))
    spread = variance.sum(-1)
    ratios = (
        bias_norm / exact_norm,
        (bias_norm.square() - spread / count.unsqueeze(-1)) / exact_norm.square(),
        bias_norm / mean_norm,
        spread.sqrt() / mean_norm,
        (exact * mean).sum(-1) / (exact_norm * mean_norm),
    )
    stacked = torch.stack(ratios, -1)
    return torch.where(stacked.isfinite(), stacked, torch.nan).nanmean(-2)


def _root(square: Figure) -> Figure:
    value = math.sqrt(max(square.value, 0.0))
    return Figure(value, math.sqrt(value**2 + square.error) - value)
