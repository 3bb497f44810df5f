"""One-hot categorical distributions whose draws carry the gradient of any pathwise estimator."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Size, Tensor
from torch.distributions import OneHotCategorical
from torch.distributions.kl import register_kl

from reinmax_core.estimators.base import Pathwise
from reinmax_core.modules import written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class OneHotCategoricalPathwise(OneHotCategorical):
    """A one-hot categorical distribution whose `rsample` is the `sample` of any pathwise estimator.

    Values (draws, `mean`, `mode`, `enumerate_support`) have the dtype of the argument; numbers about them
    (`probs`, `logits`, `log_prob`, `entropy`) have at least float32. A class of logit -inf or of probability
    0 is never drawn and gets no gradient.

    `log_prob` counts as linear in its value: to a draw that carries a gradient it passes back log p. A loss with
    log q(z) - log p(z) in it needs this. torch's own `OneHotCategorical.log_prob` passes nothing back, so a
    prior p of that class silently drops its part of the gradient: take one of these classes for the prior as
    well, or `kl_divergence`, which is right for both.

    Args:
        probs: non-negative weights [..., n] with a sum above 0.
        logits: unnormalised log-probabilities [..., n]; either these or `probs`.
        estimator: how a gradient passes a draw; with its settings.
        validate_args: whether arguments and values are checked, as for every torch distribution.

    Raises:
        TypeError: no gradient passes the draws of this estimator.
        ValueError: as for torch.distributions.OneHotCategorical.
    """

    has_rsample = True

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        *,
        estimator: Pathwise,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(estimator, Pathwise):
            raise TypeError(
                f"rsample needs an estimator whose gradient passes through the draw, got {estimator!r}; "
                f"pass a Pathwise one, such as ReinMax(), or use the `expectation` of this one instead"
            )
        super().__init__(_at_least_float32(probs), _at_least_float32(logits), validate_args)
        given = probs if logits is None else logits
        self.estimator = estimator
        self._dtype = cast(Tensor, given).dtype if cast(Tensor, given).is_floating_point() else self._param.dtype
        # As given: normalised logits would have the same gradient, after more operations.
        self._scores = _logarithms(self.probs) if logits is None else cast(Tensor, _at_least_float32(logits))

    def expand(self, batch_shape: Sequence[int], _instance: Self | None = None) -> Self:
        """The same distribution, with its type, estimator and other attributes, for a larger batch."""
        new = copy.copy(self) if _instance is None else _instance
        super().expand(batch_shape, _instance=new)  # type: ignore[no-untyped-call]
        new.estimator, new._dtype = self.estimator, self._dtype
        new._scores = self._scores.expand(new._extended_shape())
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """One-hot draws [*sample_shape, *batch_shape, n] whose backward pass is the estimator."""
        shape = self._extended_shape(Size(sample_shape))
        return self.estimator.sample(self._scores.expand(shape)).to(self._dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """What `rsample` would draw, without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value), [...]; with a gradient for the parameters and for a value that carries one.

        For values that are not one-hot, which validation refuses, the class of the largest entry counts.
        """
        at_class = cast(Tensor, super().log_prob(value))  # type: ignore[no-untyped-call]
        if not value.requires_grad:
            return at_class
        # d log_prob / d value = log p.  A masked class, of probability 0, counts as 0 in it: -inf would become NaN.
        slope = self.logits.masked_fill(self.logits == float("-inf"), 0)
        return at_class + ((value - value.detach()) * slope).sum(-1)

    def __repr__(self) -> str:
        given = "probs" if self._param is vars(self._categorical).get("probs") else "logits"
        return f"{type(self).__name__}({given}: {self._param.shape}, estimator: {written(self.estimator)})"

    @property
    def mean(self) -> Tensor:
        return self.probs.to(self._dtype)

    @property
    def mode(self) -> Tensor:
        return super().mode.to(self._dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All n values, [n, *batch_shape, n]; [n, 1, ..., 1, n] without `expand`."""
        return cast(Tensor, super().enumerate_support(expand)).to(self._dtype)  # type: ignore[no-untyped-call]


def _divergence(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    """KL(p || q), [...]: the values of torch's, but with a gradient where that has NaN, at masked logits."""
    drawn, possible = p.probs > 0, q.probs > 0
    # sum over the drawn classes of p (log p - log q)
    ratios = torch.where(drawn & possible, p.logits - q.logits, 0)
    return (p.probs * ratios).sum(-1).masked_fill((drawn & ~possible).any(-1), float("inf"))


for _pair in (
    (OneHotCategoricalPathwise, OneHotCategoricalPathwise),
    (OneHotCategoricalPathwise, OneHotCategorical),
    (OneHotCategorical, OneHotCategoricalPathwise),
):
    register_kl(*_pair)(_divergence)  # type: ignore[no-untyped-call]


def _at_least_float32(numbers: Tensor | None) -> Tensor | None:
    return numbers.float() if numbers is not None and numbers.dtype in (torch.float16, torch.bfloat16) else numbers


def _logarithms(probs: Tensor) -> Tensor:
    # Not torch's, which make 0 a small number, so that it could be drawn. The gradient at 0 is 0.
    impossible = probs <= 0
    return probs.masked_fill(impossible, 1).log().masked_fill(impossible, float("-inf"))
