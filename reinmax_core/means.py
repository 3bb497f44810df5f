"""Means of what steps log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RunningMeans:
    """Means of named scalars, kept on their device so that adding to them waits for nothing."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: dict[str, Tensor]) -> None:
        if self._count == 0:
            self._sums = {name: scalar.detach().clone() for name, scalar in scalars.items()}
        else:
            for name, scalar in scalars.items():
                self._sums[name] += scalar.detach()
        self._count += 1

    def take(self) -> dict[str, float]:
        """The means, after which counting begins anew."""
        means = {name: total.item() / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: total.clone() for name, total in self._sums.items()}, "count": self._count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: total.to(device, copy=True) for name, total in state["sums"].items()}
        self._count = state["count"]
