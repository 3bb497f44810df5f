"""Tables and plots of sweeps over real HTTP, by the client and on the command line; the jobs are ended by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from reinmax_core.run import Result
from service.client import Client
from tests.service.conftest import Run
from tests.service.test_jobs import started
from tests.worker.samples import progress
from worker.jobs import Failure, JobProgress
from worker.series import Series
from worker.store import JobStore
from worker.submission import Cause

GRID = {"estimator": ["reinmax", {"name": "gumbel_softmax", "tau": 0.5}], "task.p": [2, 3]}
OFFSETS = {"reinmax": 0.0, "gumbel_softmax": 0.1}
TASK = {"name": "polynomial", "latents": 64}


def end(store: JobStore, job_id: str, seconds: float = 1.0) -> None:
    """Leads a job to success with a loss that estimator, exponent and seed say."""
    job = store.get(job_id)
    value = OFFSETS[job.spec.estimator.name] + job.spec.task.model_dump()["p"] / 10 + job.spec.seed / 100
    attempt = started(store, job_id)
    steps = list(range(1, 11))
    series = {"loss": Series(steps, [value + 1 / step for step in steps]), "expected_loss": Series([10], [value])}
    attempt.report(series, progress(100), {"expected_loss": value})
    result = Result(metrics={"expected_loss": value, "gap": value / 2}, best=None, wall_time_s=seconds)
    attempt.succeed(result, (), JobProgress(step=100, steps=100, percent=100))


def sweep_of(http: httpx.Client, **fields: Any) -> str:
    body = {"base": {"task": TASK, "steps": 100}, "grid": GRID, "seeds": 3} | fields
    return str(http.post("/v1/sweeps", json=body).raise_for_status().json()["id"])


def jobs_of(http: httpx.Client, sweep: str) -> list[str]:
    """The ids of its jobs, cell by cell and seed by seed."""
    jobs = http.get("/v1/jobs", params={"sweep": sweep, "limit": 200}).raise_for_status().json()["data"]
    return [str(job["id"]) for job in sorted(jobs, key=lambda job: str(job["id"]))]


@pytest.fixture
def ended(http: httpx.Client, store: JobStore) -> str:
    """A sweep of two estimators, two exponents and three seeds, all of whose jobs have succeeded."""
    sweep = sweep_of(http, name="two by two")
    for job in jobs_of(http, sweep):
        end(store, job)
    return sweep


@pytest.fixture
def client(api_url: str) -> Iterator[Client]:
    with Client(api_url) as client:
        yield client


def words(image: bytes) -> set[str]:
    root = ElementTree.fromstring(image)  # noqa: S314  (our own)
    return {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}


class TestTable:
    def test_a_sweep_is_a_table_of_means_and_spreads(self, http: httpx.Client, ended: str) -> None:
        table = http.get(f"/v1/sweeps/{ended}/table").raise_for_status().json()
        assert [row["label"] for row in table["rows"]] == ["reinmax", "gumbel_softmax"]
        assert [column["label"] for column in table["columns"]] == ["p=2", "p=3"]
        first = table["cells"][0][0]
        assert (first["n"], first["n_expected"], first["best"]) == (3, 3, True)
        assert first["mean"] == pytest.approx(0.21)
        assert first["sd"] == pytest.approx(0.01)
        assert (table["is_complete"], table["metrics"]) == (True, [{"name": "expected_loss", "direction": "min"}])

    def test_layout_metric_and_baseline_are_the_users(self, http: httpx.Client, ended: str) -> None:
        asked = {"rows": "task.p", "metric": "gap,wall_time_s", "baseline": "reinmax"}
        table = http.get(f"/v1/sweeps/{ended}/table", params=asked).raise_for_status().json()
        assert [row["label"] for row in table["rows"]] == ["p=2", "p=3"] * 2
        assert [row["metric"] for row in table["rows"]] == ["gap", "gap", "wall_time_s", "wall_time_s"]
        difference = table["cells"][0][1]["difference"]
        assert (difference["mean"], difference["n"]) == (pytest.approx(0.05), 3)
        assert (table["compared"], table["baseline"]) == ("columns", "reinmax")

    def test_what_is_named_twice_counts_once(self, http: httpx.Client, ended: str) -> None:
        path = f"/v1/sweeps/{ended}/table"
        once, twice = (http.get(f"{path}?metric={metric}").raise_for_status().json() for metric in ("gap", "gap,gap"))
        assert twice == once

    @pytest.mark.parametrize(
        ("format", "kind", "beginning"),
        [
            ("csv", "text/csv; charset=utf-8; header=present", "metric,estimator,task.p,cell,mean"),
            ("markdown", "text/markdown; charset=utf-8", "**two by two: expected\\_loss (lower is better)**"),
            ("latex", "application/x-latex; charset=utf-8", "% \\usepackage{booktabs,amssymb}"),
        ],
    )
    def test_it_comes_in_every_format(
        self, http: httpx.Client, ended: str, format: str, kind: str, beginning: str
    ) -> None:
        answer = http.get(f"/v1/sweeps/{ended}/table", params={"format": format})
        assert answer.headers["Content-Type"] == kind
        assert answer.text.startswith(beginning)

    def test_the_best_of_an_axis_may_be_chosen(self, http: httpx.Client, ended: str) -> None:
        table = http.get(f"/v1/sweeps/{ended}/table", params={"select": "task.p"}).raise_for_status().json()
        assert [line[0]["selected"] for line in table["cells"]] == [{"task.p": 2}] * 2

    def test_a_sweep_under_way_shows_what_is_there(self, http: httpx.Client, store: JobStore) -> None:
        sweep = sweep_of(http, seeds=2)
        empty = http.get(f"/v1/sweeps/{sweep}/table").raise_for_status().json()
        assert {cell["mean"] for line in empty["cells"] for cell in line} == {None}
        first, second, third, *_ = jobs_of(http, sweep)
        end(store, first)
        started(store, second).fail(Cause.DIVERGED, Failure(type="Diverged", message="a loss was not finite"))
        started(store, third).report({}, progress(50), {"expected_loss": 0.1})
        table = http.get(f"/v1/sweeps/{sweep}/table").raise_for_status().json()
        cell = table["cells"][0][0]
        assert (cell["n"], cell["n_expected"], cell["sd"], cell["is_complete"]) == (1, 2, None, False)
        assert table["cells"][0][1]["mean"] is None  # a job under way says nothing about the end
        assert [(job["job"], job["status"]) for job in table["unfinished"]] == [(second, "failed")]
        assert table["counts"] == {"succeeded": 1, "failed": 1, "running": 1, "queued": 5}

    def test_a_sweep_without_one_of_its_jobs_is_not_complete(self, http: httpx.Client, ended: str) -> None:
        tag = http.get(f"/v1/sweeps/{ended}/table").headers["ETag"]
        http.delete(f"/v1/jobs/{jobs_of(http, ended)[0]}").raise_for_status()
        answer = http.get(f"/v1/sweeps/{ended}/table", headers={"If-None-Match": tag})
        assert answer.status_code == 200
        table = answer.json()
        cell = table["cells"][0][0]
        assert (cell["n"], cell["n_expected"], table["is_complete"]) == (2, 3, False)
        assert "Incomplete: 11 of 12 jobs have succeeded (1 deleted)." in table["notes"]

    def test_a_preset_stands_beside_its_published_numbers(self, http: httpx.Client, store: JobStore) -> None:
        sweep = str(http.post("/v1/sweeps", json={"preset": "table-2", "seeds": 1}).raise_for_status().json()["id"])
        attempt = started(store, jobs_of(http, sweep)[0])
        metrics = {"train_loss": 127.0, "test_loss": 128.0}
        attempt.succeed(Result(metrics=metrics, best=None, wall_time_s=1.0), (), progress(100))
        table = http.get(f"/v1/sweeps/{sweep}/table").raise_for_status().json()
        cell = table["cells"][0][0]
        assert cell["published"]["mean"] == 126.85
        assert (cell["within_published"], cell["published"]["difference"]) == (True, pytest.approx(0.15))

    def test_a_known_table_is_not_sent_again_until_a_job_ends(self, http: httpx.Client, store: JobStore) -> None:
        path = f"/v1/sweeps/{sweep_of(http, seeds=1)}/table"
        tag = http.get(path).headers["ETag"]
        assert http.get(path, headers={"If-None-Match": tag}).status_code == 304
        assert http.get(f"{path}?metric=gap", headers={"If-None-Match": tag}).status_code == 200
        end(store, jobs_of(http, path.split("/")[3])[0])
        assert http.get(path, headers={"If-None-Match": tag}).status_code == 200

    @pytest.mark.parametrize(
        ("query", "parameter", "message"),
        [
            (
                "metric=accuracy",
                "metric",
                "no metric 'accuracy'; those that exist are: expected_loss, gap, wall_time_s",
            ),
            ("rows=task.q", "rows", "no axis 'task.q'; did you mean 'task.p'? Those that exist are: estimator, task.p"),
            ("baseline=exact", "baseline", "one of: reinmax, gumbel_softmax, p=2, p=3"),
            (f"metric={','.join(f'm{number}' for number in range(33))}", "metric", "at most 32; found 33"),
            ("format=html", "format", "'json', 'csv', 'markdown' or 'latex'"),
            ("seeds=3", "seeds", "those that exist are: baseline, columns, format, metric, rows, select"),
        ],
    )
    def test_wrong_parameters_are_told_with_what_exists(
        self, http: httpx.Client, ended: str, query: str, parameter: str, message: str
    ) -> None:
        answer = http.get(f"/v1/sweeps/{ended}/table?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        (mistake,) = answer.json()["errors"]
        assert mistake["parameter"] == parameter
        assert message in mistake["message"]

    @pytest.mark.parametrize("path", ["table", "plot.svg", "plot.png"])
    def test_a_sweep_that_is_not_there_has_none(self, http: httpx.Client, path: str) -> None:
        answer = http.get(f"/v1/sweeps/sweep_none/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "sweep_not_found")


class TestPlots:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {"two by two", "reinmax", "gumbel_softmax", "p=2", "p=3", "expected_loss"}),
            ("kind=line", {"two by two", "p", "2", "3", "reinmax", "expected_loss"}),
            ("kind=curves", {"optimiser steps", "reinmax", "p=2"}),
            ("kind=curves&metric=loss", {"loss", "Mean ± standard deviation over 3 seeds."}),
        ],
    )
    def test_every_kind_is_drawn_and_labelled(
        self, http: httpx.Client, ended: str, query: str, expected: set[str]
    ) -> None:
        answer = http.get(f"/v1/sweeps/{ended}/plot.svg?{query}").raise_for_status()
        assert answer.headers["Content-Type"] == "image/svg+xml"
        assert expected <= words(answer.content)

    def test_png_is_drawn_too(self, http: httpx.Client, ended: str) -> None:
        answer = http.get(f"/v1/sweeps/{ended}/plot.png").raise_for_status()
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")
        assert http.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("kind=line&x=estimator", "those that have are: task.p"),
            ("kind=curves&metric=kl", "no series 'kl'; those that exist are: expected_loss, loss"),
            ("x=task.p", "x is for kind=line; with kind=bars leave it out"),
            ("baseline=reinmax", "leave it out"),
            ("kind=pie", "'bars', 'line' or 'curves'"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(self, http: httpx.Client, ended: str, query: str, message: str) -> None:
        answer = http.get(f"/v1/sweeps/{ended}/plot.svg?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert message in answer.json()["errors"][0]["message"]

    def test_the_curves_of_a_job_are_drawn(
        self, http: httpx.Client, store: JobStore, submit: Callable[..., str]
    ) -> None:
        job_id = submit(name="my job", seed=4)
        assert "no values yet" in words(http.get(f"/v1/jobs/{job_id}/plot.svg").content)
        series = {"loss": Series([1, 2], [1.0, 0.5]), "test_loss": Series([2], [0.6]), "kl": Series([1, 2], [3.0, 4.0])}
        started(store, job_id).report(series, progress(2), {})
        assert {"my job · seed 4", "loss", "test_loss", "kl"} <= words(http.get(f"/v1/jobs/{job_id}/plot.svg").content)
        assert "kl" not in words(http.get(f"/v1/jobs/{job_id}/plot.svg?series=loss,test_loss").content)
        assert http.get(f"/v1/jobs/{job_id}/plot.png").content.startswith(b"\x89PNG")
        refused = http.get(f"/v1/jobs/{job_id}/plot.svg?series=accuracy")
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["parameter"] == "series"
        assert http.get("/v1/jobs/job_none/plot.svg").json()["code"] == "job_not_found"


class TestClient:
    def test_tables_and_plots_are_calls(self, client: Client, ended: str) -> None:
        table = client.table(ended, rows=["task.p"], metrics=["gap"], baseline="reinmax")
        assert [row.label for row in table.rows] == ["p=2", "p=3"]
        rows = list(csv.DictReader(io.StringIO(client.table_text(ended, "csv", select=["task.p"]))))
        assert [json.loads(row["selected"]) for row in rows] == [{"task.p": 2}] * 2
        assert b"<svg" in client.plot(ended, kind="line", x="task.p")

    def test_the_curves_of_a_job_are_one(self, client: Client, http: httpx.Client, ended: str) -> None:
        image = client.plot_of_job(jobs_of(http, ended)[0], series=["loss"], form="png")
        assert image.startswith(b"\x89PNG")


class TestCommands:
    def test_a_table_is_printed_for_people(self, run: Run, ended: str) -> None:
        done = run("table", ended, "--baseline", "reinmax")
        assert done.returncode == 0, done.stderr
        assert "two by two" in done.stdout
        assert "0.310 ± 0.010" in done.stdout
        assert "Δ reinmax" in done.stdout
        assert "95 % confidence interval" in done.stdout

    def test_and_in_other_formats_for_programs_and_papers(self, run: Run, ended: str) -> None:
        assert json.loads(run("table", ended, "--json").stdout)["title"] == "two by two"
        assert run("table", ended, "--format", "latex", "--metric", "gap").stdout.count("toprule") == 1

    def test_files_are_of_the_kind_that_their_name_ends_in(self, run: Run, ended: str, tmp_path: Any) -> None:
        for name, beginning in (("a.md", b"**two"), ("a.png", b"\x89PNG")):
            assert run("table", ended, "--output", name).stdout == f"{name}\n"
            assert (tmp_path / name).read_bytes().startswith(beginning)
        assert "choose one of .json, .csv, .md, .tex, .svg, .png" in run("table", ended, "-o", "a.pdf").stderr

    def test_a_plot_is_saved(self, run: Run, http: httpx.Client, ended: str, tmp_path: Any) -> None:
        job = jobs_of(http, ended)[0]
        assert json.loads(run("plot", ended, "--kind", "curves", "-o", "c.png", "--json").stdout) == {"path": "c.png"}
        assert run("plot", job).stdout == f"{job}.svg\n"
        assert b"<svg" in (tmp_path / f"{job}.svg").read_bytes()

    def test_a_wrong_metric_is_told_with_those_that_exist(self, run: Run, ended: str) -> None:
        done = run("table", ended, "--metric", "accuracy")
        assert (done.returncode, done.stdout) == (1, "")
        assert "those that exist are: expected_loss, gap, wall_time_s" in done.stderr
