"""A distribution for each estimator that is often wanted, with its settings as arguments."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from reinmax_core.distributions.pathwise import OneHotCategoricalPathwise
from reinmax_core.estimators.gapped_straight_through import GappedStraightThrough
from reinmax_core.estimators.gumbel_rao import GumbelRao
from reinmax_core.estimators.gumbel_softmax import GumbelSoftmax
from reinmax_core.estimators.reinmax import ReinMax
from reinmax_core.estimators.straight_through import StraightThrough


class OneHotCategoricalReinMax(OneHotCategoricalPathwise):
    """Draws with the second-order accurate gradient of `ReinMax`: unbiased at tau = 1 for quadratic costs.

    Args: `tau`, at least 1, as for `ReinMax`; the others as for `OneHotCategoricalPathwise`.
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        tau: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, estimator=ReinMax(tau=tau), validate_args=validate_args)


class OneHotCategoricalTemperedStraightThrough(OneHotCategoricalPathwise):
    """Draws with the gradient of softmax(logits / tau), see `StraightThrough`.

    At tau = 1 the gradient is that of torch.distributions.OneHotCategoricalStraightThrough, which has no
    temperature, and whose `log_prob` passes no gradient to a draw. The draws of both are exactly one-hot.

    Args: `tau` as for `StraightThrough`; the others as for `OneHotCategoricalPathwise`.
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        tau: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, estimator=StraightThrough(tau=tau), validate_args=validate_args)


class OneHotCategoricalGumbelSoftmax(OneHotCategoricalPathwise):
    """Draws with the gradient of a Gumbel-perturbed softmax, see `GumbelSoftmax`.

    Unlike torch.distributions.RelaxedOneHotCategorical this is a distribution over one-hot values: tau
    changes neither draws nor log-probabilities.

    Args: `tau` as for `GumbelSoftmax`; the others as for `OneHotCategoricalPathwise`.
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        tau: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, estimator=GumbelSoftmax(tau=tau), validate_args=validate_args)


class OneHotCategoricalGumbelRao(OneHotCategoricalPathwise):
    """Draws with the gradient of Gumbel-softmax, averaged over `samples` noises that agree with them.

    Args: `tau` and `samples` as for `GumbelRao`; the others as for `OneHotCategoricalPathwise`.
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        tau: float = 1.0,
        samples: int = 100,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, estimator=GumbelRao(tau=tau, samples=samples), validate_args=validate_args)


class OneHotCategoricalGappedStraightThrough(OneHotCategoricalPathwise):
    """Draws with the gradient of a softmax in which the drawn class leads, see `GappedStraightThrough`.

    Args: `tau` and `gap` as for `GappedStraightThrough`; the others as for `OneHotCategoricalPathwise`.
    """

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        tau: float = 1.0,
        gap: float | Literal["p"] = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(probs, logits, estimator=GappedStraightThrough(tau=tau, gap=gap), validate_args=validate_args)
