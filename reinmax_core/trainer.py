"""Carries out a run spec, one step an item."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from reinmax_core.bilevel import InnerLevel
from reinmax_core.categorical import NoDistribution
from reinmax_core.data.base import DataSource
from reinmax_core.estimators.from_costs import Learned
from reinmax_core.learning import Learning
from reinmax_core.means import RunningMeans
from reinmax_core.peak_memory import PeakMemory
from reinmax_core.run import Best, Progress, Result, RunSpec
from reinmax_core.seeds import seed_for, seeded
from reinmax_core.tasks.base import Bilevel
from reinmax_core.tasks.images import ImageTask


class Diverged(ArithmeticError):
    """A loss, or a logit that it would be computed from, is no longer finite."""


class Trainer:
    """Trains what a spec says: `for progress in Trainer(spec): ...`.

    An iterator of `Progress`, one item a step. Whoever iterates reports, saves, and ends the run by
    stopping. Between two items `state_dict()` holds everything that the rest of the run depends on, so
    a trainer that loads it continues to the same last bit as one that was never interrupted.

    Args:
        spec: the run.
        device: where to train, such as "cpu" or "cuda:0".
        source: where data sets are looked for; by default as the environment says.
        data: what `spec.task.data` gave for this device before, where several trainers share it.

    Raises:
        DataUnavailable: a data set of the task is not to be had.
    """

    def __init__(
        self, spec: RunSpec, *, device: str = "cpu", source: DataSource | None = None, data: Any = None
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.step = 0
        self.wall_time_s = 0.0
        self.final: dict[str, float] = {}
        self.best: Best | None = None
        if data is None:
            data = spec.task.data(self.device, source or DataSource.from_environment())
        self.data = data
        self.batches = spec.task.batches(self.data, spec.seed)
        with seeded(seed_for("model", spec.seed)):
            self.model = spec.task.model().to(self.device)
        self.inner: InnerLevel | None = None
        parameters: Iterable[torch.nn.Parameter] = self.model.parameters()
        if isinstance(spec.task, Bilevel):
            self.inner = InnerLevel(spec.task, self.model)
            parameters = spec.task.outer_parameters(self.model)
        self.optimizer = spec.optimizer.build(parameters)
        self.schedule = spec.optimizer.schedule and spec.optimizer.schedule.build(self.optimizer, spec.task.direction)
        self.estimator = spec.estimator
        self.learning: Learning | None = None
        if isinstance(spec.estimator, Learned):
            self.learning = Learning(spec, spec.estimator, self.device)
            self.estimator = self.learning.estimator
        self.generator = _generator(self.device, seed_for("draws", spec.seed))
        self._since_log = RunningMeans()
        self._last_epoch = RunningMeans()
        self._memory: PeakMemory | None = None

    def __iter__(self) -> Iterator[Progress]:
        self._memory = self._memory or PeakMemory(self.device)
        while self.step < self.spec.steps:
            started = time.perf_counter()
            try:
                progress = self._advance()
            except NoDistribution as error:
                raise self.without_distribution(error) from error
            self.wall_time_s += time.perf_counter() - started
            yield progress

    def without_distribution(self, error: NoDistribution) -> Diverged:
        """What to say of logits that nothing can be drawn from."""
        found = self._diverged("a logit", "not finite")
        found.__cause__ = error
        return found

    def losses(self) -> dict[str, Tensor]:
        """Those of the next step, after the inner parameters have moved if the task has some."""
        batch, estimator = self.batches[self.step], self.estimator
        losses: dict[str, Tensor] = {}
        if self.inner:
            done = self.step / self.spec.steps
            estimator = self.inner.tempered(estimator, done)
            with self._mixed_precision():
                losses |= self.inner.step(batch, estimator, self.generator, done)
        with self._mixed_precision():
            losses |= self.spec.task.loss(self.model, batch, estimator, self.generator)
        return losses

    def _advance(self) -> Progress:
        losses = self.losses()
        self.optimizer.zero_grad()
        if self.learning:
            self.learning.optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.clip()
        self.optimizer.step()
        if self.learning:
            self.learning.optimizer.step()
        return self.advanced(losses)

    def advanced(self, losses: dict[str, Tensor]) -> Progress:
        """Counts a step that had these losses and moved the parameters, and evaluates where that is due.

        Raises:
            Diverged: a figure is not finite.
        """
        self.step += 1
        return Progress(self.step, self.spec.steps, self._logged(losses))

    def _mixed_precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec.precision == "bfloat16")

    def clip(self) -> None:
        """Scales the gradient down to the norm that it may have."""
        if self.spec.optimizer.clip_norm is not None:
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.spec.optimizer.clip_norm)

    def _logged(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """What this step adds to the series of metrics: mostly nothing."""
        spec, last = self.spec, self.step == self.spec.steps
        self._since_log.add(losses)
        if self.step > spec.steps - self.batches.steps_per_epoch:
            self._last_epoch.add(losses)
        metrics: dict[str, float] = {}
        if last or self.step % spec.log_every == 0:
            metrics |= self._since_log.take()
        if last or self.step % spec.evaluate_every == 0:
            metrics |= self.evaluate() | self._scheduled_lr()
        if last:
            metrics |= {f"train_{name}": value for name, value in self._last_epoch.take().items()} | self._conclusion()
        self._check_finite(metrics)
        self.final |= metrics
        self._note_best(metrics)
        if self.schedule and spec.task.objective in metrics:
            self.schedule.step(metrics[spec.task.objective])
        return metrics

    def _scheduled_lr(self) -> dict[str, float]:
        """The learning rate of the steps before an evaluation, where it is not the same throughout."""
        return {"lr": self.optimizer.param_groups[0]["lr"]} if self.schedule else {}

    def evaluate(self) -> dict[str, float]:
        """The task's metrics now. Its draws depend on seed and step alone and leave the run's as they are."""
        generator = _generator(self.device, seed_for("evaluation", self.spec.seed, self.step))
        with torch.no_grad():
            metrics: dict[str, float] = self.spec.task.evaluate(self.model, self.data, self.estimator, generator)
        return metrics

    def _conclusion(self) -> dict[str, float]:
        task, generator = self.spec.task, _generator(self.device, seed_for("conclusion", self.spec.seed))
        if not isinstance(task, ImageTask):
            return {}
        with torch.no_grad():
            return task.conclusion(self.model, self.data, self.estimator, generator)

    def pictures(self) -> dict[str, Tensor]:
        """What a model of images makes of images and of nothing now, grey levels as bytes, [height, width], by name.

        None for other tasks. Draws depend on seed and step alone and leave the run's as they are.
        """
        task = self.spec.task
        if not isinstance(task, ImageTask):
            return {}
        generator = _generator(self.device, seed_for("pictures", self.spec.seed, self.step))
        with torch.no_grad():
            return task.pictures(self.model, self.data, self.estimator, generator)

    def result(self) -> Result:
        """What the run has come to so far."""
        epochs, peak_mb = self.step / self.batches.steps_per_epoch, self._memory.growth_mb() if self._memory else None
        return Result(
            metrics=self.final,
            best=self.best,
            wall_time_s=round(self.wall_time_s, 3),
            epoch_time_s=round(self.wall_time_s / epochs, 4) if epochs else None,
            peak_memory_mb=None if peak_mb is None else round(peak_mb, 2),
            notes=self.spec.task.notes(self.model, self.data),
        )

    def _note_best(self, metrics: dict[str, float]) -> None:
        objective = self.spec.task.objective
        if objective not in metrics:
            return
        value, sign = metrics[objective], 1 if self.spec.task.direction == "min" else -1
        if self.best is None or sign * value < sign * self.best.value:
            self.best = Best(metric=objective, step=self.step, value=value)

    def _check_finite(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(name, value)

    def _diverged(self, name: str, value: object) -> Diverged:
        return Diverged(
            f"{name} is {value} at step {self.step} of {self.spec.steps}; "
            f"try a smaller learning rate than {self.spec.optimizer.lr} or another temperature"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on: nested dicts of tensors, numbers and strings."""
        return {
            "spec": self.spec.model_dump_json(),
            "step": self.step,
            "wall_time_s": self.wall_time_s,
            "final": dict(self.final),
            "best": self.best.model_dump() if self.best else None,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "learning": self.learning.state_dict() if self.learning else None,
            "inner": self.inner.state_dict() if self.inner else None,
            "generator": self.generator.get_state(),
            "since_log": self._since_log.state_dict(),
            "last_epoch": self._last_epoch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a `state_dict` of a trainer with an equal spec.

        Raises:
            ValueError: the state is of another spec.
        """
        if RunSpec.model_validate_json(state["spec"]) != self.spec:
            raise ValueError(
                f"the checkpoint is of another run: it was made for {state['spec']}, this run is "
                f"{self.spec.model_dump_json()}; continue with the spec it was made for, or start anew"
            )
        self.step, self.wall_time_s = state["step"], state["wall_time_s"]
        self.final = dict(state["final"])
        self.best = Best.model_validate(state["best"]) if state["best"] else None
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.learning:
            self.learning.load_state_dict(state["learning"])
        if self.inner:
            self.inner.load_state_dict(state["inner"])
        self.generator.set_state(state["generator"].cpu())
        self._since_log.load_state_dict(state["since_log"], self.device)
        self._last_epoch.load_state_dict(state["last_epoch"], self.device)


def _generator(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)
