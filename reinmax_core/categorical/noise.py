"""Random numbers whose logarithms are finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from reinmax_core.categorical.arithmetic import pair


class Streams(torch.Generator):
    """A stream of random numbers for each part, along the first axis, of whatever is drawn.

    Part by part the numbers are those that its generator alone would give for the rest of the shape.

    Args:
        generators: one a part, of the same device.
    """

    generators: tuple[Generator, ...]

    def __new__(cls, generators: Sequence[Generator]) -> Streams:
        streams: Streams = super().__new__(cls, generators[0].device)  # type: ignore[call-arg]
        streams.generators = tuple(generators)
        return streams


def uniform(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) with device and dtype of `like`."""
    size = tuple(shape)
    if isinstance(generator, Streams):
        numbers = torch.empty(size, dtype=like.dtype, device=like.device)
        for part, stream in zip(numbers.unbind(), generator.generators, strict=True):
            part.uniform_(generator=stream)
        return numbers
    # The keyword is left out where it would be None: compilation with dynamic shapes refuses it.
    if generator is None:
        return torch.rand(size, dtype=like.dtype, device=like.device)
    return torch.rand(size, dtype=like.dtype, device=like.device, generator=generator)


def bits(shape: Sequence[int], device: torch.device, generator: Generator | None = None) -> Tensor:
    """Uniform integers of 31 bits."""
    numbers = torch.empty(tuple(shape), dtype=torch.int32, device=device)
    if not isinstance(generator, Streams):
        return numbers.random_(generator=generator)
    for part, stream in zip(numbers.unbind(), generator.generators, strict=True):
        part.random_(generator=stream)
    return numbers


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
