"""Draws: the number of the drawn class of each row, and its one-hot form.

Nothing here draws one random number per class where one or two per row will do, because random numbers are
what a draw costs most of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from reinmax_core.categorical.arithmetic import put
from reinmax_core.categorical.noise import bits, uniform
from reinmax_core.categorical.rows import readable
from reinmax_core.categorical.softmax import FEW_CLASSES, probabilities

ONE_IN_HALF = {torch.bfloat16: 0x3F80, torch.float16: 0x3C00}
"""The bits of the number 1."""


def draw(probs: Tensor, shape: Sequence[int], generator: Generator | None = None) -> Tensor:
    """The class drawn for each row of `shape` [..., n], from probabilities broadcastable to it; [...].

    A class of probability 0 is never drawn, and every other one at its rate. On a CPU that is met to 5e-10 (of
    two classes to 6e-8 in single precision where the code is compiled or transformed), and beyond
    `FEW_CLASSES`, where sums of probabilities have the type of these, to about 1e-6 of the rate besides. An
    inverse of the cumulative distribution; on an accelerator, where parallel sums need not be monotone, an
    exponential race, unless there are two classes.
    """
    probs, classes = probs.detach(), shape[-1]
    if classes == 2:
        return _second_of_two(probs, shape, generator)
    if probs.device.type != "cpu":
        return race(probs, shape, generator)
    if classes <= FEW_CLASSES:
        return _located(probs, shape, generator).squeeze(-1)
    return _located_in_block(probs, shape, generator)


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
    hot = drawn.new_zeros((*drawn.shape, classes), dtype=dtype)
    if dtype in ONE_IN_HALF and readable():
        # As integers of the same size, which are put faster one by one than numbers in half precision.
        put(hot.view(torch.int16), -1, drawn.unsqueeze(-1), ONE_IN_HALF[dtype])
        return hot
    return put(hot, -1, drawn.unsqueeze(-1), 1)


def sample(by_class: Tensor, generator: Generator | None = None) -> Tensor:
    """One-hot draws of the shape of the logits, through which no gradient passes."""
    drawn = draw(probabilities(by_class.detach()), by_class.shape, generator)
    return one_hot(drawn, by_class.shape[-1], by_class.dtype)


def one_hot_draws(probs: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
    """Independent one-hot draws [samples, ..., n] from probabilities [..., n]."""
    drawn = draw(probs, (samples, *probs.shape), generator)
    return one_hot(drawn, probs.shape[-1], probs.dtype)


def _second_of_two(probs: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    # The rarer class is drawn where a uniform number is below its probability, which has all its digits.
    first, second = probs.unbind(-1)
    rarer = torch.minimum(first, second)
    if readable() and probs.dtype == torch.float32:
        # 31 random bits, at the price of the 24 of a uniform number.
        # As integers: a comparison in single precision would round the bits to 24 again.
        rare = bits(shape[:-1], probs.device, generator) < (rarer * 2.0**31).ceil_().int()
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
    return _counted(cumulative, threshold, shape)


def _counted(cumulative: Tensor, threshold: Tensor, shape: Sequence[int]) -> Tensor:
    """How many of the cumulative weights, which nothing else may use, are no greater than the threshold, [..., 1]."""
    # Counting costs a CPU less than a search, whose every comparison it mispredicts; and a product with ones
    # less than a sum over so short an axis.
    if not readable():
        return (cumulative <= threshold).sum(-1, keepdim=True).clamp(max=shape[-1] - 1)
    passed = cumulative.le_(threshold) if cumulative.shape == tuple(shape) else (cumulative <= threshold).double()
    return torch.mv(passed.view(-1, shape[-1]), passed.new_ones(shape[-1])).long().view(*shape[:-1], 1)


def _located_in_block(probs: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    """The class [...], from a block of neighbouring classes drawn first: nothing of the size of the rows is written."""
    width = _block_width(shape[-1])
    sums = _block_sums(probs, width)
    block = _located(sums, (*shape[:-1], sums.shape[-1]), generator)
    weights = _blocks(probs, block, width)
    located: Tensor = block * width + _located(weights, weights.shape, generator)
    return located.squeeze(-1)


def _block_width(classes: int) -> int:
    """A power of 2 near the square root."""
    # By comparisons, so that what is compiled for any number of classes holds for all that share a width.
    width = 1
    while 2 * width * width < classes:
        width *= 2
    return width


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
    whole, rest = probs.shape[-1] // width, probs.shape[-1] % width
    if not rest and readable():
        # A product with ones, where the reduction over so short an axis would take twice the time.
        total: Tensor = torch.mv(probs.reshape(-1, width), probs.new_ones(width))
        return total.view(*probs.shape[:-1], whole)
    sums: Tensor = probs[..., : whole * width].unflatten(-1, (whole, width)).sum(-1)  # type: ignore[no-untyped-call]
    return torch.cat((sums, probs[..., whole * width :].sum(-1, keepdim=True)), -1) if rest else sums
