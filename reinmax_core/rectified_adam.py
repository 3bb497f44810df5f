"""Rectified Adam at the speed of torch's fused Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

LARGE = 1e12
"""As an epsilon: beside it the second moment vanishes in float32, so that Adam becomes momentum."""


class RectifiedAdam(torch.optim.Adam):
    """Rectified Adam, stepping through torch's fused Adam with a learning rate and an epsilon of each step.

    Rectified Adam is Adam whose learning rate is scaled by a factor of the step's number, except for the
    first few steps, which leave out the second moment. Equal to `torch.optim.RAdam` up to rounding, and
    several times faster for the sizes of this field, where torch has no fused form.

    Source: Liu, Jiang, He, Chen, Liu, Gao and Han, "On the Variance of the Adaptive Learning Rate and
    Beyond", 2020, arXiv 1908.03265, algorithm 2.

    Args:
        parameters: what to train.
        lr, betas, eps, weight_decay: as for `torch.optim.RAdam`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        for group in self.param_groups:
            group["steps"] = 0

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step; see `torch.optim.Optimizer.step`."""
        asked = [(group["lr"], group["eps"]) for group in self.param_groups]
        for group in self.param_groups:
            group["steps"] += 1
            group["lr"], group["eps"] = _rectified(group)
        loss: float | None = super().step(closure)
        for group, (lr, eps) in zip(self.param_groups, asked, strict=True):
            group["lr"], group["eps"] = lr, eps
        return loss


def _rectified(group: dict[str, Any]) -> tuple[float, float]:
    """Learning rate and epsilon with which Adam's step is that of Rectified Adam."""
    lr, eps, (_, beta), step = group["lr"], group["eps"], group["betas"], group["steps"]
    correction = 1 - beta**step
    # rho_inf = 2 / (1 - beta) - 1;  rho_t = rho_inf - 2 t beta^t / (1 - beta^t)
    limit = 2 / (1 - beta) - 1
    length = limit - 2 * step * beta**step / correction
    if length <= 5:
        return lr * LARGE, LARGE
    # r_t = sqrt((rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t))
    factor = math.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
    # Torch's RAdam adds its epsilon before the bias correction of the second moment, its Adam after.
    return lr * factor, eps / math.sqrt(correction)
