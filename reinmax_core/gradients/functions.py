"""Functions of autograd, called with types; what all draws share, and one that refuses a second derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from reinmax_core import categorical
from reinmax_core.categorical import apply


def constant(logits: Tensor, gradient: Tensor, remedy: str) -> Tensor:
    """`gradient`, whose derivative with respect to the logits is refused.

    Raises:
        RuntimeError: when it is differentiated; the message ends with the remedy.
    """
    # Compiled code is never differentiated twice.
    return gradient if torch.compiler.is_compiling() else apply(_Constant, logits, gradient, remedy)


class Draw(Function):
    """A one-hot draw in the forward pass; subclasses say what passes backward.

    Neither logits nor output are kept, so both may be changed in place afterwards.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, drawn: Tensor, *coefficients: Any) -> Tensor:
        return categorical.one_hot(drawn, logits.shape[-1], logits.dtype)


class TemperedDraw(Draw):
    """One that keeps its first coefficient, and the temperature that comes after it."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])
        ctx.tau = inputs[3]


class _Constant(Function):
    """Passes `values` on and refuses the derivative that they would need with respect to the logits."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, values: Tensor, remedy: str) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.remedy = inputs[2]

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[None, None, None]:
        if g is None:
            return None, None, None
        raise RuntimeError(f"the gradient has no derivative of its own: {ctx.remedy}")
