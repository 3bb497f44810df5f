"""ReinMax: second-order accurate, at the price of straight-through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, final

from pydantic import Field, model_validator

from reinmax_core.estimators.base import DrawDetermined

if TYPE_CHECKING:
    from torch import Generator, Tensor


@final
class ReinMax(DrawDetermined):
    """Straight-through made second-order accurate, by Heun's method instead of Euler's.

    With tau = 1 the mean of the estimates is the exact gradient for every cost that is quadratic in the
    draws, jointly over independent latents; it is biased for costs of higher order, and for tau > 1. Draws
    never depend on tau.

    Not for a cost without a useful derivative at the corners, such as a table or a step function: use
    `Rloo` there. The function `reinmax(logits, tau)` of this module gives the probabilities too, and takes a
    temperature for each row.

    Settings:
        tau (float, default 1.0, at least 1, at most 1000): temperature of the shifted distribution in the
            first term; above 1 it trades bias for variance.
        baseline ("expected" or "uniform", default "expected"): what the cost of a class is measured against,
            the mean cost over draws or that over the classes. Both are exact for quadratic costs; "uniform"
            weights rare draws by 1 / (n p_D) and varies more.
        second_weight (float, default 0.5, at least -1, at most 2): weight w = 1 / (2 alpha) of the second stage
            of the Runge-Kutta rule: 0.5 is Heun's, the only one of second order here, 0.75 Ralston's, 1 the
            midpoint rule, 0 straight-through.
        most_weight (float or None, default None, above 0, at most 1000000): with the uniform baseline, the
            largest weight of a draw; None for no limit.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import ReinMax
        >>> logits = torch.zeros(2, 4, requires_grad=True)  # two variables of four classes
        >>> z = ReinMax(tau=1.1).sample(logits, generator=torch.Generator().manual_seed(0))
        >>> z.tolist()
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
        >>> (z @ torch.arange(4.0)).square().sum().backward()  # logits.grad is the ReinMax gradient

    Source: Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and
    Beyond", 2023, https://arxiv.org/abs/2304.08612.
    """

    name: Literal["reinmax"] = "reinmax"
    tau: float = Field(default=1.0, ge=1, le=1000)
    """Temperature of the shifted distribution in the first term; above 1 it trades bias for variance."""
    baseline: Literal["expected", "uniform"] = "expected"
    """What the cost of a class is measured against: the mean cost over draws, or that over the classes."""
    second_weight: float = Field(default=0.5, ge=-1, le=2)
    """Weight w of the second stage of the Runge-Kutta rule; w = 1 / (2 alpha)."""
    most_weight: float | None = Field(default=None, gt=0, le=1_000_000)
    """With the uniform baseline, the largest weight 1 / (n p_D) of a draw; null for no limit."""

    @model_validator(mode="after")
    def _is_one_variant(self) -> Self:
        if self.baseline == "uniform" and self.second_weight != 0.5:
            raise ValueError(
                f"second_weight is {self.second_weight}, but the uniform baseline knows only Heun's rule; "
                f"leave out second_weight, or choose the baseline 'expected'"
            )
        if self.baseline == "expected" and self.most_weight is not None:
            raise ValueError(
                f"most_weight is {self.most_weight}, but only the baseline 'uniform' weights its draws; "
                f"leave it out, or choose that baseline"
            )
        return self

    def through(self, logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        from reinmax_core import gradients

        if self.baseline == "uniform":
            return gradients.reinmax_from_the_mean(logits, drawn, probs, self.tau, self.most_weight)
        return gradients.reinmax(logits, drawn, probs, self.tau, self.second_weight)


def reinmax(
    logits: Tensor,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """One-hot draws with the ReinMax gradient, and the probabilities that they were drawn from.

    Called as in the authors' package `reinmax`, with the same results for the same draw, and also for
    layouts, axes and masks that the package does not know. On a GPU with Triton the logits must not be changed
    in place before the backward pass, which then says so; elsewhere they may.

    Args:
        logits: unnormalised log-probabilities, any shape, classes on axis `dim`.
        tau: the temperature, at least 1; or one for each row, a tensor without a gradient that can be broadcast
            to `logits` and has a single entry on axis `dim`.
        hard: as in the package, without effect: draws are one-hot.
        dim: the axis of the classes.
        mask: boolean, broadcastable to `logits`; classes where it is False are never drawn.
        generator: the source of randomness; torch's global one if None.

    Returns:
        The draws, whose backward pass is ReinMax, and softmax(logits) with its ordinary one; both of the
        shape and dtype of `logits`.

    Raises:
        ValueError: tau is below 1, infinite or of another shape, or as for `Estimator.expectation`.
    """
    from reinmax_core import categorical, fused, gradients

    del hard
    tau = categorical.row_temperatures(tau, logits, dim, least=1)
    rows = categorical.rows(logits, dim, mask)
    if fused.available(rows, tau):
        draws, probs = fused.reinmax(rows, float(tau), generator)
        return categorical.placed(draws, logits, dim), categorical.placed(probs, logits, dim)
    # Repeated rows are written out, since each has probabilities with a gradient of its own.
    rows = rows.contiguous()
    probs = categorical.probabilities(rows)
    drawn = categorical.draw(probs, rows.shape, generator)
    draws = gradients.reinmax(rows, drawn, probs, tau)
    return categorical.unrowed(draws, rows, logits, dim), categorical.unrowed(probs, rows, logits, dim)
