"""Training in this process, without a service."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from reinmax_core.data.base import DataSource, DataUnavailable
from reinmax_core.data.file import DataCorrupt
from reinmax_core.run import Progress, RunSpec
from service.interruption import end_requested
from worker.hardware import SPINS
from worker.memory import ran_out
from worker.settings import Settings

if TYPE_CHECKING:
    from reinmax_core.trainer import Trainer

DRAW_INTERVAL_S: Final = 0.1
LINE_INTERVAL_S: Final = 5.0


class TrainingFailed(Exception):
    """The run cannot begin, or ended without a result."""


class TrainingInterrupted(Exception):
    """The run was ended on request; what it had reached is saved."""


def train(spec: RunSpec, directory: Path, *, device: str, resume: bool, view: TrainingView) -> None:
    """Trains, shows how it goes, and saves model, state and, for a model of images, pictures into the directory.

    Args:
        spec: the run.
        directory: where the files go, and where the state to continue from is.
        device: where to train, such as "cpu" or "cuda"; "any" for a GPU if there is one.
        resume: whether to continue from the state in the directory.
        view: is shown every step.

    Raises:
        TrainingFailed: the data, the device or the state to continue from is not to be had, a loss is not finite, or
            memory ran out.
        TrainingInterrupted: Ctrl-C or SIGTERM came before the end; the state is saved.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is loaded
    from reinmax_core.checkpoint import restore_from, save_to, write_atomically
    from reinmax_core.pictures import png

    with _failures_in_words():
        trainer = _trainer(spec, device)
        if resume:
            restore_from(directory, trainer)
        _advance(trainer, view)
    save_to(directory, trainer)
    if trainer.step < spec.steps:
        raise TrainingInterrupted(
            f"stopped at step {trainer.step} of {spec.steps}; go on with --resume --to {directory}"
        )
    for name, levels in trainer.pictures().items():
        write_atomically(directory / f"{name}.png", png(levels))
    view.end(trainer, directory)


def view_for(*, as_json: bool) -> TrainingView:
    """What suits the output: JSON for programs, a bar on a terminal, lines elsewhere."""
    console = Console(highlight=False)
    if as_json:
        return JsonView()
    return BarView(console) if console.is_terminal else LineView(console)


class TrainingView(ABC):
    """Shows how a run goes; of `show`, called every step, no more than a few a second may take time."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def show(self, progress: Progress) -> None:
        """Takes notice of a step."""

    @abstractmethod
    def end(self, trainer: Trainer, directory: Path) -> None:
        """Shows what came of the run."""

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Ends the showing."""


class JsonView(TrainingView):
    """A line of JSON for every step with metrics, and one for the result."""

    def show(self, progress: Progress) -> None:
        if progress.metrics:
            print(
                json.dumps({"step": progress.step, "steps": progress.steps, "metrics": dict(progress.metrics)}),
                flush=True,
            )

    def end(self, trainer: Trainer, directory: Path) -> None:
        print(json.dumps({"result": trainer.result().model_dump(), "directory": str(directory)}), flush=True)

    def __exit__(self, *error: object) -> None:
        pass


class BarView(TrainingView):
    """A bar with rate, time left and the latest metrics."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True), TimeRemainingColumn())
        self._bar = Bar(*columns, TextColumn("{task.description}"), console=console)
        self._task = self._bar.add_task("", total=None)
        self._metrics: dict[str, float] = {}
        self._drawn_at = 0.0

    def show(self, progress: Progress) -> None:
        self._metrics |= progress.metrics
        now = time.monotonic()
        if now - self._drawn_at < DRAW_INTERVAL_S and progress.step < progress.steps:
            return
        self._drawn_at = now
        self._bar.start()
        self._bar.update(
            self._task, completed=progress.step, total=progress.steps, description=_in_words(self._metrics)
        )

    def end(self, trainer: Trainer, directory: Path) -> None:
        self._bar.stop()
        self._bar.console.print(_conclusion(trainer, directory), soft_wrap=True)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class LineView(TrainingView):
    """A line every few seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._metrics: dict[str, float] = {}
        self._began: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def show(self, progress: Progress) -> None:
        self._metrics |= progress.metrics
        now = time.monotonic()
        began_at, first_step = self._began = self._began or (now, progress.step)
        if now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            speed = _speed(progress.step - first_step, now - began_at, progress.steps - progress.step)
            self._console.print(f"step {progress.step} of {progress.steps}{speed}  {_in_words(self._metrics)}")

    def end(self, trainer: Trainer, directory: Path) -> None:
        self._console.print(_conclusion(trainer, directory), soft_wrap=True)

    def __exit__(self, *error: object) -> None:
        pass


@contextmanager
def _failures_in_words() -> Iterator[None]:
    """Ends a run with a sentence where the user can put right what is amiss."""
    from reinmax_core.checkpoint import CheckpointCorrupt, CheckpointVersion
    from reinmax_core.trainer import Diverged

    try:
        yield
    except (DataUnavailable, DataCorrupt, CheckpointCorrupt, CheckpointVersion, Diverged, OSError, ValueError) as error:
        raise TrainingFailed(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise TrainingFailed(
            f"memory ran out, so the run needs more than is free here: {str(error) or repr(error)}; "
            f"choose a smaller batch or model, or a device with more memory"
        ) from error


def _trainer(spec: RunSpec, device: str) -> Trainer:
    import torch

    from reinmax_core.trainer import Trainer

    settings = Settings()
    source = DataSource(directory=settings.data_dir, mirrors=settings.data_mirror)
    has_gpu = torch.cuda.is_available()
    if device == "any":
        device = "cuda" if has_gpu else "cpu"
    if device.startswith("cuda") and not has_gpu:
        raise ValueError(f"device is {device}, but torch finds no GPU here; take cpu, or see `reinmax doctor`")
    return Trainer(spec, device=device, source=source)


def _advance(trainer: Trainer, view: TrainingView) -> None:
    """Trains until the end, or until it is interrupted between two steps."""
    with end_requested() as interrupted, view:
        for progress in trainer:
            view.show(progress)
            if interrupted.is_set():
                return


def _speed(done: int, elapsed_s: float, left: int) -> str:
    """Rate and time left in words; nothing at the first step, from which on time is measured."""
    if not done or not elapsed_s:
        return ""
    return f", {done / elapsed_s:.0f} steps/s, {left * elapsed_s / done:.0f} s left"


def _in_words(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.5g}" for name, value in metrics.items())


def _conclusion(trainer: Trainer, directory: Path) -> Text:
    notes = (f"{name}: {note}" for name, note in trainer.result().notes.items())
    end = f"trained for {trainer.wall_time_s:.1f} s; model and state are in {directory}"
    return Text("\n".join((_in_words(trainer.final), *notes, end)))
