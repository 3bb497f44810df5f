"""REINFORCE leave-one-out: several draws, each measured against the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import FromCosts

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from reinmax_core.estimators.base import Cost


@final
class Rloo(FromCosts):
    """`Reinforce` averaged over K draws of a row, the baseline of each being the mean cost of the others.

    Unbiased for every cost, which needs no derivative, and free of settings to tune. The cost is called
    once, with the draws on a new leading axis of length K.

    Not where the cost is dear and can be differentiated: the pathwise estimators need one evaluation.

    Source: Kool, van Hoof and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019,
    https://openreview.net/forum?id=r1lgTGL5DE.
    """

    name: Literal["rloo"] = "rloo"
    samples: int = Field(default=4, ge=2, le=10_000)
    """K, draws of each row."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def expectation(
        self,
        logits: Tensor,
        cost: Cost,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        from reinmax_core import categorical, gradients

        rows = categorical.rows(logits, dim, mask)
        scored = gradients.scored(rows.expand(self.samples, *rows.shape), generator)
        values = cost(categorical.unrowed(scored.draws, rows, logits, dim))
        # f_k - mean of f_j, j other than k  =  (f_k - mean f) K / (K - 1)
        advantage = (values - values.mean(0)).detach() * (self.samples / (self.samples - 1))
        return (values + advantage * scored.of(values)).mean(0)
