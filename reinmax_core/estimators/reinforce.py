"""REINFORCE: the score of a draw, weighted by its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from reinmax_core.estimators.from_costs import ScoreFunction

if TYPE_CHECKING:
    from torch import Tensor

    from reinmax_core.gradients import Scored


@final
class Reinforce(ScoreFunction):
    """The gradient of the log-probability of a draw, times its cost less a baseline.

    Unbiased for every cost, which needs no derivative. The variance is large, and grows with the number of
    latents that share a value.

    Not where the cost can be differentiated and a small bias is no harm: `ReinMax` has far less variance.
    `Rloo` is better where several draws of a row are affordable.

    Settings:
        baseline ("none" or "batch", default "none"): what is subtracted from a value; nothing, or the mean of
            the other values on the first axis of the cost's values.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Reinforce
        >>> logits = torch.zeros(64, 10, requires_grad=True)
        >>> costs = Reinforce(baseline="batch").expectation(logits, lambda z: (z.argmax(-1) > 4).float())
        >>> costs.mean().backward()  # though no gradient passes through an argmax
        >>> costs.shape, logits.grad.shape
        (torch.Size([64]), torch.Size([64, 10]))

    Source: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
    Learning", 1992, https://doi.org/10.1007/BF00992696.
    """

    name: Literal["reinforce"] = "reinforce"
    baseline: Literal["none", "batch"] = "none"
    """What is subtracted from a value: nothing, or the mean of the other values on the first axis of the
    cost's values, which are independent of it (nothing where there are no others)."""

    @property
    def evaluations(self) -> int:
        return 1

    def surrogate(self, values: Tensor, scored: Scored) -> Tensor:
        constant = values.detach()
        return values + (constant - self._baseline(constant)) * scored.of(values)

    def _baseline(self, values: Tensor) -> Tensor | float:
        from reinmax_core import categorical

        if self.baseline == "none" or values.ndim == 0 or len(values) < 2:
            return 0.0
        return categorical.mean_of_others(values)
