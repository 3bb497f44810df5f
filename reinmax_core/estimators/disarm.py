"""DisARM, also known as U2G: antithetic pairs of binary draws, and the uniform numbers integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Measured

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from reinmax_core.estimators.base import Cost


@final
class Disarm(Measured):
    """The difference of the costs of two draws of a binary variable that fall opposite wherever they can.

    Both draws of a pair come from one uniform number, at its two ends. Unbiased for every cost, which needs
    no derivative, and never of more variance than ARM, whose mean it is given the two draws. Free of
    settings to tune; `samples / 2` pairs are averaged.

    Not for variables of more than two classes, and not where three draws or more may be made alike: `Arms`
    sets all of them against each other.

    Settings:
        samples (int): K, draws of each row, an even number from 2 to 10000; default 2.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Disarm
        >>> logits = torch.zeros(64, 10, 2, requires_grad=True)
        >>> costs = Disarm().expectation(logits, lambda z: (z[..., 1].sum(-1) > 4).float())  # z: [2, 64, 10, 2]
        >>> costs.mean().backward()
        >>> costs.shape, logits.grad.shape
        (torch.Size([64]), torch.Size([64, 10, 2]))

    Source: Dong, Mnih and Tucker, "DisARM: An Antithetic Gradient Estimator for Binary Latent Variables",
    2020, https://arxiv.org/abs/2006.10680; and as U2G in Yin, Ho, Yan, Qian and Zhou, "Probabilistic Best
    Subset Selection via Gradient-Based Optimization", 2020, https://arxiv.org/abs/2006.06448.
    """

    binary_only: ClassVar[bool] = True

    name: Literal["disarm"] = "disarm"
    samples: int = Field(default=2, ge=2, le=10_000, multiple_of=2)
    """K, draws of each row, in pairs."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core import categorical

        probs = categorical.probabilities(logits).expand(logits.shape)
        drawn = self._pairs(categorical.uniform((self.samples // 2, *logits.shape[:-1]), probs, generator), probs)
        draws = categorical.one_hot(drawn.flatten(0, 1), 2, probs.dtype)
        values = cost(draws)
        in_pairs = values.detach().reshape(2, self.samples // 2, *values.shape[1:])
        return values.mean(0), self._gradient(in_pairs, drawn, probs)

    def _pairs(self, u: Tensor, probs: Tensor) -> Tensor:
        """The two draws [2, K/2, ...] that go with uniform numbers u [K/2, ...]."""
        import torch

        # b_1 = 1[1 - u <= mu] and b_2 = 1[u < mu], neither of which ever is a class of probability 0
        return torch.stack((u >= probs[..., 0], u < probs[..., 1])).to(probs.dtype)

    def _gradient(self, values: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        """The mean over pairs, [..., 2], from values [2, K/2, ...] and draws [2, K/2, ...]."""
        from reinmax_core import categorical

        # sigmoid(|theta_1 - theta_0|) is the larger probability:  (f_1 - f_2) (b_1 - b_2) max(p_0, p_1) / 2
        terms = (drawn[0] - drawn[1]) * (probs[..., 0].maximum(probs[..., 1]) / 2)
        slope = (categorical.above(values[0] - values[1], terms) * terms).mean(0)
        return categorical.pair(-slope, slope)
