"""Tables of sweeps in every format, read back: for programs, for papers, and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from typing import Any

import pytest
from rich.console import Console

from service.commands.tables import shown
from service.tables.formats import as_csv, as_latex, as_markdown, in_latex
from service.tables.labels import Labels, in_full
from service.tables.layout import Wishes
from service.tables.lines import head, lines
from service.tables.table import Table
from service.tables.tabulation import tabulate
from tests.service.sweeps import ESTIMATORS, LOSSES, SIZES, by_estimator, outcomes, sweep
from worker.jobs import State
from worker.sweep import Axis


class TestFormats:
    def table(self) -> Table:
        found = sweep({"estimator": ESTIMATORS, "task": SIZES}, name="50 % of a_sweep & {more} | all")
        return tabulate(found, outcomes(found, by_estimator), wishes=Wishes(baseline="reinmax"))

    def test_json_reads_back(self) -> None:
        table = self.table()
        assert Table.model_validate_json(table.model_dump_json()) == table

    def test_csv_has_a_row_a_cell_and_every_digit(self) -> None:
        rows = list(csv.DictReader(io.StringIO(as_csv(self.table()))))
        assert len(rows) == 6
        second = next(row for row in rows if row["estimator"] == "straight_through")
        assert json.loads(second["task"]) == SIZES[0]
        assert float(second["mean"]) == 5.0
        assert float(second["sd"]) == statistics.stdev(LOSSES["straight_through"])
        assert (float(second["difference"]), second["difference_n"]) == (2.0, "3")
        assert (second["n"], second["best"], second["published"]) == ("3", "False", "")

    def test_markdown_rows_have_as_many_columns(self) -> None:
        text = as_markdown(self.table())
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
        assert "**3.0 ± 2.6**" in text
        assert r"\| all" in text
        assert "95 % confidence interval" in text

    def test_latex_rows_have_as_many_columns_and_nothing_unescaped(self) -> None:
        text = as_latex(self.table())
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
        assert r"\begin{tabular}{lrrr}" in text
        assert r"\textbf{3.0 $\pm$ 2.6}" in text
        assert r"50 \% of a\_sweep \& \{more\}" in text
        assert r"8$\times$4" in text
        without_math = re.sub(r"\$[^$]*\$", "", body)
        assert not re.search(r"(?<!\\)[_%#^~]", without_math)
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")

    def test_what_users_wrote_breaks_no_row_and_runs_nowhere(self) -> None:
        bad = "x\n\\input{/etc/passwd} | y"
        found = sweep(
            {"labels": [{"a": bad}, {"a": "z"}], "task.c": [0.5, bad], "estimator": ["=cmd()", "-1"]}, seeds=1
        )
        made = outcomes(found, lambda at, seed: {"loss": 1.0}, {(0, 0): State.CANCELLED})
        table = tabulate(found, made, wishes=Wishes(metrics=("loss",)))
        assert all(line.startswith("%") for line in as_latex(table).splitlines() if "job_0_0" in line)
        assert not any(line.startswith("\\input") for line in as_latex(table).splitlines())
        assert not any(ord(character) < 32 for entry in (*table.rows, *table.columns) for character in entry.label)
        rows = [line for line in as_markdown(table).splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(head(table)) + 1}
        assert {row["estimator"] for row in csv.DictReader(io.StringIO(as_csv(table)))} == {"'=cmd()", "'-1"}

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("a_b", r"a\_b"), ("\\{~^", r"\textbackslash{}\{\textasciitilde{}\textasciicircum{}"), ("-0.5", "$-$0.5"),
         ('"so"', "``so''"), ("2x200 ± 1 ✓", r"2$\times$200 $\pm$ 1 $\checkmark$"), ("1e-05", "1e-05")],
    )  # fmt: skip
    def test_latex_prints_what_was_meant(self, text: str, expected: str) -> None:
        assert in_latex(text) == expected

    @pytest.mark.parametrize(
        ("unit", "expected"),
        [(1e-3, "0.2030 ± 0.0026"), (1.0, "3.2 ± 2.6"), (1e3, "3000 ± 2646"), (1e-12, "2.000e-01 ± 2.646e-12")],
    )
    def test_numbers_have_the_digits_that_their_spread_allows(self, unit: float, expected: str) -> None:
        found = sweep({"estimator": ["reinmax"]})
        made = outcomes(found, lambda at, seed: {"expected_loss": 0.2 + unit * LOSSES["reinmax"][seed]})
        assert next(iter(lines(tabulate(found, made)))).texts[0].words == expected


class TestTerminal:
    def test_columns_that_have_no_room_beside_each_other_stand_below(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": list(range(2, 10))})
        table = tabulate(found, outcomes(found, by_estimator), wishes=Wishes(baseline="reinmax"))
        for width, parts in ((80, 3), (300, 1)):
            screen = Console(width=width, file=io.StringIO(), record=True)
            for part in shown(table, width):
                screen.print(part)
            text = screen.export_text()
            assert "…" not in text
            assert sum(line.startswith("estimator ") for line in text.splitlines()) == parts
            assert text.count("3.0 ± 2.6") == len(range(2, 10))


class TestLabels:
    @pytest.mark.parametrize(
        ("path", "values", "expected"),
        [
            ("task", SIZES, ["8x4", "4x24"]),
            ("task", [SIZES[0], {"categories": 4, "latents": 4}], ["categories=8", "categories=4"]),
            ("task", [{"categories": 8, "latents": 4, "batch": 1}, {"categories": 4, "latents": 24, "batch": 2}],
             ["categories=8 latents=4 batch=1", "categories=4 latents=24 batch=2"]),
            ("estimator", ["reinmax", {"name": "gumbel_softmax", "tau": 0.5}, {"name": "gumbel_softmax", "tau": 1.0}],
             ["reinmax", "gumbel_softmax tau=0.5", "gumbel_softmax tau=1.0"]),
            ("estimator", ["reinmax", {"name": "gumbel_rao", "samples": 10}], ["reinmax", "gumbel_rao"]),
            ("optimizer.lr", [0.001, 0.0001], ["lr=0.001", "lr=0.0001"]),
            ("task.c", [0.45, "linear"], ["c=0.45", "c=linear"]),
            ("task.dataset", ["mnist", None], ["mnist", "–"]),
            ("packing", [True, False], ["packing=true", "packing=false"]),
        ],
    )  # fmt: skip
    def test_values_read_as_people_say_them(self, path: str, values: list[Any], expected: list[str]) -> None:
        labels = Labels([Axis(path=path, values=tuple(values))])
        assert [labels.value(path, value) for value in values] == expected

    @pytest.mark.parametrize(
        ("path", "value", "expected"),
        [("task", SIZES[0], "8x4"), ("estimator", {"name": "gumbel_softmax", "tau": 0.5}, "gumbel_softmax tau=0.5"),
         ("estimator", {"name": "reinmax"}, "reinmax"), ("estimator.tau", 0.31622776601683794, "tau=0.3162")],
    )  # fmt: skip
    def test_a_value_alone_is_told_with_all_of_its_fields(self, path: str, value: Any, expected: str) -> None:
        assert in_full(path, value) == expected

    def test_axes_that_end_alike_are_told_in_full(self) -> None:
        labels = Labels([Axis(path="optimizer.lr", values=(1,)), Axis(path="task.lr", values=(2,))])
        assert labels.entry({"optimizer.lr": 1, "task.lr": 2}) == "optimizer.lr=1 task.lr=2"
