"""A table as a text file: CSV for programs, Markdown and LaTeX for papers."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from service.tables.labels import one_line, shown
from service.tables.lines import Line, head, lines, notes, unfinished
from service.tables.table import Entry, Table, TableCell

TextFormat: TypeAlias = Literal["csv", "markdown", "latex"]

LATEX: Final = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "✓": r"$\checkmark$", "✗": r"$\times$", "Δ": r"$\Delta$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip
"""Characters that mean something to LaTeX, or that its usual fonts lack."""
QUOTED: Final = re.compile('"([^"]*)"')
SIZE: Final = re.compile(r"(?<=\d)x(?=\d)")
SIGNED: Final = re.compile(r"(?<![\w.])([+-])(?=\d)")
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What begins a formula where a spreadsheet reads CSV."""
MARKDOWN: Final = re.compile(r"([\\|*_`<\[\]])")


def as_csv(table: Table) -> str:
    """A row a cell with every number in full, so that a data frame can be made of it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(_fields(table)))
    writer.writeheader()
    for row, cells in zip(table.rows, table.cells, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            if cell:
                writer.writerow(_record(table, row, column, cell))
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A table as GitHub shows it, the best bold, with what has to be known in a list beneath."""
    names, *columns = head(table)
    blocks = [f"**{_in_markdown(_caption(table))}**", ""]
    blocks += [_markdown_row([_in_markdown(names), *map(_in_markdown, columns)])]
    blocks += [_markdown_row(["---", *["---:"] * len(columns)])]
    metric: str | None = None
    for line in lines(table):
        if line.metric and line.metric != metric:
            blocks.append(_markdown_row([f"*{_in_markdown(line.metric)}*", *[""] * len(columns)]))
        metric = line.metric
        blocks.append(_markdown_row(_markdown_texts(line)))
    return "\n".join([*blocks, "", *(f"- {_in_markdown(note)}" for note in notes(table) + unfinished(table))]) + "\n"


def as_latex(table: Table) -> str:
    """A `table` environment for the packages booktabs and amssymb."""
    names, *columns = head(table)
    body: list[str] = []
    metric: str | None = None
    for number, line in enumerate(lines(table)):
        if line.metric != metric:
            body += [r"\midrule"] if number else []
            body += [_latex_row([rf"\emph{{{in_latex(line.metric)}}}", *[""] * len(columns)])] if line.metric else []
        metric = line.metric
        body.append(_latex_row(_latex_texts(line)))
    return "\n".join(
        [
            r"% \usepackage{booktabs,amssymb}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(_caption(table))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            _latex_row([in_latex(names), *map(in_latex, columns)]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {in_latex(note)}" for note in notes(table)),
            r"\end{table}",
            *(f"% {one_line(job)}" for job in unfinished(table)),
            "",
        ]
    )


FORMATS: Final[Mapping[TextFormat, Callable[[Table], str]]] = {
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}


def in_latex(text: str) -> str:
    """Text as LaTeX prints it, on one line."""
    quoted = QUOTED.sub(r"``\1''", one_line(text))
    escaped = "".join(LATEX.get(character, character) for character in quoted)
    return SIGNED.sub(r"$\1$", SIZE.sub(r"$\\times$", escaped))


def _caption(table: Table) -> str:
    metrics = ", ".join(
        f"{metric.name} ({'lower' if metric.direction == 'min' else 'higher'} is better)" for metric in table.metrics
    )
    return f"{table.title}: {metrics}"


def _latex_texts(line: Line) -> list[str]:
    texts = [rf"\textbf{{{in_latex(text.words)}}}" if text.is_best else in_latex(text.words) for text in line.texts]
    if line.is_main:
        return [in_latex(line.label), *texts]
    small = [rf"\footnotesize {text}" if text else "" for text in texts]
    return [rf"\quad\footnotesize {in_latex(line.label)}", *small]


def _latex_row(texts: list[str]) -> str:
    # Behind the end of a row, a bracket or a star would be taken for its option.
    first = "{}" if texts[0].startswith(("[", "*")) else ""
    return f"{first}{' & '.join(texts)} \\\\"


def _markdown_texts(line: Line) -> list[str]:
    texts = [_in_markdown(text.words) for text in line.texts]
    label = _in_markdown(line.label)
    bold = [f"**{words}**" if text.is_best else words for text, words in zip(line.texts, texts, strict=True)]
    return [label if line.is_main else f"&nbsp;&nbsp;*{label}*", *bold]


def _markdown_row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _in_markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", one_line(text))


def _fields(table: Table) -> Iterator[str]:
    yield from ("metric", *_paths(table), "cell")
    yield from ("mean", "sd", "low", "high", "n", "n_expected", "is_complete", "best", "selected")
    yield from ("difference", "difference_low", "difference_high", "difference_n")
    yield from ("published", "published_spread", "published_spread_kind", "published_n", "within_published", "notes")


def _paths(table: Table) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for entry in (*table.rows, *table.columns) for path in entry.coordinates))


def _record(table: Table, row: Entry, column: Entry, cell: TableCell) -> dict[str, object]:
    places = {path: _plain(value) for path, value in (row.coordinates | column.coordinates).items()}
    metric = row.metric or column.metric or table.metrics[0].name
    record: dict[str, object] = {"metric": _plain(metric), **places}
    record |= cell.model_dump(include={"cell", "mean", "sd", "n", "n_expected", "is_complete", "best"})
    record |= {"within_published": cell.within_published, "notes": "; ".join(cell.notes)}
    record["selected"] = json.dumps(cell.selected) if cell.selected else None
    if cell.interval:
        record |= cell.interval.model_dump()
    if cell.difference:
        parts = {"": cell.difference.mean, "_low": cell.difference.low, "_high": cell.difference.high}
        record |= {f"difference{ending}": value for ending, value in parts.items()}
        record["difference_n"] = cell.difference.n
    if cell.published:
        known = cell.published
        record |= {"published": known.mean, "published_spread": known.spread, "published_n": known.n}
        record["published_spread_kind"] = known.spread_kind
    return record


def _plain(value: object) -> str | None:
    text = None if value is None else shown(value)  # type: ignore[arg-type]
    # A spreadsheet would take the text for a formula.
    return f"'{text}" if isinstance(value, str) and value.startswith(FORMULA) else text
