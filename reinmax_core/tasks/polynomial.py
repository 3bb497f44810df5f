"""Polynomial programming: the smallest problem on which estimators part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from reinmax_core.estimators.base import DrawDetermined, Estimator, Separable
from reinmax_core.estimators.gumbel_softmax import GumbelSoftmax
from reinmax_core.tasks.base import Batches, Recommendation, Replicable
from reinmax_core.tasks.size import too_large

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn

    from reinmax_core.data.base import DataSet, DataSource


WHOLE_VECTORS: Final = 64
"""So many numbers fill the registers that a CPU works on at a time, whichever CPU."""

NEAREST: Final = 2.0**-63
"""Distances up to this count as 0 for exponents below 2: its power of -2 is just still finite in single precision."""


class Polynomial(Replicable):
    """Minimise E[mean over l of |D_l - c_l|^p] over the logits of L independent binary variables D.

    The optimum puts every D_l on the nearer of 0 and 1. Estimators whose gradient vanishes at an
    interior point, straight-through among them, never get there.

    Source: Liu, Dong, Liu, Yu and Gao, "Bridging Discrete and Backpropagation: Straight-Through and
    Beyond", 2023, arXiv 2304.08612, section on polynomial programming.
    """

    name: Literal["polynomial"] = "polynomial"
    latents: int = Field(default=128, ge=1, le=10**6, description="L, the number of binary variables.")
    p: float = Field(default=2.0, gt=0, le=16, description="The exponent.")
    c: Annotated[float, Field(ge=-100, le=100)] | Literal["linear"] = Field(
        default=0.45, description="The target of every variable, or 'linear' for c_l = (l - 0.5) / L, l = 1 to L."
    )
    batch: int = Field(
        default=64,
        ge=1,
        le=10**6,
        description="Cost evaluations a step; an estimator that takes several at a time takes as many as fit.",
    )

    objective: ClassVar[str] = "expected_loss"

    @property
    def default_steps(self) -> int:
        return 8000

    @property
    def draws_shape(self) -> tuple[int, int]:
        return self.latents, 2

    def datasets(self) -> tuple[DataSet, ...]:
        return ()

    def recommended(self, estimator: str) -> Recommendation:
        return Recommendation(optimizer="adam", lr=1e-3)

    def refusal(self, estimator: Estimator) -> str | None:
        if self.batch < estimator.evaluations:
            return (
                f"batch is {self.batch} cost evaluations a step, but {estimator.name!r} takes "
                f"{estimator.evaluations} at a time; choose a batch of at least {estimator.evaluations}"
            )
        return too_large("the logits of a step", {"batch": self.batch, "latents": self.latents}, each=2)

    def model(self) -> nn.Module:
        """The logits `theta` [latents, 2], uniform in (-0.01, 0.01); class 0 stands for D = 1."""
        import torch

        return torch.nn.ParameterDict({"theta": torch.empty(self.latents, 2).uniform_(-0.01, 0.01)})

    def data(self, device: device, source: DataSource) -> Tensor:
        """The targets c [latents]."""
        return self.targets().to(device)

    def batches(self, data: Any, seed: int) -> Batches:
        return _Always(data)

    def loss(self, model: nn.Module, batch: Tensor, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        logits = model.get_parameter("theta").expand(self.batch // estimator.evaluations, self.latents, 2)
        cost = Separable(lambda draws: self.power(draws[..., 0] - batch))
        return {"loss": estimator.expectation(logits, cost, generator=generator).mean(-1)}

    def packs(self, estimator: Estimator) -> bool:
        """Where the variables fill whole vectors of a CPU, all draws of all replicas are made at once."""
        return isinstance(estimator, (DrawDetermined, GumbelSoftmax)) and self.latents % WHOLE_VECTORS == 0

    def losses(
        self,
        model: nn.Module,
        batches: Sequence[Tensor],
        estimators: Sequence[Estimator],
        generators: Sequence[Generator],
    ) -> list[dict[str, Tensor]]:
        from reinmax_core.pack import drawn_together

        theta = model.get_parameter("theta").unsqueeze(1)
        draws = drawn_together(theta.expand(-1, self.batch, -1, -1), estimators, generators)
        means = self.power(draws[..., 0] - batches[0]).mean(-1).mean(-1)
        return [{"loss": mean} for mean in means.unbind()]

    def evaluate(self, model: nn.Module, data: Tensor, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """The expected loss, in closed form, and its distance to the optimum."""
        at_one, at_zero = self.power(1 - data), self.power(data)
        probability = model.get_parameter("theta").softmax(-1)[:, 0]
        expected = (probability * at_one + (1 - probability) * at_zero).mean().item()
        optimum = at_one.minimum(at_zero).mean().item()
        return {"expected_loss": expected, "gap": expected - optimum}

    def notes(self, model: nn.Module, data: Tensor) -> dict[str, str]:
        """Nothing: the settings say it all."""
        return {}

    def targets(self) -> Tensor:
        """c_l for every variable, shape [latents]."""
        import torch

        if self.c == "linear":
            return (torch.arange(self.latents, dtype=torch.float32) + 0.5) / self.latents
        return torch.full((self.latents,), self.c)

    def power(self, distance: Tensor) -> Tensor:
        """|distance|^p, whose derivatives at distance 0 are taken as 0 where there are none."""
        if self.p == 2:
            return distance.square()
        if self.p > 2 or self.p == 1:
            return distance.abs().pow(self.p)
        # What is clamped has no derivative; else p |d|^(p-1), or in control variates the next one, would be infinite.
        powers = distance.abs().clamp(min=NEAREST).pow(self.p)
        return powers if self.p > 1 else powers.where(distance.abs() > NEAREST, 0)


class _Always:
    """The same batch at every step."""

    steps_per_epoch: Final = 200

    def __init__(self, batch: Tensor) -> None:
        self._batch = batch

    def __getitem__(self, step: int) -> Tensor:
        return self._batch
