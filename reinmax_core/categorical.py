"""Categorical distributions with their classes on the last axis: checked logits, probabilities, draws and noise.

A *row* is one distribution. A draw is kept as the number of the drawn class, an integer; where there are
two classes it is 0 or 1 in the type of the logits, so that what depends on it is arithmetic: a choice
between two tensors by random booleans costs a CPU as much as drawing them. Nothing here draws one random
number per class where one per row will do, because random numbers are what a draw costs most of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

FEW_CLASSES = 32
"""Up to so many classes, a CPU is faster at a softmax over the first axis than over the last one."""


class NoDistribution(ValueError):
    """A row of logits holds NaN or +inf, or -inf alone, as after a step that made the parameters so."""


def rows(logits: Tensor, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """Logits with the classes on the last axis, at least float32, masked classes at -inf.

    On accelerators, where reading values takes waiting, and inside `torch.compile` and the transforms of
    `torch.func`, where they cannot be read, rows are not checked for values; `unrowed` then turns the
    draws of impossible rows into NaN.

    Raises:
        ValueError: `logits` has no floating-point type, no axis `dim` or no class on it, the mask does not
            fit, or a row holds NaN or +inf or has every class masked or at -inf.
    """
    _check_form(logits, dim)
    if mask is not None:
        logits = logits.masked_fill(~_fitting(mask, logits), float("-inf"))
    by_class = logits if dim in (-1, logits.ndim - 1) else logits.movedim(dim, -1)
    if by_class.dtype in (torch.float16, torch.bfloat16):
        by_class = by_class.float()
    if _has_checked_values(by_class):
        _check_values(distinct(by_class.detach()))
    return by_class


def unrowed(draws: Tensor, checked: Tensor, logits: Tensor, dim: int = -1) -> Tensor:
    """One-hot draws [..., n] with axis and dtype of `logits`; `checked` are their rows.

    Draws may have leading axes that `logits` lacks.
    """
    if not _has_checked_values(checked):
        draws = draws + 0 * distinct(checked.detach()).amax(-1, keepdim=True)
    axis = dim - logits.ndim if dim >= 0 else dim
    return (draws if axis == -1 else draws.movedim(-1, axis)).to(logits.dtype)


def readable() -> bool:
    """Whether the values of tensors may be looked at: not while torch compiles or transforms the code."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def distinct(by_class: Tensor) -> Tensor:
    """The rows without the repetitions that `expand` made: axes of stride 0 are cut to length 1.

    A derivative that passes through here reaches a repeated row as one sum at its first copy, which is the
    same once the repetitions are added up. Only second derivatives of draws do; what takes first ones
    through its probabilities makes the rows contiguous before.
    """
    if readable():
        for axis, stride in enumerate(by_class.stride()[:-1]):
            if stride == 0 and by_class.shape[axis] > 1:
                by_class = by_class.narrow(axis, 0, 1)
    return by_class


def probabilities(by_class: Tensor, tau: float = 1.0) -> Tensor:
    """softmax(logits / tau), broadcastable to the logits: rows that `expand` repeated are computed once."""
    by_class = distinct(by_class)
    classes = by_class.shape[-1]
    if classes == 2:
        difference = by_class[..., 0] - by_class[..., 1]
        tempered = difference if tau == 1 else difference / tau
        return pair(tempered, -tempered).sigmoid()
    if tau < 1:
        # Differences from the largest logit stay finite or go to -inf, however small tau is.
        by_class = by_class - by_class.detach().amax(-1, keepdim=True)
    if tau != 1:
        by_class = by_class / tau
    if classes <= FEW_CLASSES and by_class.device.type == "cpu":
        return by_class.movedim(-1, 0).softmax(0).movedim(0, -1).contiguous()
    return by_class.softmax(-1)


def log_probabilities(by_class: Tensor) -> Tensor:
    """log softmax(logits), with its ordinary gradient."""
    if by_class.shape[-1] <= FEW_CLASSES and by_class.device.type == "cpu":
        return by_class.movedim(-1, 0).log_softmax(0).movedim(0, -1)
    return by_class.log_softmax(-1)


