"""ARMS: any number of binary draws of a row, each set against all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from reinmax_core.estimators.from_costs import Measured

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from reinmax_core.estimators.base import Cost


@final
class Arms(Measured):
    """`Rloo` over binary draws that avoid each other, and that count less for it.

    The K draws of a variable share one stick broken into K pieces (a Dirichlet copula), the rarer class
    going to those with a long piece, so that their costs differ more than those of independent draws.
    Unbiased for every cost, which needs no derivative; with 2 draws it is `Disarm`. Free of settings to tune.

    Not for variables of more than two classes: `Rloo` takes any number.

    Settings:
        samples (int): K, draws of each row, 2 to 10000; default 3, with which the published tables have it.

    Example:
        >>> import torch
        >>> from reinmax_core.estimators import Arms
        >>> logits = torch.zeros(64, 10, 2, requires_grad=True)
        >>> costs = Arms(samples=4).expectation(logits, lambda z: z[..., 1].sum(-1) ** 2)  # z: [4, 64, 10, 2]
        >>> costs.mean().backward()
        >>> costs.shape, logits.grad.shape
        (torch.Size([64]), torch.Size([64, 10, 2]))

    Source: Dimitriev and Zhou, "ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for Binary Variables",
    2021, https://arxiv.org/abs/2105.14141.
    """

    binary_only: ClassVar[bool] = True

    name: Literal["arms"] = "arms"
    samples: int = Field(default=3, ge=2, le=10_000)
    """K, draws of each row."""

    @property
    def evaluations(self) -> int:
        return self.samples

    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        from reinmax_core import categorical

        probs = categorical.probabilities(logits).expand(logits.shape)
        pieces = categorical.exponential((self.samples, *logits.shape[:-1]), probs, generator)
        drawn = self._drawn(pieces / pieces.sum(0), probs)
        draws = categorical.one_hot(drawn, 2, probs.dtype)
        values = cost(draws)
        return values.mean(0), self._gradient(values.detach(), drawn, probs)

    def _drawn(self, pieces: Tensor, probs: Tensor) -> Tensor:
        """The draws [K, ...] that go with the pieces [K, ...] of a stick of length 1 for each variable."""
        probs = probs.detach()
        rarer = probs.amin(-1)
        # A piece is longer than t with probability (1 - t)^(K-1), which is m at t = 1 - m^(1/(K-1)).
        is_rarer = pieces > -(rarer.log() / (self.samples - 1)).expm1()
        return (is_rarer == (probs[..., 1] < probs[..., 0])).to(probs.dtype)

    def _gradient(self, values: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        """The mean over draws, [..., 2], from values [K, ...] and draws [K, ...]."""
        from reinmax_core import categorical

        # f_k - mean of the f_j of the others
        advantages = values - categorical.mean_of_others(values)
        terms = (drawn - probs[..., 1]) * self._discount(probs)
        slope = (categorical.above(advantages, terms) * terms).mean(0)
        return categorical.pair(-slope, slope)

    def _discount(self, probs: Tensor) -> Tensor:
        """Variance over variance less covariance of two draws of a variable: 1/2 to 1, as they avoid each other."""
        import torch

        # With m the rarer class's probability, both draws are of it with probability m r for
        # r = max(2 - m^(-1/(K-1)), 0)^(K-1):  m (1 - m) / (m - m r) = (1 - m) / (1 - r)
        limits, others = torch.finfo(probs.dtype), self.samples - 1
        excess = (-probs.amin(-1).clamp(min=limits.tiny).log() / others).expm1().clamp(max=1 - limits.eps)
        return probs.amax(-1) / -((-excess).log1p() * others).expm1()
