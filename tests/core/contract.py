"""What the contract tests of estimators are run over."""

from reinmax_core.estimators import Estimator
from reinmax_core.value import discover


def with_classes(*counts: int) -> list[tuple[str, int]]:
    """Every estimator, by name, with each of these numbers of classes for which it exists."""
    return [
        (name, count)
        for name, estimator in discover(Estimator).items()
        for count in counts
        if count == 2 or not estimator.binary_only
    ]
