"""Tables of jobs that fit the terminal: columns go, so that ids, states and what jobs are stay legible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.commands.display import COLOURS, age_s, duration, objective, rate, table_of
from service.commands.titles import titles
from worker.jobs import Job, State

BAR_WIDTH: Final = 20
WHAT: Final = "what"


@dataclass(frozen=True, slots=True)
class Column:
    """What a table tells of every job beside its title."""

    name: str
    show: Callable[[Job], RenderableType]
    is_number: bool = True
    dispensable: int = 0
    """Columns go from the highest number on; those with 0 stay."""


@final
class JobTable:
    """A row a job.

    Args:
        jobs: from top to bottom.
        before: what stands left of their titles.
        behind: what stands right of them.
        least_words: columns go before titles have less room than this.
        wraps: whether titles that need more go on below; they are cut otherwise.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        before: Sequence[Column],
        behind: Sequence[Column],
        *,
        least_words: int,
        wraps: bool,
    ) -> None:
        self._jobs, self._before, self._behind, self._least_words = jobs, before, behind, least_words
        self._titles = [Text(words, no_wrap=not wraps, overflow="ellipsis") for words in titles(jobs)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        behind = list(self._behind)
        for column in sorted(behind, key=lambda column: -column.dispensable):
            if not column.dispensable or self._least_width(console, behind) <= options.max_width:
                break
            behind.remove(column)
        yield self._table(behind)

    def _least_width(self, console: Console, behind: Sequence[Column]) -> int:
        table = self._table(behind)
        table.columns[len(self._before)].width = self._least_words
        return Measurement.get(console, console.options.update(max_width=10**6), table).maximum

    def _table(self, behind: Sequence[Column]) -> Table:
        words = [column.name for column in self._before] + [WHAT]
        table = table_of(*words)
        table.columns[-1].no_wrap = False  # it alone is made smaller than what stands in it
        for column in behind:
            table.add_column(column.name, justify="right" if column.is_number else "left", no_wrap=True)
        for job, title in zip(self._jobs, self._titles, strict=True):
            shown = (column.show(job) for column in behind)
            table.add_row(*(column.show(job) for column in self._before), title, *shown)
        return table


def job_list(jobs: Sequence[Job]) -> JobTable:
    """For looking things up."""
    behind = (
        Column("status", _status, is_number=False),
        Column("steps", lambda job: f"{job.progress.step} of {job.progress.steps}", dispensable=1),
        Column("objective", objective, dispensable=2),
        Column("created", lambda job: f"{duration(age_s(job.created_at))} ago", dispensable=3),
    )
    return JobTable(jobs, [Column("job", lambda job: job.id)], behind, least_words=30, wraps=True)


def job_board(jobs: Sequence[Job]) -> JobTable:
    """For watching, a line a job: with a bar, rate and time left."""
    behind = (
        Column("status", _status, is_number=False),
        Column("progress", _bar, is_number=False, dispensable=4),
        Column("%", lambda job: f"{job.progress.percent:.0f}"),
        Column("steps/s", rate, dispensable=2),
        Column("left", _left, dispensable=3),
        Column("objective", objective, dispensable=1),
    )
    return JobTable(jobs, (), behind, least_words=44, wraps=False)


def _status(job: Job) -> Text:
    return Text(job.status, COLOURS[job.status])


def _bar(job: Job) -> ProgressBar:
    progress, colour = job.progress, COLOURS[job.status]
    return ProgressBar(total=progress.steps, completed=progress.step, width=BAR_WIDTH, complete_style=colour)


def _left(job: Job) -> str:
    seconds = job.progress.eta_s
    return duration(seconds) if seconds is not None and job.status == State.RUNNING else ""