def draw(probs: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """The class drawn for each row of `shape` [..., n], from probabilities broadcastable to it; [...].

    A class of probability 0 is never drawn. One uniform number per row and the inverse of the cumulative
    distribution; on an accelerator, where parallel sums need not be monotone, an exponential race.
    """
    probs = probs.detach()
    if probs.shape[-1] == 2:
        return (uniform(shape[:-1], probs, generator) >= probs[..., 0]).to(probs.dtype)
    if probs.device.type != "cpu":
        return race(probs, shape, generator)
    cumulative = probs.cumsum(-1).expand(*shape).contiguous()
    threshold = uniform((*shape[:-1], 1), probs, generator) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=shape[-1] - 1)


def race(probs: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """As `draw`: the class whose exponential clock, of rate its probability, rings first."""
    return (probs / exponential(shape, probs, generator)).argmax(-1)


def largest(by_class: Tensor) -> Tensor:
    """The class of the largest entry of each row, the first one among equals; [...]."""
    if by_class.shape[-1] == 2:
        return (by_class[..., 1] > by_class[..., 0]).to(by_class.dtype)
    return by_class.argmax(-1)


def one_hot(drawn: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Drawn classes [...] as exact one-hot rows [..., classes]."""
    if classes == 2 and readable():
        hot = drawn.new_empty((*drawn.shape, 2), dtype=dtype)
        torch.complex(1 - drawn, drawn, out=torch.view_as_complex(hot))  # as in `pair`, but not a view of anything
        return hot
    if classes == 2:
        return torch.stack((1 - drawn, drawn), -1)
    return put(drawn.new_zeros((*drawn.shape, classes), dtype=dtype), -1, drawn.unsqueeze(-1), 1)


def put(target: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """`target`, which nothing else may use, with `value` at `index` along `dim`."""
    # In place only where `index` cannot have an axis of torch.vmap that `target` lacks.
    return (target.scatter_ if readable() else target.scatter)(dim, index, value)


def subtract_at(target: Tensor, drawn: Tensor, amount: Tensor) -> Tensor:
    """`target` [..., n], which nothing else may use, less `amount` [..., 1] at the classes `drawn` [..., 1]."""
    return (target.scatter_add_ if readable() else target.scatter_add)(-1, drawn, -amount)


def at_drawn(drawn: Tensor, zero: Tensor, one: Tensor) -> Tensor:
    """`zero` where class 0 of two was drawn, `one` where class 1 was, both without rounding."""
    return torch.lerp(zero, one, drawn)


def pair(first: Tensor, second: Tensor) -> Tensor:
    """Two columns [...] side by side, [..., 2]."""
    if torch.compiler.is_compiling():
        return torch.stack((first, second), -1)
    # Complex numbers have this very layout, and are made several times faster on a CPU.
    return torch.view_as_real(torch.complex(first, second))


def sample(by_class: Tensor, generator: Generator | None = None) -> Tensor:
    """One-hot draws of the shape of the logits, through which no gradient passes."""
    drawn = draw(probabilities(by_class.detach()), by_class.shape, generator)
    return one_hot(drawn, by_class.shape[-1], by_class.dtype)


def one_hot_draws(probs: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
    """Independent one-hot draws [samples, ..., n] from probabilities [..., n]."""
    drawn = draw(probs, (samples, *probs.shape), generator)
    return one_hot(drawn, probs.shape[-1], probs.dtype)


def uniform(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) with device and dtype of `like`."""
    size = tuple(shape)
    # The keyword is left out where it would be None: compilation with dynamic shapes refuses it.
    if generator is None:
        return torch.rand(size, dtype=like.dtype, device=like.device)
    return torch.rand(size, dtype=like.dtype, device=like.device, generator=generator)


def inner_uniform(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform numbers strictly between 0 and 1, so that all logarithms of them are finite and below 0."""
    return squeeze_inside_(uniform(shape, like, generator))


def squeeze_inside_(u: Tensor) -> Tensor:
    """Numbers of [0, 1) moved, in place, by no more than the spacing of `uniform`, into (0, 1)."""
    spacing = torch.finfo(u.dtype).eps / 2
    return u.mul_(1 - spacing).add_(spacing)


def exponential(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Exp(1) numbers, above 0 and finite."""
    return inner_uniform(shape, like, generator).log_().neg_()


def gumbel(by_class: Tensor, generator: Generator | None = None) -> Tensor:
    """Finite noise of the shape of the logits whose differences are those of Gumbel(0, 1) numbers.

    Only differences count in a softmax and in an argmax, so two classes need a single logistic number.
    """
    if by_class.shape[-1] == 2:
        logistic = inner_uniform(by_class.shape[:-1], by_class, generator).logit_()
        return pair(logistic, torch.zeros_like(logistic))
    return exponential(by_class.shape, by_class, generator).log_().neg_()


def beneath(values: Sequence[int], draws: Sequence[int]) -> tuple[int, ...]:
    """The axes of draws [..., n] that share one value of a cost, by their lengths, from the two shapes.

    Raises:
        ValueError: the values' shape is no leading part of the draws' without their classes.
    """
    rows_shape = tuple(draws[:-1])
    if tuple(values) != rows_shape[: len(values)]:
        raise ValueError(
            f"a cost must give values whose shape is a leading part of {rows_shape}, the shape of the draws without "
            f"their classes, but gave {tuple(values)}; sum or average trailing axes, and leave the leading ones"
        )
    return rows_shape[len(values) :]


def sum_beneath(terms: Tensor, axes: int) -> Tensor:
    """Terms [..., n] summed over all axes after the first so many, as the latents beneath a value."""
    return terms.flatten(axes).sum(-1) if terms.ndim > axes else terms


def above(values: Tensor, terms: Tensor) -> Tensor:
    """Values with axes of length 1 appended, so that each stands above the terms [..., n] beneath it."""
    return values.reshape(*values.shape, *[1] * (terms.ndim - values.ndim))


def mean_of_others(samples: Tensor) -> Tensor:
    """For each of K > 1 samples [K, ...] the mean of the K - 1 others."""
    return (samples.sum(0) - samples) / (len(samples) - 1)


def jacobian_product(probs: Tensor, vectors: Tensor) -> Tensor:
    """J(p) v = p * (v - p . v), the derivative of a softmax at probabilities p times v, [..., n]."""
    weighted = probs * (vectors - vectors[..., :1])
    return weighted - probs * weighted.sum(-1, keepdim=True)


def _check_form(logits: Tensor, dim: int) -> None:
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating-point numbers, got {logits.dtype}; convert them, as with .float()")
    if not -logits.ndim <= dim < logits.ndim:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} have no axis {dim} for the classes; "
            f"pass dim= as the axis that holds them"
        )
    if logits.shape[dim] == 0:
        raise ValueError(
            f"logits must have at least one class, but axis {dim} of shape {tuple(logits.shape)} is empty; "
            f"pass dim= as the axis that holds the classes"
        )


def _fitting(mask: Tensor, logits: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, True where a class may be drawn, got {mask.dtype}; compare it with 0")
    try:
        return mask.expand(logits.shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask must be broadcastable to logits of shape {tuple(logits.shape)}, got {tuple(mask.shape)}; "
            f"give it an axis of length 1 where it is the same for all"
        ) from error


def _has_checked_values(by_class: Tensor) -> bool:
    # To read a value off an accelerator would make the program wait for it at every draw.
    return readable() and by_class.device.type == "cpu"


def _check_values(by_class: Tensor) -> None:
    # A finite sum shows in one pass that every entry is finite; only otherwise each row is looked at.
    if not math.isfinite(by_class.sum()):
        peaks = by_class.amax(-1)
        if not bool(peaks.isfinite().all()):
            place = tuple(int(axis) for axis in peaks.isfinite().logical_not().nonzero()[0])
            raise _complaint(float(peaks[place]), place)


def _complaint(peak: float, place: tuple[int, ...]) -> NoDistribution:
    if peak == float("-inf"):
        return NoDistribution(
            f"every row of logits needs a class that can be drawn, but row {place} has all of them masked or at -inf; "
            f"leave at least one unmasked, or drop the row"
        )
    return NoDistribution(
        f"logits must be finite, or -inf for a class that is never drawn, but row {place} holds {peak}; "
        f"look for a diverged loss or too high a learning rate"
    )
