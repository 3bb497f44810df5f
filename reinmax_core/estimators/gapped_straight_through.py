"""Gapped straight-through: relaxed draws that agree with the draw, without Gumbel noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import DrawDetermined

if TYPE_CHECKING:
    from torch import Tensor


@final
class GappedStraightThrough(DrawDetermined):
    """Draws in the forward pass, the softmax of logits shifted until the drawn class leads in the backward pass.

    The logit of the drawn class is raised to the largest one and the others are lowered to at least `gap`
    beneath it, which imitates the noise that `GumbelSoftmax` would have needed for that draw. The shifts
    are constants to the gradient. Biased for every cost, with little variance.

    Not for binary variables near probability 1/2, where it behaves like `StraightThrough`.

    Settings:
        tau (float, default 1.0, above 0, at most 1000): temperature of the backward pass.
        gap (float above 0 and at most 1000, or "p"; default 1.0): least distance of the drawn logit to the
            others, in nats; "p" takes -log(1 - p) / p of the drawn class's probability p.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import GappedStraightThrough
        >>> logits = torch.zeros(8, 5, requires_grad=True)
        >>> z = GappedStraightThrough(tau=0.5, gap="p").sample(logits)
        >>> z.shape, z.sum(-1).tolist() == [1.0] * 8
        (torch.Size([8, 5]), True)

    Source: Fan, Chi, Rudnicky and Ramadge, "Training Discrete Deep Generative Models via Gapped
    Straight-Through Estimator", 2022, https://arxiv.org/abs/2206.07235.
    """

    name: Literal["gapped_straight_through"] = "gapped_straight_through"
    tau: float = Field(default=1.0, gt=0, le=1000)
    """Temperature of the backward pass."""
    gap: Annotated[float, Field(gt=0, le=1000)] | Literal["p"] = 1.0
    """Least distance of the drawn logit to the others, in nats; "p" takes -log(1 - p) / p of the drawn
    class's probability p."""

    def through(self, logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        from reinmax_core import categorical, gradients

        logits = categorical.wide(logits)
        shifted = logits + self._shift(logits.detach(), drawn.long().unsqueeze(-1), probs.detach())
        soft = categorical.probabilities(shifted, self.tau)
        return gradients.straight_through(logits, drawn, soft, self.tau)

    def _shift(self, logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        top = logits.amax(-1, keepdim=True)
        # theta_j -> min(theta_j, top - gap) for j other than d;  theta_d -> top
        lowered = (top - self._distance(drawn, probs.expand(logits.shape)) - logits).clamp(max=0)
        return lowered.scatter(-1, drawn, top - logits.gather(-1, drawn))

    def _distance(self, drawn: Tensor, probs: Tensor) -> Tensor | float:
        if self.gap != "p":
            return self.gap
        # Kept below 1, where the distance would be infinite.
        p = probs.gather(-1, drawn) * (1 - 1e-5)
        return -(-p).log1p() / p
