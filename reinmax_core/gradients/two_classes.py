"""Operators of two classes, each of which is one coefficient: symmetric, and 0 for constants.

Symbols as in `operators`; what passes backward is slope (g_0 - g_1) (1, -1).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reinmax_core import categorical
from reinmax_core.gradients.functions import Draw, TemperedDraw


class Coefficient(TemperedDraw):
    """Any operator, by its coefficient times tau."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return _along(slope / ctx.tau, g), None, None, None


class StraightThrough(TemperedDraw):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (soft,) = ctx.saved_tensors
        return _along(soft[..., 0] * soft[..., 1] / ctx.tau, g), None, None, None


class ReinMax(Draw):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:4])
        ctx.weight = inputs[4]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        drawn, probs, tempered = ctx.saved_tensors
        # q_0 q_1 + w (q_other^2 - p_0 p_1), which for tau = 1 and w = 1/2 is p_other / 2
        p_0, p_1 = probs.unbind(-1)
        if tempered is None and ctx.weight == 0.5:
            slope = categorical.times(categorical.at_drawn(drawn, p_1, p_0), 0.5)
        else:
            q_0, q_1 = (p_0, p_1) if tempered is None else tempered.unbind(-1)
            slope = q_0 * q_1 + ctx.weight * (categorical.at_drawn(drawn, q_1, q_0).square() - p_0 * p_1)
        return _along(slope, g), None, None, None, None


def _along(slope: Tensor, g: Tensor) -> Tensor:
    """slope (g_0 - g_1) (1, -1)."""
    g_0, g_1 = categorical.wide(g).unbind(-1)
    difference = categorical.times(g_0 - g_1, slope)
    return categorical.pair(difference, -difference).to(g.dtype)
