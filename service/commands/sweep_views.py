"""Views that follow a sweep until it has ended: a bar, lines, or JSON for programs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.commands.display import duration
from service.commands.sweep_display import summary, sweep_line, title
from worker.sweep import ENDED, Sweep, SweepState

if TYPE_CHECKING:
    from service.client import Client

INTERVAL_S: Final = 0.5
LINE_EVERY_S: Final = 10.0


def follow_sweep(client: Client, sweep: Sweep, view: SweepView) -> Sweep:
    """Shows the sweep again and again until all of its jobs have ended; returns it."""
    with view:
        view.show(sweep)
        while sweep.status not in ENDED:
            time.sleep(INTERVAL_S)
            sweep = client.get_sweep(sweep.id)
            view.show(sweep)
    return sweep


def sweep_view_on(console: Console) -> SweepView:
    """What suits the console: a bar drawn over itself on a terminal, lines elsewhere."""
    return SweepBar(console) if console.is_terminal else SweepLines(console)


class SweepView(ABC):
    """Shows how a sweep stands, several times."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def show(self, sweep: Sweep) -> None:
        """Shows how it stands now."""

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Ends the showing."""


class SweepBar(SweepView):
    """A bar that is drawn over itself, with the states of the jobs and the time left."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        more = TextColumn("{task.fields[states]}")
        self._progress = Progress(*columns, TimeElapsedColumn(), more, console=console)
        self._task = self._progress.add_task("", total=100, states="")
        self._progress.start()

    def show(self, sweep: Sweep) -> None:
        left = f"; {duration(sweep.eta_s)} left" if sweep.eta_s is not None else ""
        states = f"{summary(sweep)}{left}"
        self._progress.update(self._task, description=title(sweep), completed=sweep.percent, states=states)

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


class SweepLines(SweepView):
    """A line for each change of its state, and now and then one in between."""

    def __init__(self, console: Console, interval_s: float = LINE_EVERY_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._status: SweepState | None = None
        self._last = 0.0

    def show(self, sweep: Sweep) -> None:
        if sweep.status != self._status or time.monotonic() - self._last >= self._interval_s:
            self._status, self._last = sweep.status, time.monotonic()
            self._console.print(sweep_line(sweep), soft_wrap=True)

    def __exit__(self, *error: object) -> None:
        pass


class SweepJsonLines(SweepView):
    """The sweep as a line of JSON, again whenever it has changed, but for the time left."""

    def __init__(self) -> None:
        self._shown: Sweep | None = None

    def show(self, sweep: Sweep) -> None:
        timeless = sweep.model_copy(update={"eta_s": None})
        if timeless != self._shown:
            self._shown = timeless
            print(sweep.model_dump_json(), flush=True)

    def __exit__(self, *error: object) -> None:
        pass
