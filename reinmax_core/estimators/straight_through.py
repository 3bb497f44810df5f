"""Straight-through: the gradient of the probabilities in place of the draw's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import DrawDetermined

if TYPE_CHECKING:
    from torch import Tensor


@final
class StraightThrough(DrawDetermined):
    """Draws in the forward pass, softmax(logits / tau) in the backward pass.

    With tau = 1 the mean of the estimates is the exact gradient for a linear cost, and a first-order
    approximation (Euler's method) for others. Draws never depend on tau.

    Not for costs whose curvature matters: on a binary variable with a convex cost it settles at a
    probability inside (0, 1) even where a corner is best. `ReinMax` costs the same.

    Settings:
        tau (float, default 1.0, above 0, at most 1000): temperature of the backward pass; larger means less
            variance.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import StraightThrough
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> StraightThrough().sample(logits).backward(torch.tensor([3.0, 0.0, 0.0]))
        >>> [round(entry, 4) for entry in logits.grad.tolist()]  # p * g - p (p . g), whichever class was drawn
        [0.6667, -0.3333, -0.3333]

    Source: Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons
    for Conditional Computation", 2013, https://arxiv.org/abs/1308.3432.
    """

    name: Literal["straight_through"] = "straight_through"
    tau: float = Field(default=1.0, gt=0, le=1000)
    """Temperature of the backward pass; larger means less variance."""

    def through(self, logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        from reinmax_core import categorical, gradients

        soft = probs if self.tau == 1 else categorical.probabilities(logits, self.tau)
        return gradients.straight_through(logits, drawn, soft, self.tau)
