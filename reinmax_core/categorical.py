"""Categorical distributions with their classes on the last axis: checked logits, probabilities, draws and noise.

A *row* is one distribution. A draw is kept as the number of the drawn class, an integer; where there are
two classes it is 0 or 1 in the type of the logits, so that what depends on it is arithmetic: a choice
between two tensors by random booleans costs a CPU as much as drawing them. Nothing here draws one random
number per class where one per row will do, because random numbers are what a draw costs most of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.autograd import Function

FEW_CLASSES = 32
"""Up to so many classes, a CPU is faster at a softmax over the first axis than over the last one."""


class NoDistribution(ValueError):
    """A row of logits holds NaN or +inf, or -inf alone, as after a step that made the parameters so."""


def rows(logits: Tensor, dim: int = -1, mask: Tensor | None = None) -> Tensor:
    """Logits with the classes on the last axis and masked classes at -inf.

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


def wide(by_class: Tensor) -> Tensor:
    """Rows in the type in which they are computed with: float32 for half precision, otherwise their own."""
    return by_class.float() if by_class.dtype in (torch.float16, torch.bfloat16) else by_class


def is_one(tau: float | Tensor) -> bool:
    """Whether a temperature changes nothing; one that is a tensor may."""
    return not isinstance(tau, Tensor) and tau == 1


