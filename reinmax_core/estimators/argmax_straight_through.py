"""Deterministic straight-through: the likeliest class instead of a draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import Pathwise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@final
class ArgmaxStraightThrough(Pathwise):
    """The likeliest class in the forward pass, softmax(logits / tau) in the backward pass; nothing is random.

    What is followed is the cost at the likeliest class, not its mean over draws, so it is biased for every
    cost, linear ones included. Of equally likely classes the first is taken.

    Not for exploring: a class that is never the likeliest is never evaluated.

    Settings:
        tau (float, default 0.6, above 0, at most 1000): temperature of the backward pass; near 1 it is
            steadier, near 0 closer to the forward pass.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import ArgmaxStraightThrough
        >>> logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
        >>> ArgmaxStraightThrough(tau=1.0).sample(logits).tolist()
        [[0.0, 1.0, 0.0]]

    Source: the deterministic form of Bengio, Leonard and Courville, "Estimating or Propagating Gradients
    Through Stochastic Neurons for Conditional Computation", 2013, https://arxiv.org/abs/1308.3432.
    """

    is_random: ClassVar[bool] = False

    name: Literal["argmax_straight_through"] = "argmax_straight_through"
    tau: float = Field(default=0.6, gt=0, le=1000)
    """Temperature of the backward pass; near 1 it is steadier, near 0 closer to the forward pass."""

    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        from reinmax_core import categorical, gradients

        del generator
        soft = categorical.probabilities(logits, self.tau)
        return gradients.straight_through(logits, categorical.largest(logits), soft, self.tau)
