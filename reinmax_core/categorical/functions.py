"""Functions of autograd, called with types and at once."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.autograd import Function

from reinmax_core.categorical.rows import readable


def apply(function: type[Function], *arguments: Tensor | float | str | tuple[int, ...] | None) -> Tensor:
    """What the function gives for the arguments, which are all that it takes: a single tensor."""
    if readable():
        # What `Function.apply` itself comes to, without looking up the names of the arguments at every call,
        # which takes as long as several small operations.
        return cast(Tensor, super(Function, function).apply(*arguments))  # type: ignore[misc]
    return cast(Tensor, function.apply(*arguments))  # type: ignore[no-untyped-call]
