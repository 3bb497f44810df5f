"""Straight-through Gumbel-softmax: a relaxed draw in the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import Pathwise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@final
class GumbelSoftmax(Pathwise):
    """The largest of the Gumbel-perturbed logits in the forward pass, their softmax in the backward pass.

    Draws follow softmax(logits) exactly for every tau; the gradient is that of the relaxed draw
    softmax((logits + noise) / tau). It is biased for every cost, linear ones included. As tau goes to 0 its
    mean tends to that of `ReinMax` with tau = 1, while its variance grows like 1 / tau.

    Not where a good tau is unknown: results depend on it more than with the other estimators.

    Settings:
        tau (float, default 1.0, above 0, at most 1000): temperature of the relaxed draw; small means little
            bias and much variance.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import GumbelSoftmax
        >>> logits = torch.zeros(2, 3, 16, 16, requires_grad=True)  # classes on axis 1
        >>> z = GumbelSoftmax(tau=0.5).sample(logits, dim=1)
        >>> z.shape, bool((z.sum(1) == 1).all())
        (torch.Size([2, 3, 16, 16]), True)

    Source: Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017,
    https://arxiv.org/abs/1611.01144; Maddison, Mnih and Teh, "The Concrete Distribution", 2017,
    https://arxiv.org/abs/1611.00712.
    """

    name: Literal["gumbel_softmax"] = "gumbel_softmax"
    tau: float = Field(default=1.0, gt=0, le=1000)
    """Temperature of the relaxed draw: small means little bias and much variance."""

    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        from reinmax_core import categorical, gradients

        logits = categorical.wide(logits)
        perturbed = logits + categorical.gumbel(logits, generator)
        soft = categorical.probabilities(perturbed, self.tau)
        return gradients.straight_through(logits, categorical.largest(perturbed), soft, self.tau)
