"""Double control variates: leave-one-out, helped by the derivatives at the other draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Learned

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.estimators.base import Cost


@final
class DoubleCv(Learned):
    """`Rloo` whose costs are first made alike, by a linear control variate built at the other draws of a row.

    What the derivative of the cost at the others predicts of a draw is added to its cost, `alpha` times, and
    what that adds to the gradient in the mean is taken off again in closed form. So it is unbiased for
    every cost, whatever `alpha` is; 0 makes it `Rloo`. `alpha` is learned beside the model.

    Not for a cost without a derivative: `Rloo` needs none.

    Settings:
        samples (int): K, draws of each row, 2 to 10000; default 2.
        alpha (float): share of the control variate at the start of training, at most 100 from 0; default 0.0.
        parts_lr (float): learning rate of `alpha`, above 0 and at most 100; default 0.001.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import DoubleCv
        >>> logits = torch.zeros(5, 3, requires_grad=True)
        >>> loss = DoubleCv(samples=4).expectation(logits, lambda z: (z * torch.arange(3.0)).sum(-1) ** 3)
        >>> loss.shape
        torch.Size([5])

    Source: Titsias and Shi, "Double Control Variates for Gradient Estimation in Discrete Latent Variable
    Models", 2022, https://arxiv.org/abs/2111.05300.
    """

    name: Literal["double_cv"] = "double_cv"
    samples: int = Field(default=2, ge=2, le=10_000)
    """K, draws of each row."""
    alpha: float = Field(default=0.0, ge=-100, le=100)
    """Share of the control variate at the start of training."""
    parts_lr: float = Field(default=1e-3, gt=0, le=100)
    """Learning rate of `alpha`."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def parts(self, latents: int, classes: int) -> nn.Module:
        """The parameter `alpha`, a scalar."""
        import torch

        del latents, classes
        return torch.nn.ParameterDict({"alpha": torch.tensor(self.alpha)})

    def optimizer(self, parts: nn.Module) -> optim.Optimizer:
        """Adam."""
        from torch import optim

        return optim.Adam(parts.parameters(), lr=self.parts_lr)

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core import categorical, gradients

        probs = categorical.probabilities(logits).expand(logits.shape)
        draws = categorical.one_hot_draws(probs, self.samples, generator)
        values, slopes = gradients.values_and_slopes(cost, draws)
        return values.mean(0), self._gradient(values.detach(), slopes, draws, probs)

    def _gradient(self, values: Tensor, slopes: Tensor, draws: Tensor, probs: Tensor) -> Tensor:
        from reinmax_core import categorical

        alpha = self.alpha if self._parts is None else self._parts["alpha"]
        scores, others = draws - probs, categorical.mean_of_others(slopes)
        # f_k + alpha (D_k - p) . (mean of the slopes of the others)
        corrected = values + alpha * categorical.sum_beneath(scores * others, values.ndim)
        advantages = categorical.above(corrected - categorical.mean_of_others(corrected), draws)
        return (advantages * scores).mean(0) - alpha * categorical.jacobian_product(probs, slopes.mean(0))
