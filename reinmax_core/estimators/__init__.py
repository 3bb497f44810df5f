"""The estimators, one file each, and every class among them by its name: `from reinmax_core.estimators import Rloo`."""

from __future__ import annotations

from reinmax_core.estimators.base import Estimator, Learned, Pathwise, Separable
from reinmax_core.value import discover

__all__ = ["Estimator", "Learned", "Pathwise", "Separable"]


def __getattr__(name: str) -> type[Estimator]:
    # Classes are found, not listed, so that a new estimator is one new file. Names of files are left to
    # the import system, which asks here before it looks for a submodule.
    if name[:1].isupper():
        for estimator in discover(Estimator).values():
            if estimator.__name__ == name:
                return estimator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__dir__())}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(estimator.__name__ for estimator in discover(Estimator).values())])
