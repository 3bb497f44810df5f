"""ReinMax-CV: ReinMax corrected by the difference of two relaxed draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.base import Pathwise

if TYPE_CHECKING:
    from torch import Generator, Tensor


@final
class ReinMaxCv(Pathwise):
    """`ReinMax` plus `eta` times the difference between the mean of many relaxed draws and a single one.

    With mode "reference" the single relaxed draw is what the authors' code computes, see
    `midpoint.pulled`. Its mean is not that of the others, so the correction trades bias for variance, for
    every cost: on random quadratic costs of four classes, eta = 1 leaves six tenths of `ReinMax`'s variance
    and a mean an eighth off with control_tau = 0.7, four tenths and a third with 0.5. Below about 0.3 the
    mean turns around.

    With mode "unbiased" both parts have the same law given the draw, so the mean is that of `ReinMax`: exact
    for quadratic costs if tau = 1. As `ReinMax` is determined by the draw, such a correction can only add
    variance; this mode serves comparisons.

    Not for second derivatives, which raise RuntimeError unless eta is 0, nor where a bias is harmful: use
    `ReinMax` there, which is eta = 0.

    Settings:
        tau (float, default 1.0, at least 1, at most 1000): temperature of the part that is `ReinMax`.
        control_tau (float, default 0.7, at least 0.01, at most 1000): temperature of the relaxed draws of
            the correction.
        eta (float, default 1.5, at least 0, at most 100): weight of the correction; with 0 draws and
            gradients are those of `ReinMax`, bit by bit.
        samples (int, default 100, at least 1, at most 100000): K, relaxed draws to average over.
        mode ("reference" or "unbiased", default "reference"): how the single relaxed draw is made.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import ReinMaxCv
        >>> logits = torch.zeros(8, 5, requires_grad=True)
        >>> (ReinMaxCv(control_tau=1.0, eta=0.5).sample(logits) @ torch.arange(5.0)).square().sum().backward()
        >>> logits.grad.shape
        torch.Size([8, 5])

    Source: Wang and Bui, "Beyond ReinMax: Low-Variance Gradient Estimators for Discrete Latent Variables",
    2026, https://arxiv.org/abs/2603.08257, equation 18; mode "reference" after the authors' code,
    https://github.com/danielwang0452/ReinMax_ASC, defaults after its best settings for most sizes.
    """

    name: Literal["reinmax_cv"] = "reinmax_cv"
    tau: float = Field(default=1.0, ge=1, le=1000)
    """Temperature of the part that is ReinMax, see there."""
    control_tau: float = Field(default=0.7, ge=0.01, le=1000)
    """Temperature of the relaxed draws of the correction."""
    eta: float = Field(default=1.5, ge=0, le=100)
    """Weight of the correction; 0 is ReinMax itself."""
    samples: int = Field(default=100, ge=1, le=100_000)
    """K, relaxed draws in the smoothed part of the correction."""
    mode: Literal["reference", "unbiased"] = "reference"
    """What the single relaxed draw is: as the authors compute it, or as keeps the mean of ReinMax."""

    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        import torch

        from reinmax_core import categorical, gradients, midpoint

        logits = categorical.wide(logits)
        probs = categorical.probabilities(logits)
        logits = logits.to(probs.dtype)  # The parts' gradients are added up before they are rounded.
        drawn, soft = self._drawn(logits, probs, generator)
        draws = gradients.reinmax(logits, drawn, probs, self.tau)
        if self.eta == 0 or not torch.is_grad_enabled():
            return draws
        smooth = midpoint.averaged(logits, drawn, probs, self.control_tau, self.samples, generator)
        if soft is None:
            single = midpoint.averaged(logits, drawn, probs, self.control_tau, 1, generator)
        else:
            single = midpoint.pulled(logits, drawn, probs, soft, self.control_tau)
        # In value D + eta (D - D)
        return draws + self.eta * (smooth - single)

    def _drawn(self, logits: Tensor, probs: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor | None]:
        """The drawn classes and, where the correction needs it, the soft sample that they are the largest of."""
        from reinmax_core import categorical

        if self.eta == 0 or self.mode == "unbiased":
            return categorical.draw(probs, logits.shape, generator), None
        perturbed = logits.detach() + categorical.gumbel(logits, generator)
        return categorical.largest(perturbed), categorical.probabilities(perturbed, self.control_tau)
