"""What every gradient estimator offers, and what the pathwise ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from reinmax_core.value import Value

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Cost = Callable[[Tensor], Tensor]
    """Maps one-hot draws [..., n] to values whose shape is a leading part of the draws' shape without n.

    Every value is shared by the latents beneath it: for draws [batch, latents, n], values [batch] are
    joint in the latents, values [batch, latents] belong to one latent each. Estimators may call a cost
    with further leading axes (samples, states), which it must keep.
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
    settings; it is compiled for tau = 1, and once more for all other tau. A schedule that comes down to exactly
    1 is compiled twice more on arriving there, and one of a relaxation that passes below 1 once more. Derivatives
    are those of the backward pass: `torch.func.jvp` has none, and a program made by `torch.export` draws but
    passes no gradient back.
    """

    name: str

    binary_only: ClassVar[bool] = False
    """Whether it exists for two classes alone."""

    is_random: ClassVar[bool] = True
    """Whether `sample` gives draws of the distribution, and not what is likeliest."""

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
        exact) no gradient passes through a draw and `expectation` is the way to train. On a GPU with Triton
        the logits of some must not be changed in place before the backward pass, which then says so.

        Args:
            logits: unnormalised log-probabilities, any shape and layout, classes on axis `dim`; -inf for a
                class that is never drawn.
            dim: the axis of the classes.
            mask: boolean, broadcastable to `logits`; classes where it is False are never drawn and get a
                gradient of exactly 0.
            generator: the source of randomness, of the device of `logits`; torch's global one if None.

        Raises:
            ValueError: the logits are no floating-point numbers, have no axis `dim`, or a row of them holds NaN
                or +inf or has no class left to draw; or the mask does not fit. Accelerators do not look at
                values, for which they would have to wait: there such a row gives NaN.
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
        """`cost` of one draw of each row: the draw's own backward pass is the estimator.

        Args:
            logits: as for `sample`; so are `dim`, `mask` and `generator`.
            cost: maps one-hot draws of the shape of `logits` to values whose shape is a leading part of it,
                without the classes; differentiable.

        Returns:
            The values. Differentiating them gives this estimator's gradient with respect to `logits`, and
            the ordinary one for everything else that `cost` uses.

        Raises:
            ValueError: as `sample`, or the values have another shape.
        """
        from reinmax_core import categorical

        draws = self.sample(logits, dim=dim, mask=mask, generator=generator)
        values = cost(draws)
        categorical.beneath(values.shape, draws.movedim(dim, -1).shape)
        return values


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
