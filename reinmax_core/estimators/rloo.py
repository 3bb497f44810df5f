"""REINFORCE leave-one-out: several draws, each measured against the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import ScoreFunction

if TYPE_CHECKING:
    from torch import Tensor

    from reinmax_core.gradients import Scored


@final
class Rloo(ScoreFunction):
    """`Reinforce` averaged over K draws of a row, the baseline of each being the mean cost of the others.

    Unbiased for every cost, which needs no derivative, and free of settings to tune. The cost is called
    once, with the draws on a new leading axis of length K.

    Not where the cost is dear and can be differentiated: the pathwise estimators need one evaluation.

    Settings:
        samples (int, default 4, at least 2, at most 10000): K, draws of each row.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Rloo
        >>> logits = torch.zeros(64, 10, requires_grad=True)
        >>> costs = Rloo(samples=8).expectation(logits, lambda z: (z.argmax(-1) > 4).float())  # z: [8, 64, 10]
        >>> costs.mean().backward()
        >>> costs.shape, logits.grad.shape
        (torch.Size([64]), torch.Size([64, 10]))

    Source: Kool, van Hoof and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019,
    https://openreview.net/forum?id=r1lgTGL5DE.
    """

    name: Literal["rloo"] = "rloo"
    samples: int = Field(default=4, ge=2, le=10_000)
    """K, draws of each row."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def surrogate(self, values: Tensor, scored: Scored) -> Tensor:
        # f_k - mean of f_j over j other than k  =  (f_k - mean of f) K / (K - 1)
        advantage = (values - values.mean(0)).detach() * (self.samples / (self.samples - 1))
        return (values + advantage * scored.of(values)).mean(0)
