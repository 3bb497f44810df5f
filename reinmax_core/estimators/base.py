"""What every gradient estimator offers, and what the pathwise ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import Generator, Tensor

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
    """

    name: str

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Independent draws that `expectation` makes for a row of logits; if > 1, on a new leading axis of the cost.

        A batch of so many cost evaluations a step thus has that many times fewer rows. An estimator that
        enumerates instead of drawing counts as 1.
        """

    @abstractmethod
    def draw(self, logits: Tensor, generator: Generator | None) -> Tensor:
        """One-hot draws [..., n] for logits [..., n] of float32 or float64, classes on the last axis."""

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
        from reinmax_core import categorical

        rows = categorical.rows(logits, dim, mask)
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
            logits: rows [..., n] of float32 or float64.
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

        rows = categorical.rows(logits, dim, mask)
        repeated = rows.expand(self.evaluations, *rows.shape) if self.evaluations > 1 else rows
        probs = categorical.probabilities(repeated)
        scored = gradients.scored(repeated, categorical.draw(probs, repeated.shape, generator), probs)
        values = cost(categorical.unrowed(scored.draws, rows, logits, dim))
        return self.surrogate(values, scored)
