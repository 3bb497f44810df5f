"""Arithmetic on rows that overwrites where nothing else may see it, and on what several latents share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reinmax_core.categorical.rows import readable

SHORT = 32
"""Up to so many numbers a CPU sums up faster by a product with ones."""


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


def row_sums(terms: Tensor) -> Tensor:
    """Sums over the last axis, [..., 1]."""
    if terms.shape[-1] <= SHORT and terms.device.type == "cpu" and readable() and terms.is_contiguous():
        # A product with ones, where the reduction over so short an axis would take twice the time.
        ones = terms.new_ones(terms.shape[-1])
        return torch.mv(terms.view(-1, terms.shape[-1]), ones).view(*terms.shape[:-1], 1)
    return terms.sum(-1, keepdim=True)


def sum_beneath(terms: Tensor, axes: int) -> Tensor:
    """Terms [..., n] summed over all axes after the first so many, as the latents beneath a value."""
    return terms.flatten(axes).sum(-1) if terms.ndim > axes else terms


def above(values: Tensor, terms: Tensor) -> Tensor:
    """Values with axes of length 1 appended, so that each stands above the terms [..., n] beneath it."""
    return values.reshape(*values.shape, *[1] * (terms.ndim - values.ndim))


def mean_of_others(samples: Tensor) -> Tensor:
    """For each of K > 1 samples [K, ...] the mean of the K - 1 others."""
    return (samples.sum(0) - samples) / (len(samples) - 1)


def matrix_product(first: Tensor, second: Tensor) -> Tensor:
    """`first @ second` in their own type, also where autocast would have products in half precision."""
    if not torch.amp.is_autocast_available(first.device.type):
        return first @ second
    with torch.autocast(first.device.type, enabled=False):
        return first @ second
