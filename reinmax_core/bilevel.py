"""The inner level of a task that trains two sets of parameters in turn."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor, nn

from reinmax_core.estimators.base import Estimator
from reinmax_core.tasks.base import Bilevel


class InnerLevel:
    """The inner parameters of a model in training, with their optimiser, and all that their training depends on."""

    def __init__(self, task: Bilevel, model: nn.Module) -> None:
        self._task, self._model = task, model
        self.optimizer = task.inner_optimizer(model)

    def tempered(self, estimator: Estimator, done: float) -> Estimator:
        """The estimator as the task uses it when that share of the run's steps is done."""
        return self._task.tempered(estimator, done)

    def step(self, batch: Any, estimator: Estimator, generator: Generator, done: float) -> dict[str, Tensor]:
        """Moves the inner parameters once; gives what there is to log.

        Args:
            batch: one of the task's.
            estimator: passes the gradient, if any is to pass a draw.
            generator: the source of randomness.
            done: share of the run's steps that are done.
        """
        losses = self._task.inner_loss(self._model, batch, estimator, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self._task.inner_lr(done)
        # Parameters that a loss does not feel have a gradient of 0, whether they were ever felt or not.
        _zero_gradients(self.optimizer.param_groups)
        losses["inner_loss"].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def _zero_gradients(groups: list[dict[str, Any]]) -> None:
    for group in groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = parameter.new_zeros(parameter.shape)
            else:
                parameter.grad.zero_()
