"""What every gradient estimator offers, and what the pathwise ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn, optim

    from reinmax_core.gradients import Scored

    Cost = Callable[[Tensor], Tensor]
    """Maps one-hot draws [..., n] to values whose shape is a leading part of the draws' shape without n.

    Every value is shared by the latents beneath it: for draws [batch, latents, n], values [batch] are
    joint in the latents, values [batch, latents] belong to one latent each. Estimators may call a cost
    with further leading axes (samples, states), so it must broadcast over them.
    """


@dataclass(frozen=True, slots=True)
class Separable:
    """A cost that is the mean, over latents, of one term each.

    It is called like any other cost, with draws [..., latents, n], and gives values [...]. Exact
    enumeration of such a cost needs n evaluations instead of n to the power of the latents.
    """

    each: Cost
    """Maps draws [..., latents, n] to one term a latent, [..., latents]."""

    def __call__(self, draws: Tensor) -> Tensor:
        return self.each(draws).mean(-1)


class Estimator(Value, ABC):
    """How a gradient passes a draw from a categorical distribution.

    The fields of a subclass are its settings. Instances hold no state and are safe to share.

    Inside `torch.compile` use one that was built outside, as compiled code cannot look into the validation of
    settings; it is compiled for tau = 1, and once more for all other tau. Derivatives are those of the backward
    pass: `torch.func.jvp` has none, and a program made by `torch.export` draws but passes no gradient back.
    """

    name: str

    binary_only: ClassVar[bool] = False
    """Whether it exists for two classes alone."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """How often `expectation` evaluates the cost for a row of logits.

        Several draws of a row lie on a new leading axis of what the cost is called with. A batch of so many
        evaluations a step has that many times fewer rows. An estimator that enumerates counts as 1.
        """

    @abstractmethod
    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        """One-hot draws [..., n] for rows of logits [..., n], classes on the last axis.

        In the dtype of the logits, or in that of `categorical.wide(logits)`, in which all is computed.
        """

    @abstractmethod
    def expectation(
        self,
        logits: Tensor,
        cost: Cost,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """A differentiable estimate of E[cost(z)] for z drawn from softmax(logits).

        Args:
            logits: unnormalised log-probabilities, any shape, classes on axis `dim`.
            cost: maps one-hot draws of the shape of `logits` to a value each, see `Cost`.
            dim: the axis of the classes.
            mask: boolean, broadcastable to `logits`; classes where it is False are never drawn.
            generator: the source of randomness; torch's global one if None.

        Returns:
            Estimates of the shape of the cost's values. Differentiating them gives this estimator's
            gradient with respect to `logits`, and the ordinary one for everything else that `cost` uses.

        Raises:
            ValueError: the logits are no floating-point numbers, have no axis `dim`, a row of them holds NaN
                or has no class left to draw, or the cost's values have another shape than `Cost` allows.
        """

    @final
    def sample(
        self,
        logits: Tensor,
        *,
        dim: int = -1,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Exact one-hot draws of the shape and dtype of `logits`.

        For a `Pathwise` estimator their backward pass is the estimator; for the others (score function,
        exact) no gradient passes through a draw and `expectation` is the way to train.

        Args and errors: as for `expectation`.
        """
        from reinmax_core import categorical, fused

        rows = categorical.rows(logits, dim, mask)
        if fused.available(rows) and fused.knows(self):
            return categorical.placed(fused.sample(self, rows, generator), logits, dim)
        return categorical.unrowed(self.draw(rows, generator), rows, logits, dim)


class Pathwise(Estimator, ABC):
    """An estimator whose gradient passes through the draw itself, so it fits anywhere in a model.

    Its backward pass is linear in what arrives from the cost, with coefficients that are functions of the
    logits at the fixed draw and noise; differentiating it again differentiates those.
    """

    @property
    @final
    def evaluations(self) -> int:
        return 1

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
        """`cost` of one draw: the draw's own backward pass is the estimator. See `Estimator.expectation`."""
        return cost(self.sample(logits, dim=dim, mask=mask, generator=generator))


class DrawDetermined(Pathwise, ABC):
    """A pathwise estimator that is a function of the draw: no further noise enters its gradient.

    So its mean and variance over draws can be had by enumeration, as `through` takes the draw as given.
    """

    @abstractmethod
    def through(self, logits: Tensor, drawn: Tensor, probs: Tensor) -> Tensor:
        """The one-hot form [..., n] of a given draw, with this estimator as its backward pass.

        Args:
            logits: rows [..., n].
            drawn: drawn classes [...], as `categorical.draw` gives them.
            probs: `categorical.probabilities(logits)`.
        """

    @final
    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        from reinmax_core import categorical

        probs = categorical.probabilities(logits)
        return self.through(logits, categorical.draw(probs, logits.shape, generator), probs)


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
        values = cost(categorical.unrowed(scored.draws, rows, logits, dim))
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
        values, gradient = self.measure(
            rows, lambda draws: cost(categorical.unrowed(draws, rows, logits, dim)), generator
        )
        return gradients.carrying(values, rows, gradient, self._parameters())

    def _parameters(self) -> tuple[nn.Parameter, ...]:
        return () if self._parts is None else tuple(self._parts.parameters())


class Learned(Measured, ABC):
    """An estimator with a control variate whose parts are trained beside the model, to make it vary less.

    By itself it has them as they are before training. `using` gives it parts; each `expectation` then also
    leaves in their gradients, once what it gave is differentiated, those of the mean square of the
    estimated gradient, for `optimizer(parts)` to follow. A `Trainer` does all this by itself::

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
        """This estimator with these parts, which stay the caller's."""
        bound = self.model_copy()
        object.__setattr__(bound, "_parts", parts)
        return bound
