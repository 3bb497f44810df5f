"""One-hot categorical distributions of torch.distributions whose `rsample` carries a gradient estimator.

    q = OneHotCategoricalReinMax(logits=logits, tau=1.1)
    z = q.rsample()                                    # exactly one-hot; its backward pass is ReinMax
    loss = cost(z) + kl_divergence(q, OneHotCategorical(logits=prior))

They fit wherever a torch.distributions.OneHotCategorical does, in Independent and MixtureSameFamily too, and
in Pyro through `for_pyro`.
"""

from reinmax_core.distributions.named import (
    OneHotCategoricalGappedStraightThrough,
    OneHotCategoricalGumbelRao,
    OneHotCategoricalGumbelSoftmax,
    OneHotCategoricalReinMax,
    OneHotCategoricalTemperedStraightThrough,
)
from reinmax_core.distributions.pathwise import OneHotCategoricalPathwise
from reinmax_core.distributions.pyro import for_pyro

__all__ = [
    "OneHotCategoricalGappedStraightThrough",
    "OneHotCategoricalGumbelRao",
    "OneHotCategoricalGumbelSoftmax",
    "OneHotCategoricalPathwise",
    "OneHotCategoricalReinMax",
    "OneHotCategoricalTemperedStraightThrough",
    "for_pyro",
]
