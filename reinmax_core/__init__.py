"""ReinMax and its relatives: gradients through discrete choices, and the training of models that make them.

Importing the package loads neither torch nor anything else; a name is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reinmax_core.checkpoint import load_model
    from reinmax_core.estimators.reinmax import reinmax
    from reinmax_core.run import RunSpec
    from reinmax_core.trainer import Trainer

__all__ = ["RunSpec", "Trainer", "load_model", "reinmax"]

_HOMES = {
    "RunSpec": "reinmax_core.run",
    "Trainer": "reinmax_core.trainer",
    "load_model": "reinmax_core.checkpoint",
    "reinmax": "reinmax_core.estimators.reinmax",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
