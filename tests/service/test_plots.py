"""Drawings of sweeps and jobs: that they are images, and say what they should."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from reinmax_core.presets import presets
from service.plots.bars import Bar, BarPanel
from service.plots.lines import Line, LinePanel
from service.plots.of_curves import curves, curves_of_job
from service.plots.of_table import bars, lines, wishes_over
from service.tables.labels import Labels
from service.tables.layout import Unfitting, Wishes
from service.tables.tabulation import tabulate
from tests.service.sweeps import outcomes, sweep
from worker.jobs import State
from worker.search import SearchProgress
from worker.series import Series
from worker.sweep import Selection, Sweep

ESTIMATORS = ["reinmax", "gumbel_softmax"]
STEPS = list(range(1, 101))


def words(image: bytes) -> list[str]:
    """The texts of an SVG, which is one."""
    root = ElementTree.fromstring(image)  # noqa: S314  (our own)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [text for element in root.iter("{http://www.w3.org/2000/svg}text") if (text := "".join(element.itertext()))]


def value(at: dict[str, Any], seed: int) -> dict[str, float]:
    return {"expected_loss": 1.0 + ESTIMATORS.index(at["estimator"]) + 0.1 * seed}


def curve(job: str) -> Mapping[str, Series]:
    """Of a job whose name ends in its seed."""
    seed = int(job.rpartition("_")[2])
    return {"loss": Series(STEPS, [100.0 / step + seed for step in STEPS]), "expected_loss": Series([100], [seed])}


@pytest.fixture
def two() -> Sweep:
    return sweep({"estimator": ESTIMATORS, "task.p": [2, 3]}, name="two estimators")


class TestBars:
    def test_they_are_named_and_labelled(self, two: Sweep) -> None:
        image = bars(tabulate(two, outcomes(two, value))).rendered("svg")
        found = words(image)
        assert {"two estimators", "reinmax", "gumbel_softmax", "p=2", "p=3", "expected_loss"} <= set(found)
        assert "Mean ± standard deviation over 3 seeds." in found
        assert "published" not in found

    def test_published_values_stand_beside_them(self) -> None:
        preset = presets()["table-1"]
        estimators = preset.sweep.axes["estimator"]
        assert isinstance(estimators, list)
        found = sweep({"estimator": estimators}, preset="table-1")
        made = outcomes(found, lambda at, seed: {"valid_accuracy": 0.6, "test_accuracy": 0.6 + seed / 100})
        image = bars(tabulate(found, made, preset=preset)).rendered("svg")
        assert {"published", "valid_accuracy", "(axis not from 0)", "reinmax"} <= set(words(image))

    def test_the_axis_begins_at_zero_unless_all_values_are_far_from_it(self) -> None:
        for means, limited in (([1.0, 3.0], False), ([100.0, 103.0], True), ([-1.0, 2.0], False), ([5.0, 5.0], False)):
            panel = BarPanel("", "loss", ["a", "b"], [("x", [Bar(mean, 0.0) for mean in means])])
            assert (panel._limits() is not None) == limited

    def test_the_same_table_is_the_same_file(self, two: Sweep) -> None:
        table = tabulate(two, outcomes(two, value))
        for form in ("svg", "png"):
            assert bars(table).rendered(form) == bars(table).rendered(form)  # type: ignore[arg-type]

    def test_a_png_is_large_enough_for_print(self, two: Sweep) -> None:
        image = Image.open(io.BytesIO(bars(tabulate(two, outcomes(two, value))).rendered("png")))
        assert image.format == "PNG"
        assert image.width >= 900

    def test_a_sweep_that_has_just_begun_is_drawn_empty(self, two: Sweep) -> None:
        table = tabulate(two, outcomes(two, lambda at, seed: None))
        assert "No job has succeeded yet." in words(bars(table).rendered("svg"))

    def test_control_characters_in_values_and_metrics_leave_it_an_image(self) -> None:
        found = sweep({"task.c": [0.5, "a\x08b\x00"]}, seeds=1)
        made = outcomes(found, lambda at, seed: {"loss": 1.0})
        image = bars(tabulate(found, made, wishes=Wishes(metrics=("loss",)))).rendered("svg")
        assert "c=a b" in words(image)

    def test_large_tables_are_drawn_in_part(self) -> None:
        found = sweep({"task.p": list(range(70)), "task.c": list(range(40))}, seeds=1)
        made = outcomes(found, lambda at, seed: {f"metric_{number}": 1.0 for number in range(14)})
        names = tuple(f"metric_{number}" for number in range(14))
        plot = bars(tabulate(found, made, wishes=Wishes(metrics=names)))
        assert len(plot._panels) == 12
        assert all(isinstance(panel, BarPanel) and len(panel.bars) == 60 for panel in plot._panels)
        assert all(isinstance(panel, BarPanel) and len(panel.groups) == 2 for panel in plot._panels)
        assert plot._notes[2:] == (
            "10 more bars are not drawn.", "38 more groups are not drawn.", "2 more panels are not drawn.",
        )  # fmt: skip

    def test_of_a_search_with_many_trials_the_legend_names_the_best(self) -> None:
        rates = [10.0 ** (-number / 10) for number in range(40)]
        found = sweep({"optimizer.lr": rates}, search=SearchProgress(metric="gap", direction="min", trials=40))
        made = outcomes(found, lambda at, seed: {"gap": at["optimizer.lr"] + 1} if at["optimizer.lr"] < 0.5 else None)
        plot = bars(tabulate(found, made))
        (panel,) = plot._panels
        assert isinstance(panel, BarPanel)
        assert len(panel.bars) == 36  # those without a value are left out
        assert list(panel.labels) == [f"lr={rates[39 - place]:.4g}" for place in range(12)]
        assert "The legend names the best 12 of 36; the others are grey." in plot._notes
        image = Image.open(io.BytesIO(plot.rendered("png")))
        few = Image.open(io.BytesIO(bars(tabulate(found, made[-6:])).rendered("png")))
        assert image.height > few.height
        assert found.id not in "".join(words(plot.rendered("svg")))

    def test_names_are_no_markup(self) -> None:
        found = sweep({"estimator": ESTIMATORS}, name="<script>alert(1)</script>\n& $\\bad \x00")
        image = bars(tabulate(found, outcomes(found, value))).rendered("svg")
        assert b"<script" not in image
        assert "<script>alert(1)</script> & $\\bad" in words(image)


class TestLines:
    def draw(self, of: Sweep, wishes: Wishes | None = None, x: str | None = None) -> list[str]:
        made = outcomes(of, lambda at, seed: {"expected_loss": 1.0 + seed + (at.get("task.p") or 0)})
        over, path = wishes_over(of, None, wishes or Wishes(), x)
        return words(lines(tabulate(of, made, wishes=over), path, Labels(of.axes)).rendered("svg"))

    def test_there_is_a_line_a_row_over_the_numbers_of_an_axis(self, two: Sweep) -> None:
        found = self.draw(two)
        assert {"p", "2", "3", "expected_loss", *ESTIMATORS} <= set(found)

    def test_the_temperature_comes_first_and_other_axes_are_panels(self) -> None:
        found = sweep({"task.p": [2, 3], "estimator": ESTIMATORS, "estimator.tau": [0.1, 1.0, 10.0]})
        texts = self.draw(found)
        assert {"tau", "p=2", "p=3", "0.1", "10"} <= set(texts)
        assert {"p", "tau=1.0"} <= set(self.draw(found, x="task.p"))

    def test_an_axis_is_not_chosen_from_where_it_is_drawn(self) -> None:
        select = Selection(over=("estimator.tau",), metric="expected_loss", direction="min")
        found = sweep({"estimator": ESTIMATORS, "estimator.tau": [0.5, 1.0]}, select=select)
        assert {"0.5", "1"} <= set(self.draw(found))

    def test_large_tables_are_drawn_in_part(self) -> None:
        found = sweep({"task.q": list(range(70)), "task.c": list(range(20)), "task.p": [2, 3]}, seeds=1)
        made = outcomes(found, lambda at, seed: {"expected_loss": 1.0})
        over, path = wishes_over(found, None, Wishes(rows=("task.q",)), "task.p")
        plot = lines(tabulate(found, made, wishes=over), path, Labels(found.axes))
        assert [len(panel.lines) for panel in plot._panels if isinstance(panel, LinePanel)] == [60] * 12
        assert plot._notes[2:] == ("10 more lines are not drawn.", "8 more panels are not drawn.")

    @pytest.mark.parametrize(
        ("x", "message"),
        [("estimator", "those that have are: task.p"), ("other", "which other has not"), (None, None)],
    )
    def test_an_axis_without_numbers_is_refused(self, two: Sweep, x: str | None, message: str | None) -> None:
        if message is None:
            two, message = sweep({"estimator": ESTIMATORS}), "no axis has; choose another kind of plot"
        with pytest.raises(Unfitting, match=message):
            wishes_over(two, None, Wishes(), x)


class TestCurves:
    def test_means_over_seeds_have_a_band(self, two: Sweep) -> None:
        made = outcomes(two, value)
        plot = curves(tabulate(two, made), made, curve, "loss")
        found = words(plot.rendered("svg"))
        assert {"optimiser steps", "loss", "p=2", "p=3", *ESTIMATORS} <= set(found)
        (panel, _) = plot._panels
        assert isinstance(panel, LinePanel)
        line = panel.lines[0]
        assert list(line.x) == STEPS
        assert line.mean[9] == pytest.approx(10 + 1)  # seeds 0, 1, 2
        assert line.spread[9] == pytest.approx(1.0)

    def test_the_training_loss_stands_for_its_mean_over_an_epoch(self) -> None:
        found = sweep({"estimator": ESTIMATORS})
        made = outcomes(found, lambda at, seed: {"train_loss": 1.0})
        table = tabulate(found, made, wishes=Wishes(metrics=("train_loss",)))
        assert "loss" in words(curves(table, made, curve).rendered("svg"))

    def test_jobs_under_way_are_drawn_while_none_has_ended(self) -> None:
        found = sweep({"estimator": ["reinmax"]}, seeds=2)
        made = outcomes(found, lambda at, seed: {"expected_loss": 1.0}, {(0, 0): State.RUNNING, (0, 1): State.RUNNING})
        lengths = {"job_0_0": 40, "job_0_1": 60}

        def read(job: str) -> dict[str, Series]:
            steps = STEPS[: lengths[job]]
            return {"loss": Series(steps, [1.0] * len(steps))}

        (panel,) = curves(tabulate(found, made), made, read)._panels
        assert isinstance(panel, LinePanel)
        assert panel.lines[0].x[-1] == 40

    def test_large_sweeps_are_drawn_in_part(self) -> None:
        found = sweep({"estimator": ESTIMATORS, "task.p": list(range(1, 21))}, seeds=30)
        made = outcomes(found, lambda at, seed: {"expected_loss": 1.0})
        read: list[str] = []

        def recorded(job: str) -> Mapping[str, Series]:
            read.append(job)
            return curve(job)

        plot = curves(tabulate(found, made), made, recorded)
        assert len(plot._panels) == 12
        assert len(read) == 240
        assert plot._notes[1:] == ("Not all seeds are drawn.", "8 more panels are not drawn.")

    def test_an_unknown_series_is_refused(self, two: Sweep) -> None:
        made = outcomes(two, value)
        with pytest.raises(Unfitting, match="there is no series 'kl'; those that exist are: expected_loss, loss"):
            curves(tabulate(two, made), made, curve, "kl")

    def test_a_late_part_that_would_be_flat_decides_the_axis(self) -> None:
        steep = Line("x", 0, STEPS, [1000.0 if step < 4 else 1.0 + step / 100 for step in STEPS], [None] * 100)
        svg = words(curves_plot(steep))
        assert "1000" not in svg


def curves_plot(line: Line) -> bytes:
    from service.plots.drawing import Plot

    return Plot("steep", [LinePanel("", "steps", "loss", [line])]).rendered("svg")


class TestCurvesOfAJob:
    SERIES: Mapping[str, Series] = {
        "loss": Series(STEPS, [1.0 / step for step in STEPS]),
        "test_loss": Series([50, 100], [0.5, 0.25]),
        "kl": Series(STEPS, [float(step) for step in STEPS]),
    }

    def test_quantities_have_panels_and_parts_of_the_data_share_one(self) -> None:
        plot = curves_of_job("a job", self.SERIES)
        assert len(plot._panels) == 2
        assert {"a job", "loss", "test_loss", "kl"} <= set(words(plot.rendered("svg")))

    def test_series_are_chosen_by_name(self) -> None:
        assert len(curves_of_job("a job", self.SERIES, ("kl",))._panels) == 1
        with pytest.raises(
            Unfitting, match=re.escape("no series 'accuracy'; those that exist are: kl, loss, test_loss")
        ):
            curves_of_job("a job", self.SERIES, ("accuracy",))

    def test_gaps_of_values_that_are_not_finite_are_left_open(self) -> None:
        image = curves_of_job("a job", {"loss": Series([1, 2, 3], [1.0, float("nan"), 2.0])}).rendered("svg")
        assert "loss" in words(image)

    def test_a_job_without_points_is_drawn_empty(self) -> None:
        assert "no values yet" in words(curves_of_job("a job", {}).rendered("svg"))
