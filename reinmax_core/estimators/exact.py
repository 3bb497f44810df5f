"""The exact gradient, by enumeration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import Separable
from reinmax_core.estimators.from_costs import FromCosts

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from reinmax_core.estimators.base import Cost


@final
class Exact(FromCosts):
    """The expectation itself: the cost of every joint state of the latents, weighted by its probability.

    Neither bias nor variance. The cost is called with the states on a new leading axis, in one or more
    parts; a `Separable` one with n draws, any other with n^L for L latents beneath each value.

    Not for many joint latents: their states are limited by `max_states`.

    Settings:
        max_states (int, default 16384, at least 1, at most 16777216): the most joint states that the latents
            beneath one value of the cost may have.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Exact
        >>> logits = torch.zeros(4, requires_grad=True)
        >>> mean = Exact().expectation(logits, lambda z: (z @ torch.tensor([0.0, 1.0, 2.0, 3.0])) ** 2)
        >>> round(mean.item(), 4)  # (0 + 1 + 4 + 9) / 4
        3.5

    Source: elementary; used as the yardstick by Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and
    Backpropagation: Straight-Through and Beyond", 2023, https://arxiv.org/abs/2304.08612.
    """

    name: Literal["exact"] = "exact"
    max_states: int = Field(default=16384, ge=1, le=2**24)
    """The most joint states that the latents beneath one value of the cost may have."""

    @property
    def evaluations(self) -> int:
        return 1

    def expectation(
        self,
        logits: Tensor,
        cost: Cost,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """E[cost(z)]. `generator` is not used; see `Estimator.expectation` for the rest.

        Raises:
            TooManyStates: the latents beneath a value have more than `max_states`; a ValueError, as are
                the others.
        """
        from reinmax_core import categorical, enumeration, gradients

        del generator
        # Repeated rows are written out: the gradient passes through the probabilities of each.
        rows = categorical.wide(categorical.rows(logits, dim, mask)).contiguous()
        probs = categorical.probabilities(rows)
        values = gradients.by_rows(cost.each if isinstance(cost, Separable) else cost, rows, logits, dim)
        if isinstance(cost, Separable):
            return enumeration.separate(probs, values).mean(-1)
        return enumeration.joint(probs, values, self.max_states)
