"""Random numbers whose logarithms are finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from reinmax_core.categorical.arithmetic import pair


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
