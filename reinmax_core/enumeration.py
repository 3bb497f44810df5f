"""Exact expectations over categorical variables, by the sum over all that can be drawn.

Draws are constants here, so differentiating the sum of probability times cost gives the exact gradient
with respect to the logits, and the probability-weighted one with respect to all else that a cost uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from reinmax_core import categorical

WORKING_SET = 2**22
"""Numbers in the draws that a cost is called with at a time."""


class TooManyStates(ValueError):
    """An enumeration was asked for that is longer than its limit."""

    def __init__(self, classes: int, latents: int, limit: int) -> None:
        super().__init__(
            f"exact enumeration is limited to {limit} states, but {latents} latents of {classes} classes beneath one "
            f"value have {classes}^{latents}; raise max_states, let the cost give a value for fewer latents, or "
            f"choose an estimator that draws, such as 'rloo'"
        )


def separate(probs: Tensor, terms: Callable[[Tensor], Tensor]) -> Tensor:
    """E[terms(z)] for each latent by itself, [...], where terms maps draws [n, ..., n] to [n, ...]."""
    classes = probs.shape[-1]
    each_class = torch.eye(classes, dtype=probs.dtype, device=probs.device)
    draws = each_class.view(classes, *[1] * (probs.ndim - 1), classes).expand(classes, *probs.shape)
    return _weighted(probs.movedim(-1, 0), terms(draws))


def joint(probs: Tensor, cost: Callable[[Tensor], Tensor], max_states: int) -> Tensor:
    """E[cost(z)] where each value is joint in all the latents beneath it.

    Args:
        probs: probabilities [..., n].
        cost: maps draws [states, ..., n] to values [states, ...], one for a leading part of the axes.
        max_states: the most states that the latents beneath a value may have.

    Raises:
        TooManyStates: they have more.
    """
    # The first state is evaluated by itself: the shape of its value says which latents are joint.
    first = cost(_draws(range(1), probs, ()))
    shape = categorical.beneath(first.shape, (1, *probs.shape))
    latents, classes = math.prod(shape), probs.shape[-1]
    if classes**latents > max_states:
        raise TooManyStates(classes, latents, max_states)
    weights = _joint_probabilities(probs.reshape(*first.shape[1:], latents, classes))
    chunks = tuple(_chunks(len(weights), probs.numel()))

    def contribution(chunk: range) -> Tensor:
        return _weighted(weights[chunk.start : chunk.stop], cost(_draws(chunk, probs, shape)))

    total = _weighted(weights[:1], first)
    for chunk in chunks:
        # With several chunks, what one needs for its backward pass is computed again then: memory stays bounded.
        total = total + (contribution(chunk) if len(chunks) == 1 else _recomputed(contribution, chunk))
    return total


def _recomputed(contribution: Callable[[range], Tensor], chunk: range) -> Tensor:
    return cast(Tensor, checkpoint(contribution, chunk, use_reentrant=False))


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    # A masked class may have an infinite cost, and 0 times that must be 0.
    return (weights * torch.where(weights > 0, values, 0)).sum(0)


def _joint_probabilities(probs: Tensor) -> Tensor:
    """Products over latents [..., L, n] for all joint states, [n^L, ...]; the last latent varies fastest."""
    weights = probs.new_ones((*probs.shape[:-2], 1))
    for latent in probs.unbind(-2):
        weights = (weights.unsqueeze(-1) * latent.unsqueeze(-2)).flatten(-2)
    return weights.movedim(-1, 0)


def _draws(states: range, probs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One-hot draws [states, *shape of probs] of the numbered joint states of latents of that shape."""
    classes, device = probs.shape[-1], probs.device
    powers = [classes**power for power in reversed(range(math.prod(shape)))]
    numbers = torch.arange(states.start, states.stop, device=device).unsqueeze(-1)
    digits = numbers // torch.tensor(powers, device=device, dtype=torch.int64) % classes
    one_hot = torch.eye(classes, dtype=probs.dtype, device=device)[digits]
    leading = [1] * (probs.ndim - 1 - len(shape))
    return one_hot.reshape(len(states), *leading, *shape, classes).expand(len(states), *probs.shape)


def _chunks(states: int, numbers_each: int) -> Iterator[range]:
    """All states but the first, in ranges whose draws are of bounded size."""
    # By comparisons, so that what is compiled for any number of rows holds for all that share a size.
    size = states
    while size > 1 and size * numbers_each > WORKING_SET:
        size = (size + 1) // 2
    for start in range(1, states, size):
        yield range(start, min(start + size, states))