def probabilities(by_class: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    """softmax(logits / tau), broadcastable to the logits: rows that `expand` repeated are computed once.

    A tau for each row is a tensor that can be broadcast to the logits and has a single entry on the last axis.
    """
    by_class = wide(distinct(by_class))
    if isinstance(tau, Tensor) or tau < 1:
        # Differences from the largest logit stay finite or go to -inf, however small tau is.
        by_class = by_class - by_class.detach().amax(-1, keepdim=True)
    if not is_one(tau):
        by_class = by_class / tau
    if by_class.shape[-1] == 2 or (by_class.shape[-1] <= FEW_CLASSES and by_class.device.type == "cpu"):
        return cast(Tensor, _SoftmaxOfFew.apply(by_class))  # type: ignore[no-untyped-call]
    return by_class.softmax(-1)


class _SoftmaxOfFew(Function):
    """A softmax taken over the first axis, of which the result alone is kept, in the layout of the rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(by_class: Tensor) -> Tensor:
        if by_class.shape[-1] == 2:
            difference = by_class[..., 0] - by_class[..., 1]
            return pair(difference, -difference).sigmoid()
        return by_class.movedim(-1, 0).softmax(0).movedim(0, -1).contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Mostly nothing arrives, as operators of `gradients` only have derivatives with respect to probabilities
        # where they are differentiated twice.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> Tensor | None:
        return None if g is None else jacobian_product(ctx.saved_tensors[0], g)


def row_temperatures(tau: float | Tensor, logits: Tensor, dim: int, least: float) -> float | Tensor:
    """A temperature, or one for each row [..., 1] with the classes' axis last.

    Raises:
        ValueError: one is below `least` (looked for as values are by `rows`), or the tensor requires a
            gradient, which no temperature gets, or has another shape than the rows of the logits.
    """
    if not isinstance(tau, torch.Tensor):
        return _at_least(tau, least)
    if tau.requires_grad:
        raise ValueError("tau requires a gradient, but no gradient passes to a temperature; pass tau.detach()")
    if tau.ndim not in (0, logits.ndim) or (tau.ndim and tau.shape[dim] != 1):
        raise ValueError(
            f"tau must be a number, or a tensor that can be broadcast to logits of shape {tuple(logits.shape)} with "
            f"length 1 on axis {dim}, got shape {tuple(tau.shape)}; use tau.unsqueeze({dim})"
        )
    if _has_checked_values(tau) and tau.numel() and not bool((tau >= least).all()):
        _at_least(tau.min().item(), least)
    return tau.movedim(dim, -1) if tau.ndim else tau


def _at_least(tau: float, least: float) -> float:
    if not tau >= least:
        raise ValueError(
            f"ReinMax needs a temperature (tau) of at least {least}, got {tau}; pass tau=1.0, which has the least bias"
        )
    return tau


def log_probabilities(by_class: Tensor) -> Tensor:
    """log softmax(logits), with its ordinary gradient."""
    by_class = wide(by_class)
    if by_class.shape[-1] <= FEW_CLASSES and by_class.device.type == "cpu":
        return by_class.movedim(-1, 0).log_softmax(0).movedim(0, -1)
    return by_class.log_softmax(-1)


def draw(probs: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """The class drawn for each row of `shape` [..., n], from probabilities broadcastable to it; [...].

    A class of probability 0 is never drawn, and one of 1e-12 as often as it should. An inverse of the
    cumulative distribution; on an accelerator, where parallel sums need not be monotone, an exponential race.
    """
    probs, classes = probs.detach(), shape[-1]
    if classes == 2:
        return _second_of_two(probs, shape, generator)
    if probs.device.type != "cpu":
        return race(probs, shape, generator)
    if classes <= FEW_CLASSES:
        return _located(probs, shape, generator).squeeze(-1)
    return _located_in_block(probs, shape, generator)


def _second_of_two(probs: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    # The rarer class is drawn where a uniform number is below its probability, which has all its digits.
    first, second = probs.unbind(-1)
    rarer = torch.minimum(first, second)
    if readable() and probs.dtype == torch.float32:
        # 31 random bits, at the price of the 24 of a uniform number.
        bits = torch.empty(tuple(shape[:-1]), dtype=torch.int32, device=probs.device).random_(generator=generator)
        rare = bits < rarer * 2.0**31
    else:
        rare = uniform(shape[:-1], probs, generator) < rarer
    return torch.ne(rare, second > first).to(probs.dtype)


def _located(weights: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    """The class [..., 1] drawn in proportion to weights broadcastable to `shape` [..., n]."""
    cumulative = weights.to(torch.float64, copy=True)
    cumulative = cumulative.cumsum_(-1) if readable() else cumulative.cumsum(-1)
    # The total is lowered by a rounding, so that the threshold is below it and the last class one with a weight.
    total = cumulative[..., -1:] * (1 - torch.finfo(torch.float64).eps)
    threshold = uniform((*shape[:-1], 1), cumulative, generator) * total
    # Counting costs a CPU less than a search, whose every comparison it mispredicts.
    passed = (cumulative <= threshold).sum(-1, keepdim=True, dtype=torch.int32)
    return passed.clamp(max=shape[-1] - 1).long()


def _located_in_block(probs: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    """The class [...], from a block of neighbouring classes drawn first: nothing of the size of the rows is written."""
    width = 2 ** round(math.log2(shape[-1]) / 2)
    sums = _block_sums(probs, width)
    block = _located(sums, (*shape[:-1], sums.shape[-1]), generator)
    weights = _blocks(probs, block, width)
    located: Tensor = block * width + _located(weights, weights.shape, generator)
    return located.squeeze(-1)


def _blocks(probs: Tensor, block: Tensor, width: int) -> Tensor:
    """The probabilities [..., width] in the blocks [..., 1], 0 where the last one has fewer."""
    classes = probs.shape[-1]
    if classes % width == 0 and readable():
        whole = torch.arange(probs.numel() // classes, device=probs.device).view(*probs.shape[:-1], 1)
        numbers = (whole * (classes // width) + block).flatten()
        return probs.reshape(-1, width).index_select(0, numbers).view(*block.shape[:-1], width)
    within = block * width + torch.arange(width, device=probs.device)
    weights = probs.expand(*block.shape[:-1], classes).gather(-1, within.clamp(max=classes - 1))
    return weights.masked_fill(within >= classes, 0)


def _block_sums(probs: Tensor, width: int) -> Tensor:
    """Sums of `width` classes each, of fewer in the last one."""
    whole, rest = divmod(probs.shape[-1], width)
    if not rest and readable():
        # A product with ones, where the reduction over so short an axis would take twice the time.
        total: Tensor = torch.mv(probs.reshape(-1, width), probs.new_ones(width))
        return total.view(*probs.shape[:-1], whole)
    sums: Tensor = probs[..., : whole * width].unflatten(-1, (whole, width)).sum(-1)  # type: ignore[no-untyped-call]
    return torch.cat((sums, probs[..., whole * width :].sum(-1, keepdim=True)), -1) if rest else sums


def race(probs: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """As `draw`: the class whose exponential clock, of rate its probability, rings first."""
    u = uniform(shape, probs, generator)
    # -log(1 - u) is finest near 0, as uniform numbers are, so that clocks of tiny rate win as often as they should.
    ringing = torch.where(u > 0, u, 1 - torch.finfo(u.dtype).eps / 2).neg_().log1p_().neg_()
    return (probs / ringing).argmax(-1)


def largest(by_class: Tensor) -> Tensor:
    """The class of the largest entry of each row, the first one among equals; [...]."""
    if by_class.shape[-1] == 2:
        return (by_class[..., 1] > by_class[..., 0]).to(by_class.dtype)
    return by_class.argmax(-1)


def one_hot(drawn: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Drawn classes [...] as exact one-hot rows [..., classes]."""
    if classes == 2 and readable() and drawn.dtype == dtype and dtype in (torch.float32, torch.float64):
        hot = drawn.new_empty((*drawn.shape, 2), dtype=dtype)
        torch.complex(1 - drawn, drawn, out=torch.view_as_complex(hot))  # as in `pair`, but not a view of anything
        return hot
    if classes == 2:
        return torch.stack((1 - drawn, drawn), -1).to(dtype)
    return put(drawn.new_zeros((*drawn.shape, classes), dtype=dtype), -1, drawn.unsqueeze(-1), 1)


def put(target: Tensor, dim: int, index: Tensor, value: float | Tensor) -> Tensor:
    """`target`, which nothing else may use, with `value` at `index` along `dim`."""
    # In place only where `index` cannot have an axis of torch.vmap that `target` lacks, and no derivative is taken.
    in_place = readable() and not target.requires_grad
    return (target.scatter_ if in_place else target.scatter)(dim, index, value)


def subtract_at(target: Tensor, drawn: Tensor, amount: Tensor) -> Tensor:
    """`target` [..., n], which nothing else may use, less `amount` [..., 1] at the classes `drawn` [..., 1]."""
    # Not scatter_add, which an accelerator does in an order of its own.
    return put(target, -1, drawn, target.gather(-1, drawn) - amount)


def times(product: Tensor, factor: Tensor | float) -> Tensor:
    """`product`, which nothing else may use, times `factor`."""
    return product.mul_(factor) if _may_overwrite() else product * factor


def less(difference: Tensor, subtrahend: Tensor, share: float) -> Tensor:
    """`difference`, which nothing else may use, less `share` times `subtrahend`."""
    return difference.sub_(subtrahend, alpha=share) if _may_overwrite() else difference - share * subtrahend


def less_product(difference: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`difference`, which nothing else may use, less `first` times `second`."""
    if _may_overwrite():
        return difference.addcmul_(first, second, value=-1)
    return torch.addcmul(difference, first, second, value=-1)


def _may_overwrite() -> bool:
    # Not where another tensor may have an axis of torch.vmap that the first lacks, nor where a derivative may want it.
    return readable() and not torch.is_grad_enabled()


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


def matrix_product(first: Tensor, second: Tensor) -> Tensor:
    """`first @ second` in their own type, also where autocast would have products in half precision."""
    if not torch.amp.is_autocast_available(first.device.type):
        return first @ second
    with torch.autocast(first.device.type, enabled=False):
        return first @ second


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
