"""Estimators that work from the costs of draws; no gradient passes through a draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

from reinmax_core.estimators.base import Estimator

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.estimators.base import Cost
    from reinmax_core.gradients import Scored


class FromCosts(Estimator, ABC):
    """An estimator that needs the costs of draws and not their derivatives; no gradient passes a draw."""

    @final
    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        from reinmax_core import categorical

        return categorical.sample(logits, generator)


class ScoreFunction(FromCosts, ABC):
    """An estimator that weights the gradient of a draw's log-probability by what the draw costs."""

    @abstractmethod
    def surrogate(self, values: Tensor, scored: Scored) -> Tensor:
        """An estimate of the mean cost that carries this estimator's gradient.

        Args:
            values: costs of the draws, of the shape of the cost's values; on a leading axis of length
                `evaluations` if that is more than 1, which the result lacks.
            scored: the draws.
        """

    @final
    def expectation(
        self,
        logits: Tensor,
        cost: Cost,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """`cost` of the draws, with a gradient from their values alone. See `Estimator.expectation`."""
        from reinmax_core import categorical, gradients

        rows = categorical.wide(categorical.rows(logits, dim, mask))
        repeated = rows.expand(self.evaluations, *rows.shape) if self.evaluations > 1 else rows
        probs = categorical.probabilities(repeated)
        scored = gradients.scored(repeated, categorical.draw(probs, repeated.shape, generator), probs)
        values = gradients.by_rows(cost, rows, logits, dim)(scored.draws)
        return self.surrogate(values, scored)


class Measured(FromCosts, ABC):
    """An estimator that works its gradient out from costs while they are evaluated, and hands it on as it is."""

    # No private attribute of pydantic, which torch.compile cannot read.
    _parts: ClassVar[Any] = None

    @abstractmethod
    def measure(self, logits: Tensor, cost: Cost, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """The mean cost of the draws, and this estimator's gradient.

        Args:
            logits: rows [..., n] of float32 or float64.
            cost: the cost, for draws of the shape of `logits`, or with further leading axes.
            generator: the source of randomness; torch's global one if None.

        Returns:
            Values with their ordinary gradient for all but the logits, and the gradient [..., n] of each
            value with respect to the logits beneath it, which may be differentiated again.
        """

    @final
    def expectation(
        self,
        logits: Tensor,
        cost: Cost,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """`cost` of the draws, with the gradient that was worked out. See `Estimator.expectation`.

        Raises:
            ValueError: it is for two classes alone and there are others; and as the others.
        """
        from reinmax_core import categorical, gradients

        rows = categorical.wide(categorical.rows(logits, dim, mask))
        if self.binary_only and rows.shape[-1] != 2:
            raise ValueError(
                f"{self.name!r} is an estimator for binary variables, that is for 2 classes, but axis {dim} of the "
                f"logits has {rows.shape[-1]}; choose one for any number of classes, such as 'reinmax' or 'rloo'"
            )
        values, gradient = self.measure(rows, gradients.by_rows(cost, rows, logits, dim), generator)
        return gradients.carrying(values, rows, gradient, self._parameters())

    def _parameters(self) -> tuple[nn.Parameter, ...]:
        return () if self._parts is None else tuple(self._parts.parameters())


class Learned(Measured, ABC):
    """An estimator with a control variate whose parts are trained beside the model, to make it vary less.

    By itself it has them as they are before training. `using` gives it parts; each `expectation` then also
    leaves in their gradients, once what it gave is differentiated, those of the mean square of the
    estimated gradient, for `optimizer(parts)` to follow, but not inside torch.compile and torch.func, where
    parts have to be frozen. A `Trainer` does all this by itself::

        parts = estimator.parts(latents, classes)
        optimizer = estimator.optimizer(parts)
        loss = estimator.using(parts).expectation(logits, cost).mean()
        loss.backward()
        optimizer.step()
    """

    @abstractmethod
    def parts(self, latents: int, classes: int) -> nn.Module:
        """New parts for a cost of so many latents beneath a value, initialised from torch's global generator."""

    @abstractmethod
    def optimizer(self, parts: nn.Module) -> optim.Optimizer:
        """A new optimiser of the parts."""

    @final
    def using(self, parts: nn.Module) -> Self:
        """This estimator with these parts, which stay the caller's.

        Raises:
            ValueError: they are not such as `parts` gives.
        """
        import torch

        with torch.device("meta"):
            wanted = set(self.parts(1, 2).state_dict())
        if (found := set(parts.state_dict())) != wanted:
            raise ValueError(
                f"the parts of {self.name!r} hold {', '.join(sorted(wanted))}, but the module given has "
                f"{', '.join(sorted(found)) or 'nothing'}; make them with parts(latents, classes)"
            )
        bound = self.model_copy()
        object.__setattr__(bound, "_parts", parts)
        return bound

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, Learned) and self._parts is other._parts

    def __hash__(self) -> int:
        return hash((self.model_dump_json(), id(self._parts)))
