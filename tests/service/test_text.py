"""Strings that JSON can name and nothing can hold: refused where they stand, by every route that reads a body."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

HALF = "\ud800"
JOB: dict[str, Any] = {"task": "polynomial", "estimator": "reinmax"}
JSON = {"Content-Type": "application/json"}


def refused(http: httpx.Client, path: str, body: object) -> dict[str, str]:
    """Messages by pointer of a request that is refused, with which nothing is started."""
    answer = http.post(path, content=json.dumps(body), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert http.get("/v1/sweeps").json()["data"] == http.get("/v1/jobs").json()["data"] == []
    return {mistake["pointer"]: mistake["message"] for mistake in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/jobs", JOB | {"labels": {"a": f"b{HALF}"}}, "/labels/a"),
        ("/v1/jobs", JOB | {"labels": {HALF: "b"}}, "/labels"),
        ("/v1/jobs", JOB | {"task": HALF}, "/task"),
        ("/v1/jobs", HALF, ""),
        ("/v1/sweeps", {"base": JOB, "name": HALF}, "/name"),
        ("/v1/sweeps", {"preset": HALF}, "/preset"),
        ("/v1/sweeps", {"base": JOB, "labels": {"a": HALF}}, "/labels/a"),
        ("/v1/sweeps", {"base": JOB, "grid": {HALF: [1]}}, "/grid"),
        ("/v1/sweeps", {"base": JOB, "grid": {"labels.a/b": ["c", HALF]}}, "/grid/labels.a~1b/1"),
        ("/v1/sweeps", {"base": JOB, "grid": {"labels": [{"a": HALF}]}}, "/grid/labels/0/a"),
        ("/v1/sweeps/sweep_none/extend", {"seeds": HALF}, "/seeds"),
    ],
)
def test_half_of_a_character_is_refused_where_it_stands(
    http: httpx.Client, path: str, body: object, pointer: str
) -> None:
    found = refused(http, path, body)
    assert list(found) == [pointer]
    assert "should be Unicode text" in found[pointer] and "\\ud800" in found[pointer]


def test_all_are_named_however_deep_they_are(http: httpx.Client) -> None:
    deep: object = HALF
    for _ in range(400):
        deep = [deep]
    found = refused(http, "/v1/sweeps", {"name": HALF, "base": {"labels": deep}})
    assert list(found) == ["/name", f"/base/labels{'/0' * 400}"]


def test_a_character_in_two_halves_is_one(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content=json.dumps(JOB | {"labels": {"a": "🙂"}}), headers=JSON)
    assert answer.json()["labels"] == {"a": "🙂"}
