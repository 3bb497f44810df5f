"""Estimators as layers of ordinary PyTorch models."""

from __future__ import annotations

from typing import final

from torch import Generator, Tensor, nn

from reinmax_core.estimators.argmax_straight_through import ArgmaxStraightThrough
from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.value import discover

LIKELIEST = ArgmaxStraightThrough(tau=1.0)


@final
class CategoricalSample(nn.Module):
    """Draws one-hot vectors from logits where it stands in a model, and passes the estimator's gradient back.

    In training mode the draws are random, with the estimator's backward pass. In evaluation mode the layer
    is deterministic, as users of `torch.nn.Dropout` expect: it gives the likeliest class, the first one
    among equals, with the backward pass of `ArgmaxStraightThrough(tau=1.0)`. With `sample_in_eval=True` it
    draws then, too, as a model of a distribution (a variational auto-encoder) has to.

    The layer has no parameters and no entry in `state_dict()`: estimator, `dim` and `sample_in_eval` are
    settings, as the p of `Dropout` is, so checkpoints fit models that differ in them. `estimator` and `tau`
    may be assigned at any time, as schedules do; `torch.compile` then compiles the layer once more, for
    the first change of tau and all that follow.

    Example:
        >>> import torch
        >>> from reinmax_core.modules import CategoricalSample
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 5), CategoricalSample("reinmax"), torch.nn.Linear(5, 1))
        >>> model(torch.randn(32, 8)).square().mean().backward()
        >>> model[0].weight.grad.shape
        torch.Size([5, 8])
        >>> model[1].tau = 1.2
        >>> model.eval()[1]
        CategoricalSample(ReinMax(tau=1.2), dim=-1, sample_in_eval=False)

    Args:
        estimator: a pathwise estimator, such as `GumbelRao(samples=10)`, or the name of one, such as
            "reinmax", for its default settings.
        tau: the estimator's temperature, instead of what the estimator has.
        dim: the axis of the classes.
        sample_in_eval: whether to draw in evaluation mode, too.

    Raises:
        ValueError: the estimator does not exist, passes no gradient through a draw, or has no such `tau`.
    """

    def __init__(
        self,
        estimator: str | Estimator = "reinmax",
        *,
        tau: float | None = None,
        dim: int = -1,
        sample_in_eval: bool = False,
    ) -> None:
        super().__init__()
        self.estimator = estimator
        if tau is not None:
            self.tau = tau
        self.dim = dim
        self.sample_in_eval = sample_in_eval

    @property
    def estimator(self) -> Pathwise:
        """Whose gradient passes through the draws; a name may be assigned, too."""
        return self._estimator

    @estimator.setter
    def estimator(self, estimator: str | Estimator) -> None:
        self._estimator = _pathwise(estimator)

    @property
    def tau(self) -> float:
        """The estimator's temperature; assigning one puts an estimator of that temperature in its place."""
        return float(self._estimator.model_dump()["tau"])

    @tau.setter
    def tau(self, tau: float) -> None:
        if "tau" not in type(self._estimator).model_fields:
            raise ValueError(f"estimator {self._estimator.name!r} has no temperature, found tau {tau}; leave tau out")
        self._estimator = type(self._estimator).model_validate(self._estimator.model_dump() | {"tau": tau})

    def forward(self, logits: Tensor, mask: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Exact one-hot vectors of the shape and dtype of `logits`.

        Args and errors: as for `Estimator.expectation`.
        """
        estimator = self._estimator if self.training or self.sample_in_eval else LIKELIEST
        return estimator.sample(logits, dim=self.dim, mask=mask, generator=generator)

    def extra_repr(self) -> str:
        """The settings, as they are written in a call; of the estimator those that are not its defaults."""
        return f"{written(self._estimator)}, dim={self.dim}, sample_in_eval={self.sample_in_eval}"


def written(estimator: Estimator) -> str:
    """The call that makes the estimator, with the settings that are not its defaults."""
    changed = estimator.model_dump(exclude_defaults=True)
    return f"{type(estimator).__name__}({', '.join(f'{name}={changed[name]!r}' for name in changed)})"


def _pathwise(estimator: str | Estimator) -> Pathwise:
    """The estimator, built from its name if need be.

    Raises:
        ValueError: there is none of that name, or no gradient passes through its draws.
    """
    known = discover(Estimator)
    if isinstance(estimator, str) and estimator in known:
        estimator = known[estimator].model_validate({})
    if isinstance(estimator, Pathwise):
        return estimator
    names = ", ".join(name for name, value_class in known.items() if issubclass(value_class, Pathwise))
    if isinstance(estimator, Estimator):
        raise ValueError(
            f"no gradient passes through the draws of {estimator.name!r}, so it cannot be a layer of a model; "
            f"train with its expectation(logits, cost), or choose one of {names}"
        )
    raise ValueError(f"expected an estimator or the name of one, found {estimator!r}; choose one of {names}")
