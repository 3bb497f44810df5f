"""From the outcomes of a sweep's jobs to its table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from reinmax_core.presets import Preset
from service.tables.choice import Chosen
from service.tables.comparison import compared
from service.tables.labels import Labels, one_line
from service.tables.layout import Layout, Wishes, direction_of, layout_of
from service.tables.places import Places
from service.tables.protocol import changes
from service.tables.published import beside, is_within, published_at
from service.tables.samples import Sample, metrics_of, samples_of
from service.tables.statistics import interval_of_mean, note_on, paired_difference, standard_deviation
from service.tables.table import UNSUCCESSFUL, Entry, Metric, Table, TableCell, Unfinished
from worker.jobs import State
from worker.sweep import Sweep
from worker.sweep_outcome import Outcome

MOST_NAMED: Final = 20


def tabulate(
    sweep: Sweep, outcomes: Sequence[Outcome], *, preset: Preset | None = None, wishes: Wishes | None = None
) -> Table:
    """Mean and spread of every cell over its seeds, in the layout that was asked for, beside what was published.

    Only jobs that have succeeded count, so the table of a sweep that is under way shows what is there.

    Raises:
        Unfitting: an axis, metric or baseline that was asked for does not exist, or an axis has no place.
    """
    wishes = wishes or Wishes()
    known = metrics_of(outcomes)
    layout = layout_of(sweep, preset, wishes, known)
    changed = changes(sweep, preset) if preset else ()
    parts = (layout, samples_of(outcomes, len(sweep.seeds)), Labels(sweep.axes), known, changed)
    return _Tabulation(sweep, preset, *parts).table(wishes.baseline)


@dataclass(frozen=True, slots=True)
class _Tabulation:
    sweep: Sweep
    preset: Preset | None
    layout: Layout
    samples: tuple[Sample, ...]
    labels: Labels
    known_metrics: Sequence[str]
    changed: Sequence[str]
    """Paths of what is set otherwise than in the preset."""

    def table(self, baseline_name: str | None) -> Table:
        subject = one_line(self.sweep.name or "") or self.sweep.preset or "all"
        title = one_line(self.sweep.name or "") or (self.preset.title if self.preset else f"Sweep {self.sweep.id}")
        places = Places.of(self.samples, self.layout, self.labels, subject, baseline_name)
        metrics = tuple(
            Metric(name=name, direction=direction_of(name, self.sweep, self.preset)) for name in self.layout.metrics
        )
        rows, columns, cells = self._compared(places, metrics)
        return Table(
            sweep=self.sweep.id,
            title=title,
            metrics=metrics,
            rows=tuple(rows),
            columns=tuple(columns),
            cells=tuple(map(tuple, cells)),
            compared="rows" if self.layout.compares_rows else "columns",
            baseline=places.baseline.label if places.baseline else None,
            is_complete=bool(self.samples) and self._is_complete,
            counts=dict(Counter(outcome.status for sample in self.samples for outcome in sample.outcomes)),
            pruned=sum(outcome.was_pruned for sample in self.samples for outcome in sample.outcomes),
            unfinished=tuple(self._unfinished())[:MOST_NAMED],
            notes=tuple(self._notes(cells)),
        )

    def _compared(
        self, places: Places, metrics: Sequence[Metric]
    ) -> tuple[Sequence[Entry], Sequence[Entry], list[list[TableCell | None]]]:
        cells = [
            [self._cell(places, row, column) for column in range(len(places.columns))]
            for row in range(len(places.rows))
        ]
        directions, is_search = {metric.name: metric.direction for metric in metrics}, self.sweep.search is not None
        if self.layout.compares_rows:
            rows, marked = compared(places.rows, places.columns, cells, directions, whole_only=is_search)
            return rows, places.columns, marked
        turned = _transposed(cells, len(places.columns))
        columns, marked = compared(places.columns, places.rows, turned, directions, whole_only=is_search)
        return places.rows, columns, _transposed(marked, len(places.rows))

    def _cell(self, places: Places, row: int, column: int) -> TableCell | None:
        here = places.found[row][column]
        if here is None:
            return None
        metric = places.rows[row].metric or places.columns[column].metric or self.layout.metrics[0]
        other, values = places.opposite(row, column), here.sample.values(metric)
        known = published_at(self.preset, here.sample.coordinates, metric)
        mean = statistics.fmean(values.values()) if values else None
        published = beside(mean, known) if known else None
        return TableCell(
            cell=here.sample.cell,
            mean=mean,
            sd=standard_deviation(tuple(values.values())),
            interval=interval_of_mean(tuple(values.values())),
            n=len(values),
            n_expected=here.sample.seeds,
            is_complete=here.is_final,
            selected=here.selected,
            difference=paired_difference(values, other.sample.values(metric)) if other else None,
            published=published,
            within_published=is_within(published) if published and self._is_as_published else None,
            notes=tuple(_notes_on(here, len(values))),
        )

    def _unfinished(self) -> Iterator[Unfinished]:
        for sample in self.samples:
            label = self.labels.entry(sample.coordinates)
            for outcome in sample.outcomes:
                if outcome.status in UNSUCCESSFUL and not outcome.was_pruned:
                    yield Unfinished(job=outcome.job_id, status=outcome.status, label=label, seed=outcome.seed)

    def _notes(self, cells: Sequence[Sequence[TableCell | None]]) -> Iterator[str]:
        """What has to be known, as few sentences as do."""
        there = [cell for line in cells for cell in line if cell]
        if pruned := sum(sample.is_pruned for sample in self.samples):
            yield f"{pruned} of {len(self.samples)} trials were pruned as hopeless; they take no part in comparisons."
        if not self._is_complete:
            yield _progress(self.samples, self._deleted)
        for metric in set(self.layout.metrics).difference(self.known_metrics or self.layout.metrics):
            yield f"No job has a value of {metric}; those that exist are: {', '.join(self.known_metrics)}."
        if any(0 < cell.n < 2 for cell in there):
            yield "Where fewer than two seeds have succeeded there is no standard deviation."
        if self.layout.select:
            select = self.layout.select
            least = "smallest" if select.direction == "min" else "largest"
            yield f"{', '.join(select.over)} chosen for the {least} mean {select.metric}, beneath each cell."
        if self.preset and any(cell.published for cell in there):
            if self.preset.of:
                yield f"This is the short form of {self.preset.of}: its values are not those of the published runs."
            if self.changed:
                names = ", ".join(self.changed)
                yield f"Not held against the published values: {names} changed from {self.preset.name}."
            yield f"Published: {self.preset.source}"

    @property
    def _deleted(self) -> int:
        """How many jobs are there no more, those of whole cells among them."""
        whole = max(0, self.sweep.cells - len(self.samples)) if self.samples else 0
        return sum(sample.deleted for sample in self.samples) + whole * len(self.sweep.seeds)

    @property
    def _is_complete(self) -> bool:
        return not self._deleted and all(sample.is_complete or sample.is_pruned for sample in self.samples)

    @property
    def _is_as_published(self) -> bool:
        """Whether the runs are those of the preset, as long and with its settings."""
        return self.preset is not None and self.preset.of is None and not self.changed


def _notes_on(here: Chosen, n: int) -> Iterator[str]:
    """What has to be known about one cell."""
    outcomes, seeds = here.sample.outcomes, here.sample.seeds
    for state in UNSUCCESSFUL:
        if count := sum(outcome.status is state for outcome in outcomes):
            yield f"{count} of {seeds} jobs {state}; the mean is over the others"
    if here.sample.deleted:
        yield f"{here.sample.deleted} of {seeds} jobs deleted; the mean is over the others"
    if pending := sum(outcome.status not in (State.SUCCEEDED, *UNSUCCESSFUL) for outcome in outcomes):
        yield f"{pending} of {seeds} jobs have not ended"
    if here.among > 1 and not here.is_final:
        yield f"chosen among {here.among} cells of which not all jobs have succeeded"
    if note := note_on(n):
        yield note


def _progress(samples: Sequence[Sample], deleted: int) -> str:
    """How many jobs there are or were, and how they stand."""
    counts = Counter(outcome.status for sample in samples for outcome in sample.outcomes)
    states = [f"{counts[state]} {state}" for state in State if counts[state] and state != State.SUCCEEDED]
    states += [f"{deleted} deleted"] if deleted else []
    jobs = counts.total() + deleted
    return f"Incomplete: {counts[State.SUCCEEDED]} of {jobs} jobs have succeeded ({', '.join(states)})."


def _transposed(lines: Sequence[Sequence[TableCell | None]], length: int) -> list[list[TableCell | None]]:
    return [[line[number] for line in lines] for number in range(length)]
