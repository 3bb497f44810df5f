"""The distributions for the statements of Pyro, which is not imported before it is asked for."""

from __future__ import annotations

import types
from functools import cache
from typing import TypeVar, cast

from reinmax_core.distributions.pathwise import OneHotCategoricalPathwise

_Class = TypeVar("_Class", bound=OneHotCategoricalPathwise)


def for_pyro(distribution: type[_Class]) -> type[_Class]:
    """The same class for the statements of Pyro: `pyro.sample("z", for_pyro(OneHotCategoricalReinMax)(logits=logits))`.

    Pyro asks of a distribution that it be callable, masked, broadcast by plates and more, all of which its
    mixin brings; `has_rsample` makes inference take the pathwise gradient. Under `Trace_ELBO` the prior of
    a latent must be such a class as well, see `OneHotCategoricalPathwise`; under `TraceMeanField_ELBO` it
    may be any one-hot categorical. Also a decorator for classes of your own.

    Raises:
        ModuleNotFoundError: Pyro is not installed.
    """
    return cast("type[_Class]", _mixed(distribution))  # type: ignore[arg-type]  # mypy takes the class for unhashable


@cache
def _mixed(distribution: type) -> type:
    try:
        from pyro.distributions.torch_distribution import TorchDistributionMixin
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("for_pyro needs Pyro, which is not installed: pip install pyro-ppl") from error
    if issubclass(distribution, TorchDistributionMixin):
        return distribution
    described = {"__module__": distribution.__module__, "__doc__": distribution.__doc__}
    bases = (distribution, TorchDistributionMixin)
    return types.new_class(distribution.__name__, bases, exec_body=lambda body: body.update(described))
