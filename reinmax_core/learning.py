"""Parts of an estimator in training."""

from __future__ import annotations

from typing import Any

import torch

from reinmax_core.estimators.from_costs import Learned
from reinmax_core.run import RunSpec
from reinmax_core.seeds import seed_for, seeded


class Learning:
    """The learned parts of an estimator, trained beside the model, and all that their training depends on."""

    def __init__(self, spec: RunSpec, estimator: Learned, device: torch.device) -> None:
        latents, classes = spec.task.draws_shape or (1, 1)
        with seeded(seed_for("estimator", spec.seed)):
            self.parts = estimator.parts(latents, classes).to(device)
        self.optimizer = estimator.optimizer(self.parts)
        self.estimator = estimator.using(self.parts)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": self.parts.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.parts.load_state_dict(state["parts"])
        self.optimizer.load_state_dict(state["optimizer"])
