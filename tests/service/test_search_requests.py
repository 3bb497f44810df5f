"""Requests for searches: what is wrong with them is told where it is written, before anything starts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from service.commands.search_display import search_summary
from tests.worker.search_trials import carry_out, look, waiting
from worker.jobs import Reason
from worker.search import BestTrial, SearchProgress
from worker.store import JobStore

LR = {"low": 1e-5, "high": 1e-2, "scale": "log"}
GOOD: dict[str, Any] = {
    "base": {"task": "polynomial", "estimator": "reinmax", "steps": 100},
    "search": {"trials": 3, "fields": {"optimizer.lr": LR}},
}


def body(**search: Any) -> dict[str, Any]:
    return GOOD | {"search": GOOD["search"] | search}


def on(path: str, **field: Any) -> dict[str, Any]:
    return body(fields={path: field})


@pytest.mark.parametrize(
    ("wrong", "pointer", "message"),
    [
        (on("optimizer.rl", low=0, high=1), "/search/fields/optimizer.rl", 'unknown field "rl" in optimizer'),
        (
            on("estimator.tau", low=0, high=1),
            "/search/fields/estimator.tau/low",
            "greater than or equal to 1; found 0",
        ),
        (
            on("optimizer.lr", low=1, high=1000),
            "/search/fields/optimizer.lr/high",
            "less than or equal to 100; found 1000",
        ),
        (on("optimizer.lr", low=1, high=1), "/search/fields/optimizer.lr/low", "low should be less than high; found"),
        (on("optimizer.lr", low=0, high=1, scale="log"), "/search/fields/optimizer.lr/low", "above 0 on a log scale"),
        (on("optimizer.lr", low=1), "/search/fields/optimizer.lr/high", "high is missing"),
        (on("optimizer.lr", low="1", high=2), "/search/fields/optimizer.lr/low", "low should be"),
        (on("task.batch", low=1.5, high=9), "/search/fields/task.batch/low", "batch should be a valid integer"),
        (
            on("optimizer.lr", low=0.5, high=9, integer=True),
            "/search/fields/optimizer.lr/low",
            "should be a whole number",
        ),
        (on("estimator", choices=["reinmax", "exakt"]), "/search/fields/estimator/choices/1", "there is no estimator"),
        (on("estimator", choices=["reinmax"]), "/search/fields/estimator/choices", "at least 2 items"),
        (
            on("estimator", choices=["exact", "exact"]),
            "/search/fields/estimator/choices/1",
            "stands among the choices twice",
        ),
        (on("estimator", choices=[1, 2], low=1), "/search/fields/estimator/low", "low stands beside choices"),
        (on("seed", low=0, high=9), "/search/fields/seed", "seed cannot be an axis"),
        (body(fields={"tau": LR, "estimator.tau": LR}), "/search/fields/estimator.tau", "is the same field as tau"),
        (body(fields={}), "/search/fields", "at least 1 item"),
        (body(trials=0), "/search/trials", "greater than or equal to 1; found 0"),
        (body(trials=9999) | {"seeds": 2}, "/search/trials", "are 19998 jobs, but a sweep may have 10000"),
        (
            on("task.latents", choices=[8, 16]),
            "/search/trials",
            "trials is 3, but the fields have 2 combinations at most",
        ),
        (body(sampler="cma"), "/search/sampler", "'tpe' or 'random'"),
        (body(early_stopping={"warm_up": 1}), "/search/early_stopping/warm_up", "less than 1; found 1"),
        (body(metrik="loss"), "/search/metrik", "unknown field"),
        (GOOD | {"base": GOOD["base"] | {"steps": 0}}, "/base/steps", "greater than or equal to 1; found 0"),
        (GOOD | {"grid": {"steps": [1, 2]}}, "/grid", "grid stands beside a search"),
        (GOOD | {"select": {"over": ["steps"]}}, "/select", "leave it out"),
    ],
)
def test_what_is_wrong_with_a_search_is_told(
    http: httpx.Client, wrong: dict[str, Any], pointer: str, message: str
) -> None:
    answer = http.post("/v1/sweeps", json=wrong)
    assert answer.status_code == 422
    (mistake,) = answer.json()["errors"]
    assert mistake["pointer"] == pointer
    assert message in mistake["message"]
    assert http.get("/v1/sweeps").json()["data"] == []


def test_a_search_is_previewed(http: httpx.Client) -> None:
    preview = http.post("/v1/sweeps?dry_run=true", json=GOOD | {"seeds": 2}).raise_for_status().json()
    assert (preview["cells"], preview["jobs"], preview["steps"], preview["first"]) == (3, 6, 600, [])
    assert preview["estimated_s"] is None


def test_a_search_is_told_in_a_line() -> None:
    search = SearchProgress(metric="loss", direction="min", trials=9)
    assert search_summary(search) == "0 of 9 trials complete"
    best = BestTrial(
        cell=1, coordinates={"estimator": "rloo", "estimator.tau": None, "optimizer.lr": 0.25}, value=1 / 3
    )
    note = Reason(code="exhausted", message="nothing is left")
    found = search.model_copy(update={"complete": 4, "pruned": 2, "running": 1, "best": best, "note": note})
    assert search_summary(found) == (
        "4 of 9 trials complete, 1 running, 2 pruned; best loss 0.333333 with estimator rloo, optimizer.lr 0.25; "
        "nothing is left"
    )


def test_a_search_is_shown_as_it_goes_on(http: httpx.Client, store: JobStore) -> None:
    accepted = http.post("/v1/sweeps", json=body(parallel=3, early_stopping=False)).raise_for_status()
    sweep_id, sweep = accepted.json()["id"], accepted.json()
    assert sweep["status"] == "queued" and sweep["search"]["note"]["code"] == "waiting"
    assert (sweep["search"]["metric"], sweep["search"]["direction"]) == ("expected_loss", "min")
    assert http.get(f"/v1/sweeps/{sweep_id}/table").status_code == 200
    look(store)
    carry_out(store, waiting(store, sweep_id), lambda found: float(str(found["optimizer.lr"])))
    look(store)
    sweep = http.get(f"/v1/sweeps/{sweep_id}").raise_for_status().json()
    assert sweep["status"] == "succeeded" and sweep["percent"] == 100
    values = sweep["axes"][0]["values"]
    best = sweep["search"]["best"]
    assert best["coordinates"] == {"optimizer.lr": min(values)} and best["value"] == min(values)
    table = http.get(f"/v1/sweeps/{sweep_id}/table?format=csv").raise_for_status().text
    assert all(f"{value:g}" in table for value in values)
