"""The estimators, one file each, and every class among them by its name: `from reinmax_core.estimators import Rloo`."""

from __future__ import annotations

from reinmax_core.estimators.base import Estimator, Pathwise, Separable
from reinmax_core.estimators.from_costs import Learned
from reinmax_core.value import discover

_SHARED = (Estimator, Learned, Pathwise, Separable)


def __getattr__(name: str) -> type[Estimator] | list[str]:
    # Classes are found, not listed, so that a new estimator is one new file. Names of files are left to
    # the import system, which asks here before it looks for a submodule.
    if name == "__all__":
        return __dir__()
    if name[:1].isupper():
        for estimator in discover(Estimator).values():
            if estimator.__name__ == name:
                return estimator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return sorted(shown.__name__ for shown in (*_SHARED, *discover(Estimator).values()))
