"""Views that follow jobs until they have ended: a live table, lines, or JSON for programs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from service.commands.display import ORDER, line, summary
from service.commands.job_table import job_board
from worker.jobs import TERMINAL, Job, State

if TYPE_CHECKING:
    from service.client import Client

LINES_BESIDE_THE_ROWS: Final = 4


def follow(refresh: Callable[[], Sequence[Job]], view: View, interval_s: float = 0.5) -> Sequence[Job]:
    """Shows what `refresh` gives, again and again until all of the jobs have ended; returns them."""
    with view:
        while True:
            jobs = refresh()
            view.show(jobs)
            if all(job.status in TERMINAL for job in jobs):
                return jobs
            time.sleep(interval_s)


def view_on(console: Console) -> View:
    """What suits the console: a table drawn over itself on a terminal, lines elsewhere."""
    return LiveTable(console) if console.is_terminal else Lines(console)


class Jobs:
    """The jobs with these ids as they stand at every call; those that have ended are not asked for again."""

    def __init__(self, client: Client, ids: Sequence[str]) -> None:
        self._client = client
        self._known: dict[str, Job | None] = dict.fromkeys(ids)

    def __call__(self) -> tuple[Job, ...]:
        for job_id, job in self._known.items():
            if job is None or job.status not in TERMINAL:
                self._known[job_id] = self._client.get(job_id)
        return tuple(job for job in self._known.values() if job)


@contextmanager
def transfer(name: str, *, disable: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for a download; gives what is to be told the bytes received and those in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=disable) as progress:
        task = progress.add_task(name, total=None)
        yield lambda received, total: progress.update(task, completed=received, total=total)


class View(ABC):
    """Shows how jobs stand, several times."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def show(self, jobs: Sequence[Job]) -> None:
        """Shows how they stand now."""

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Ends the showing; what was shown last stays."""


class LiveTable(View):
    """A table that is drawn over itself; where the screen is too low, what moves comes first."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, jobs: Sequence[Job]) -> None:
        rows = sorted(jobs, key=lambda job: (ORDER.index(job.status), job.id))
        visible = rows[: max(1, self._console.height - LINES_BESIDE_THE_ROWS)]
        self._live.update(Group(job_board(visible), Text(), Text(summary(jobs), "bold")), refresh=True)

    def __exit__(self, *error: object) -> None:
        self._live.stop()


class Lines(View):
    """A line for each change of a state, and now and then one for them all."""

    def __init__(self, console: Console, interval_s: float = 10.0) -> None:
        self._console = console
        self._interval_s = interval_s
        self._states: dict[str, State] = {}
        self._last_summary = time.monotonic()

    def show(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self._states.get(job.id) != job.status:
                self._states[job.id] = job.status
                self._console.print(line(job), soft_wrap=True)
        if time.monotonic() - self._last_summary >= self._interval_s:
            self._last_summary = time.monotonic()
            self._console.print(summary(jobs))

    def __exit__(self, *error: object) -> None:
        pass


class JsonLines(View):
    """Every job as a line of JSON, again whenever it has changed."""

    def __init__(self) -> None:
        self._shown: dict[str, Job] = {}

    def show(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self._shown.get(job.id) != job:
                self._shown[job.id] = job
                print(job.model_dump_json(), flush=True)

    def __exit__(self, *error: object) -> None:
        pass
