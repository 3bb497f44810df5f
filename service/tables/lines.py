"""A table as lines of text, for every format that people read: a row's means, and beneath them what belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from service.tables.digits import Digits, digits_of
from service.tables.labels import NOTHING, in_full
from service.tables.table import UNSUCCESSFUL, Entry, Table, TableCell

Kind: TypeAlias = Literal["mean", "select", "difference", "published", "rank"]
WITHIN: Final = {True: " ✓", False: " ✗", None: ""}


@dataclass(frozen=True, slots=True)
class Text:
    """What stands at one place."""

    words: str
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    kind: Kind
    label: str
    texts: tuple[Text, ...]
    metric: str | None
    """The metric of its block, where there are several."""

    @property
    def is_main(self) -> bool:
        """Whether it stands for itself, rather than beneath the means that it belongs to."""
        return self.kind in ("mean", "rank")

    @property
    def shown_label(self) -> str:
        """The label, indented where it belongs to the line above."""
        return self.label if self.is_main else f"  {self.label}"

    def text(self, column: int) -> Text:
        """What stands in a column, from 0; nothing behind the last one."""
        return self.texts[column] if column < len(self.texts) else Text("")


def head(table: Table) -> tuple[str, ...]:
    """What stands above the columns, above the labels of the rows first."""
    paths = dict.fromkeys(path for row in table.rows for path in row.coordinates)
    ranks = ("average rank",) if _has_ranks(table.rows) else ()
    return (" · ".join(paths), *(column.label for column in table.columns), *ranks)


def lines(table: Table) -> Iterator[Line]:
    """All lines beneath the head, of which each has a text a column."""
    digits = digits_of(table)
    for row, cells in zip(table.rows, table.cells, strict=True):
        each = [
            (cell, digits[row.metric or column.metric or table.metrics[0].name])
            for column, cell in zip(table.columns, cells, strict=True)
        ]
        for kind, label, word in _kinds(table, row):
            texts = [Text(word(cell, form) if cell else NOTHING, _is_best(kind, cell)) for cell, form in each]
            if kind == "mean" or any(text.words not in ("", NOTHING) for text in texts):
                yield Line(kind, label, (*texts, *_rank_text(table, row, kind)), row.metric)
    if _has_ranks(table.columns):
        ranks = tuple(Text(_rank(column)) for column in table.columns)
        yield Line("rank", "average rank", ranks, None)


def notes(table: Table) -> tuple[str, ...]:
    """What has to be read beside it."""
    there = [cell for line in table.cells for cell in line if cell]
    seeds = {cell.n_expected for cell in there}
    over = f"{next(iter(seeds))} seeds" if len(seeds) == 1 and seeds != {1} else "seeds"
    marks = [f"Mean ± standard deviation over {over}; bold: the best of the {table.compared}."]
    if any(cell.n < cell.n_expected for cell in there):
        marks.append("(n/m): n of m seeds have succeeded.")
    if any(cell.selected and not cell.is_complete for cell in there):
        marks.append("*: chosen among cells that are not complete.")
    if table.baseline:
        marks.append(f"Δ: mean difference to {table.baseline} over common seeds, with its 95 % confidence interval.")
    if any(cell.within_published is not None for cell in there):
        marks.append("✓ / ✗: the mean lies within the published spread of the published value, or outside.")
    return (*marks, *table.notes)


def unfinished(table: Table) -> tuple[str, ...]:
    """The jobs that are missing, by name, and how many more there are."""
    named = [f"{job.status}: {job.label}, seed {job.seed}, {job.job}" for job in table.unfinished]
    more = sum(table.counts.get(state, 0) for state in UNSUCCESSFUL) - table.pruned - len(named)
    return (*named, *((f"and {more} more",) if more > 0 else ()))


def _kinds(table: Table, row: Entry) -> Iterator[tuple[Kind, str, Callable[[TableCell, Digits], str]]]:
    yield "mean", row.label, _mean
    yield "select", "chosen", lambda cell, digits: _selected(cell)
    if table.baseline:
        yield "difference", f"Δ {table.baseline}", _difference
    yield "published", "published", _published


def _is_best(kind: Kind, cell: TableCell | None) -> bool:
    return kind == "mean" and cell is not None and cell.best


def _mean(cell: TableCell, digits: Digits) -> str:
    words = NOTHING if cell.mean is None else digits.text(cell.mean)
    if cell.sd is not None:
        words += f" ± {digits.text(cell.sd)}"
    if cell.n < cell.n_expected:
        words += f" ({cell.n}/{cell.n_expected})"
    return words if cell.is_complete or not cell.selected else f"{words} *"


def _selected(cell: TableCell) -> str:
    return " ".join(in_full(path, value) for path, value in cell.selected.items())


def _difference(cell: TableCell, digits: Digits) -> str:
    found = cell.difference
    if found is None or found.mean is None:
        return ""
    words = digits.text(found.mean, "+")
    if found.low is None or found.high is None:
        return f"{words} (n={found.n})"
    return f"{words} [{digits.text(found.low, '+')}, {digits.text(found.high, '+')}]"


def _published(cell: TableCell, digits: Digits) -> str:
    if cell.published is None:
        return ""
    return f"{digits.printed(cell.published)}{WITHIN[cell.within_published]}"


def _has_ranks(entries: tuple[Entry, ...]) -> bool:
    return any(entry.average_rank is not None for entry in entries)


def _rank_text(table: Table, row: Entry, kind: Kind) -> tuple[Text, ...]:
    if not _has_ranks(table.rows):
        return ()
    return (Text(_rank(row) if kind == "mean" else ""),)


def _rank(entry: Entry) -> str:
    return "" if entry.average_rank is None else f"{entry.average_rank:.2f}"
