"""How good an estimator is on a problem: bias, spread and direction of its gradient, against the exact one.

Where an estimator is a function of the draw its mean and spread are sums over all draws; for the others
they are estimated from draws, and every figure has a standard error by the jackknife: the figure is
worked out again without each of `BATCHES` equal parts of the draws (Efron and Stein, "The Jackknife
Estimate of Variance", 1981, https://doi.org/10.1214/aos/1176345462). Sums are kept in double precision,
of deviations from the exact gradient, so that a small bias is not a difference of large numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor

from reinmax_core import categorical
from reinmax_core.estimators.base import DrawDetermined, Estimator, Separable
from reinmax_core.estimators.exact import Exact

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Cost

BATCHES = 32
"""Parts of the draws that the jackknife leaves out in turn."""

WORKING_SET = 2**16
"""Numbers in the draws that a cost is called with at a time; what a decoder makes of them is many times larger."""


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
    problem = _Problem.of(logits, cost, exact)
    with torch.enable_grad():
        if isinstance(estimator, Exact):
            return problem.quality(estimator, "enumerated", problem.states, _Sums.of_no_deviation(problem.exact))
        if isinstance(estimator, DrawDetermined) and problem.states <= max_states:
            return problem.quality(estimator, "enumerated", problem.states, _enumerated(estimator, problem))
        return problem.quality(estimator, "sampled", draws, _sampled(estimator, problem, draws, generator))


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
        reinmax: relative bias 0.0000, relative std 0.5212, cosine 1.0000 (enumerated, 2 states)
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
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        return _gradient(Exact(max_states=max_states).expectation(leaf, cost), leaf)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Logits [batch, ..., n], a cost with values [batch, ...] or fewer axes, and its exact gradient."""

    logits: Tensor
    cost: Cost
    exact: Tensor
    values: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the logits as they were given."""

    @classmethod
    def of(cls, logits: Tensor, cost: Cost, exact: Tensor) -> _Problem:
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
        states: int = self.logits.shape[-1] ** math.prod(self.joint)
        return states

    def quality(self, estimator: Estimator, how: Literal["enumerated", "sampled"], count: int, sums: _Sums) -> Quality:
        bias, variance = sums.whole()
        return Quality(
            estimator=estimator,
            how=how,
            count=count,
            whole=_figures(sums, self.exact.reshape(1, -1)),
            rows=_figures(sums, self.exact.reshape(math.prod(self.values), -1)),
            exact=self.exact.reshape(self.shape),
            mean=(self.exact + bias).reshape(self.shape),
            std=variance.sqrt().reshape(self.shape),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums of an estimator's deviations from the exact gradient and of their squares, [parts, *logits].

    For an enumeration, one part of sums that are weighted by probabilities, and infinite `counts`.
    """

    first: Tensor
    second: Tensor
    counts: Tensor
    """Estimates in each part, [parts]."""

    @classmethod
    def of_no_deviation(cls, exact: Tensor) -> _Sums:
        nothing = torch.zeros_like(exact).unsqueeze(0)
        return cls(nothing, nothing, torch.tensor([math.inf]))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Bias and variance of each entry."""
        return _moments(self.first.sum(0), self.second.sum(0), self.counts.sum())

    def without_each(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same, [parts, *logits], without each part; and how many estimates are left, [parts]."""
        counts = self.counts.sum() - self.counts
        left = counts.view(-1, *[1] * (self.first.ndim - 1))
        return *_moments(self.first.sum(0) - self.first, self.second.sum(0) - self.second, left), counts


