"""Gumbel-Rao: straight-through Gumbel-softmax with most of its noise averaged out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import Pathwise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@final
class GumbelRao(Pathwise):
    """`GumbelSoftmax` averaged over `samples` draws of the noise that agree with the one draw that is made.

    Same mean as `GumbelSoftmax` of that tau, so the same bias, and never more variance. The cost is
    evaluated once. On a CPU memory does not grow with `samples`; on an accelerator and inside transforms it
    grows with the smaller of `samples` and the number of classes.

    Not for second derivatives, which raise RuntimeError, nor for very many classes, where the noise is
    what a step costs.

    Settings:
        tau (float, default 1.0, above 0, at most 1000): temperature of the relaxed draws; small means little
            bias and much variance.
        samples (int, default 100, at least 1, at most 100000): K, relaxed draws to average over.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import GumbelRao
        >>> logits = torch.zeros(8, 5, requires_grad=True)
        >>> (GumbelRao(tau=0.5, samples=10).sample(logits) @ torch.arange(5.0)).square().sum().backward()
        >>> logits.grad.shape
        torch.Size([8, 5])

    Source: Paulus, Maddison and Krause, "Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
    Estimator", 2021, https://arxiv.org/abs/2010.04838.
    """

    name: Literal["gumbel_rao"] = "gumbel_rao"
    tau: float = Field(default=1.0, gt=0, le=1000)
    """Temperature of the relaxed draws: small means little bias and much variance."""
    samples: int = Field(default=100, ge=1, le=100_000)
    """K, relaxed draws to average over."""

    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        import torch

        from reinmax_core import categorical, gradients

        probs = categorical.probabilities(logits)
        drawn = categorical.draw(probs, logits.shape, generator)
        if not torch.is_grad_enabled():
            return categorical.one_hot(drawn, logits.shape[-1], logits.dtype)
        return gradients.averaged(logits, drawn, probs, self.tau, self.samples, generator)
