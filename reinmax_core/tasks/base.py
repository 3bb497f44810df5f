"""What a training task offers: a model, its data, its loss and its metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, final

from pydantic import Field

from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.schedules import Plateau
from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, nn, optim

    from reinmax_core.data.base import DataSource, Readable


class Recommendation(Value):
    """Settings that a published table gives for one estimator on one task; None where it says nothing."""

    tau: float | None = None
    """The estimator's temperature."""
    estimator: dict[str, int | float] = Field(default_factory=dict)
    """Its other settings, by name."""
    optimizer: str | None = None
    """Name of the optimiser."""
    lr: float | None = None
    """Its learning rate."""
    betas: tuple[float, float] | None = None
    """Its decay of running means."""
    weight_decay: float | None = None
    """Its L2 penalty."""
    clip_norm: float | None = None
    """Norm to which larger gradients are scaled down, whatever the optimiser."""
    schedule: Plateau | None = None
    """How the learning rate changes, whatever the optimiser."""
    evaluate_every: int | None = None
    """Steps between evaluations."""


class Batches(Protocol):
    """Training batches by step, so that a resumed run needs no more than the step's number."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps over which the published protocol averages what it calls the training loss: one pass over the data."""

    def __getitem__(self, step: int) -> Any: ...


class Task(Value, ABC):
    """A model, its data, its loss and its metrics, with the settings they depend on as fields.

    Draws of the task come only from the generators it is handed, so that a run is a function of its spec.
    """

    name: str

    needs_pathwise: ClassVar[bool] = False
    """True if the model draws inside itself, where only a `Pathwise` estimator can pass a gradient."""

    objective: ClassVar[str]
    """The evaluation metric by which runs are compared."""

    direction: ClassVar[Literal["min", "max"]] = "min"
    """Whether a smaller or a larger `objective` is better."""

    @property
    @abstractmethod
    def default_steps(self) -> int:
        """Length of the published run, in optimiser steps; if that is given in epochs, of these data and batches."""

    @property
    @abstractmethod
    def draws_shape(self) -> tuple[int, int] | None:
        """Latents and classes of the draws beneath one value of the cost; None if the model draws inside itself."""

    @abstractmethod
    def datasets(self) -> tuple[Readable, ...]:
        """The data sets, or files of a user, that `data` will read."""

    @abstractmethod
    def recommended(self, estimator: str) -> Recommendation:
        """The published settings for the estimator of that name, for this task as configured."""

    @abstractmethod
    def refusal(self, estimator: Estimator) -> str | None:
        """Why this estimator cannot train this task as configured, with the remedy; None if it can."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model on the CPU, initialised from torch's global generator."""

    @abstractmethod
    def data(self, device: device, source: DataSource) -> Any:
        """Everything that `batches` and `evaluate` read, on the device; None for a task without data.

        Raises:
            DataUnavailable: a file is neither at hand nor to be had; the message says what to do.
        """

    @abstractmethod
    def batches(self, data: Any, seed: int) -> Batches:
        """The training batches of the run with that seed."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """Scalars to log, among them `loss`, the one to minimise."""

    @abstractmethod
    def evaluate(self, model: nn.Module, data: Any, estimator: Estimator, generator: Generator) -> dict[str, float]:
        """Metrics of the model as it stands, among them `objective`; called without gradients."""

    @abstractmethod
    def notes(self, model: nn.Module, data: Any) -> dict[str, str]:
        """What a reader of the results has to know and numbers do not tell, in words by name; mostly nothing."""

    @final
    def objection(self, estimator: Estimator) -> str | None:
        """Why this estimator cannot train this task as configured, for whatever reason; None if it can."""
        if self.needs_pathwise and not isinstance(estimator, Pathwise):
            return (
                f"task {self.name!r} draws inside its model and needs a pathwise estimator, "
                f"but {estimator.name!r} estimates from costs alone; choose one such as 'reinmax'"
            )
        if estimator.binary_only and self.draws_shape and self.draws_shape[1] != 2:
            return (
                f"estimator {estimator.name!r} is for binary variables, but those of task {self.name!r} have "
                f"{self.draws_shape[1]} classes; choose one for any number of classes, such as 'reinmax' or 'rloo'"
            )
        return self.refusal(estimator)


class Bilevel(Task, ABC):
    """A task that trains two sets of parameters in turn, each by a loss of its own.

    In every step the inner parameters follow `inner_loss`, by an optimiser of the task's own; then the outer
    ones follow `loss`, by the optimiser of the run. Neither loss leaves a gradient in the other's parameters.
    """

    @abstractmethod
    def outer_parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        """Those that the optimiser of the run moves."""

    @abstractmethod
    def inner_optimizer(self, model: nn.Module) -> optim.Optimizer:
        """A new optimiser of all other parameters."""

    @abstractmethod
    def inner_lr(self, done: float) -> float:
        """The learning rate of the inner optimiser when that share of the run's steps is done, 0 to 1."""

    @abstractmethod
    def inner_loss(self, model: nn.Module, batch: Any, estimator: Estimator, generator: Generator) -> dict[str, Tensor]:
        """Scalars to log, among them `inner_loss`, the one that the inner parameters minimise."""

    @abstractmethod
    def tempered(self, estimator: Estimator, done: float) -> Estimator:
        """The estimator as it is used when that share of the run's steps is done, 0 to 1."""


class Replicable(Task, ABC):
    """A task of which several runs can be trained side by side, their models stacked into one.

    `losses` must give each replica the very numbers that `loss` would give it alone, and gradients too. So what a
    CPU rounds by the place of a number among others, as in the last few of an exponential, is computed for each
    replica apart; products of matrices, and whatever else is worth it, are computed for all at once.
    """

    @abstractmethod
    def packs(self, estimator: Estimator) -> bool:
        """Whether runs of this task, as configured, can be trained side by side with such an estimator."""

    @abstractmethod
    def losses(
        self,
        model: nn.Module,
        batches: Sequence[Any],
        estimators: Sequence[Estimator],
        generators: Sequence[Generator],
    ) -> list[dict[str, Tensor]]:
        """What `loss` gives, for each replica.

        Args:
            model: the `models.stacked` one.
            batches, estimators, generators: one a replica.
        """