def _moments(first: Tensor, second: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    if bool(count.isinf().all()):
        return first, (second - first.square()).clamp(min=0)
    return first / count, ((second - first.square() / count) / (count - 1)).clamp(min=0)


def _figures(sums: _Sums, exact: Tensor) -> Figures:
    """Figures of parts of the gradient, averaged; `exact` [values, entries] says which parts."""
    found, squares = _statistics(*sums.whole(), sums.counts.sum(), exact), torch.zeros(5)
    if len(sums.counts) > 1:
        others = _statistics(*sums.without_each(), exact)
        squares = (others - others.mean(0)).square().sum(0) * (1 - 1 / len(others))
    figures = [Figure(value, error) for value, error in zip(found.tolist(), squares.sqrt().tolist(), strict=True)]
    figures[1] = _root(figures[1])
    return Figures(*figures)


def _statistics(bias: Tensor, variance: Tensor, count: Tensor, exact: Tensor) -> Tensor:
    """The five figures, [..., 5], the second of them squared, from moments [..., *logits] and counts [...]."""
    bias, variance = (moment.reshape(*count.shape, *exact.shape) for moment in (bias, variance))
    mean, spread = exact + bias, variance.sum(-1)
    bias_norm, mean_norm, exact_norm = (vector.norm(dim=-1) for vector in (bias, mean, exact))
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


def _enumerated(estimator: DrawDetermined, problem: _Problem) -> _Sums:
    """Sums over all joint states of the latents beneath a term."""
    first, second = torch.zeros_like(problem.exact), torch.zeros_like(problem.exact)
    for states in _parts(problem.states, WORKING_SET // max(1, problem.logits.numel())):
        drawn = _classes(states, problem)
        weights = _chances(drawn, problem)
        # A state that cannot be may have an infinite gradient, and 0 times that must be 0.
        deviations = torch.where(weights > 0, _gradient_through(estimator, problem, drawn) - problem.exact, 0)
        first += (weights * deviations).sum(0)
        second += (weights * deviations.square()).sum(0)
    return _Sums(first.unsqueeze(0), second.unsqueeze(0), torch.tensor([math.inf]))


def _gradient_through(estimator: DrawDetermined, problem: _Problem, drawn: Tensor) -> Tensor:
    """The estimator's gradient at given classes [states, ...], in each term's own logits."""
    leaf = problem.logits.expand(len(drawn), *problem.logits.shape).contiguous().requires_grad_()
    rows = categorical.rows(leaf)
    if rows.shape[-1] == 2:
        drawn = drawn.to(rows.dtype)
    draws = estimator.through(rows, drawn.to(rows.device), categorical.probabilities(rows))
    return _gradient(problem.terms(categorical.unrowed(draws, rows, leaf)), leaf)


def _classes(states: range, problem: _Problem) -> Tensor:
    """The class of every latent in the numbered joint states, [states, ...]."""
    shape, classes = problem.logits.shape[:-1], problem.logits.shape[-1]
    powers = torch.tensor([classes**power for power in reversed(range(math.prod(problem.joint)))], dtype=torch.int64)
    digits = torch.arange(states.start, states.stop).unsqueeze(-1) // powers % classes
    above = [1] * (len(shape) - len(problem.joint))
    return digits.reshape(len(states), *above, *problem.joint).expand(len(states), *shape).contiguous()


def _chances(drawn: Tensor, problem: _Problem) -> Tensor:
    """The probability of each joint state beneath each term, broadcastable to [states, *logits]."""
    probs = categorical.probabilities(problem.logits.cpu().double()).expand(*drawn.shape, -1)
    each = probs.gather(-1, drawn.unsqueeze(-1))
    above = each.shape[: each.ndim - 1 - len(problem.joint)]
    return each.reshape(*above, -1).prod(-1).view(*above, *[1] * (each.ndim - len(above)))


def _sampled(estimator: Estimator, problem: _Problem, draws: int, generator: Generator | None) -> _Sums:
    """Sums over independent estimates, in parts of as many each, or nearly so."""
    parts, largest = min(BATCHES, draws), WORKING_SET // max(1, problem.logits.numel() * estimator.evaluations)
    counts = [draws // parts + (part < draws % parts) for part in range(parts)]
    first, second = (torch.zeros(parts, *problem.exact.shape, dtype=torch.float64) for _ in range(2))
    for part, count in enumerate(counts):
        for some in _parts(count, largest):
            deviations = _estimates(estimator, problem, len(some), generator) - problem.exact.unsqueeze(1)
            first[part] += deviations.sum(1)
            second[part] += deviations.square().sum(1)
    return _Sums(first, second, torch.tensor(counts, dtype=torch.float64))


def _estimates(estimator: Estimator, problem: _Problem, count: int, generator: Generator | None) -> Tensor:
    """Independent estimates of the gradient, [batch, count, ...].

    Behind the axis of the batch, because an estimator may compare the values on the first axis.
    """
    leaf = problem.logits.unsqueeze(1).repeat(1, count, *[1] * (problem.logits.ndim - 1)).requires_grad_()
    cost = _wrapped(problem.cost, partial(_repeated, axes=leaf.ndim))
    return _gradient(estimator.expectation(leaf, cost, generator=generator), leaf)


def _gradient(values: Tensor, leaf: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
    return gradient.cpu().double()


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
