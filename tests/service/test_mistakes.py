"""Wrong submissions: where each mistake is, as the user wrote it, and what it says."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reinmax_core.estimators.base import Estimator
from reinmax_core.run import RunSpec
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover
from service.mistakes import Written
from worker.submission import Submission

JSON = {"Content-Type": "application/json"}
GOOD: dict[str, Any] = {"task": "polynomial", "estimator": "reinmax"}
ESTIMATORS, TASKS = ", ".join(discover(Estimator)), ", ".join(discover(Task))

MISTAKES: list[tuple[dict[str, Any], str, list[str]]] = [
    (GOOD | {"task": "polynomal"}, "/task", ['"polynomal"', 'did you mean "polynomial"?', TASKS]),
    (GOOD | {"estimator": "remax"}, "/estimator", ['"remax"', 'did you mean "reinmax"?', ESTIMATORS]),
    (GOOD | {"estimator": {"name": "qqq"}}, "/estimator/name", ['"qqq"', ESTIMATORS]),
    (GOOD | {"estimator": {"tau": 1}}, "/estimator/name", ["estimator should be a name"]),
    (GOOD | {"estimator": 3}, "/estimator", ["3"]),
    ({"estimator": "reinmax"}, "/task", ["task is missing"]),
    (GOOD | {"tau": 0.5}, "/tau", ["tau should be greater than or equal to 1", "found 0.5"]),
    (GOOD | {"tau": "hot"}, "/tau", ["valid number", '"hot"']),
    (GOOD | {"estimator": {"name": "reinmax", "tau": 0.5}}, "/estimator/tau", ["greater than or equal to 1", "0.5"]),
    (GOOD | {"estimator": {"name": "reinmax", "tau": 2}, "tau": 3}, "/tau", ["3", "2", "one of the two"]),
    (GOOD | {"estimator": "exact", "tau": 2}, "/tau", ["'exact' has no temperature"]),
    (GOOD | {"estimator": {"name": "reinmax", "tua": 2}}, "/estimator/tua", ['"tua"', 'did you mean "tau"?']),
    (
        GOOD | {"task": {"name": "categorical_vae", "prior": "learned"}},
        "/task/prior",
        ['unknown field "prior"; those that exist are: activation, ', "; bernoulli_vae has it"],
    ),
    (
        GOOD | {"estimator": {"name": "reinmax", "samples": 2}},
        "/estimator/samples",
        ["; arms, disarm, double_cv, gumbel_rao, "],
    ),
    (GOOD | {"stepz": 2}, "/stepz", ['"stepz"', 'did you mean "steps"?']),
    (GOOD | {"lr": 0.1}, "/lr", ["setting of the optimizer", '{"optimizer": {"name": ..., "lr": ...}}']),
    (GOOD | {"a~/b": 1}, "/a~0~1b", ["unknown field"]),
    (GOOD | {"steps": 0}, "/steps", ["greater than or equal to 1", "found 0"]),
    (GOOD | {"seed": 2**53}, "/seed", ["less than or equal to 9007199254740991", str(2**53)]),
    (GOOD | {"hardware": "gpu"}, "/hardware", ["'any', 'cpu' or 'cuda'", '"gpu"']),
    (GOOD | {"hardware": {"device": "gpu"}}, "/hardware/device", ["'any', 'cpu' or 'cuda'", '"gpu"']),
    (GOOD | {"hardware": {"device": "cpu", "memory_gb": -1}}, "/hardware/memory_gb", ["found -1"]),
    (GOOD | {"labels": {"a/b": "x"}}, "/labels/a~1b", ["should match pattern", "a/b"]),
    (GOOD | {"labels": {"a": 1}}, "/labels/a", ["valid string", "found 1"]),
    (GOOD | {"optimizer": {"name": "adam", "betas": [0.9, 2]}}, "/optimizer/betas/1", ["less than 1", "found 2"]),
    (GOOD | {"task": {"name": "polynomial", "c": "cubic"}}, "/task/c", ["valid number", "'linear'", '"cubic"']),
    (
        GOOD | {"task": {"name": "polynomial", "c": 200}},
        "/task/c",
        ["c should be less than or equal to 100, or 'linear'; found 200"],
    ),
    (
        GOOD | {"task": {"name": "categorical_vae", "image_shape": [32]}},
        "/task/image_shape",
        ["image_shape should have more items than 1; found [32]"],
    ),
    (
        GOOD | {"task": {"name": "categorical_vae", "image_shape": []}},
        "/task/image_shape",
        ["image_shape should have more items than 0; found []"],
    ),
    (
        GOOD | {"task": {"name": "polynomial", "batch": 3}, "estimator": "rloo"},
        "/estimator",
        ["batch is 3", "at least 4"],
    ),
    (
        GOOD | {"task": {"name": "categorical_vae", "dataset": "mnits"}},
        "/task/dataset",
        ["no data set 'mnits'", "fashion_mnist, mnist, omniglot", "own/letters.npz"],
    ),
    (
        GOOD | {"task": {"name": "bernoulli_vae", "dataset": "../x.npz"}},
        "/task/dataset",
        ["'../x.npz'", "below the data"],
    ),
    (
        GOOD | {"task": {"name": "gradient_quality", "image_shape": [9, 9]}},
        "/task/image_shape",
        ["[28, 28] for 'mnist', but is [9, 9]"],
    ),
    (GOOD | {"name": "x" * 300}, "/name", ["at most 256 characters", '"xxx', "..."]),
    (GOOD | {"priority": 10}, "/priority", ["less than or equal to 9", "found 10"]),
]


@pytest.mark.parametrize(
    ("body", "pointer", "words"), MISTAKES, ids=[f"{number} {case[1]}" for number, case in enumerate(MISTAKES)]
)
def test_a_mistake_is_where_the_user_made_it(
    http: httpx.Client, body: dict[str, Any], pointer: str, words: list[str]
) -> None:
    answer = http.post("/v1/jobs", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    for word in words:
        assert word in problem["errors"][0]["message"]
    assert problem["detail"] == problem["errors"][0]["message"]
    assert problem["detail"].count("; found ") <= 1


@pytest.mark.parametrize(
    ("body", "pointer", "words"), MISTAKES, ids=[f"{number} {case[1]}" for number, case in enumerate(MISTAKES)]
)
def test_mistakes_in_a_run_without_a_service_are_told_the_same(
    body: dict[str, Any], pointer: str, words: list[str]
) -> None:
    if pointer.split("/")[1] in Submission.model_fields.keys() - RunSpec.model_fields.keys():
        words = ["unknown field"]
        pointer = "/".join(pointer.split("/")[:2])
    with pytest.raises(ValidationError) as refusal:
        RunSpec.model_validate(body)
    (mistake,) = Written(body, RunSpec).mistakes(refusal.value.errors())
    assert mistake.pointer == pointer
    assert all(word in mistake.message for word in words), mistake.message


def test_all_mistakes_are_told_at_once(http: httpx.Client) -> None:
    body = {"task": "polynomal", "estimator": {"name": "reinmax", "tau": -1}, "seed": -1, "extra": {}}
    problem = http.post("/v1/jobs", json=body).json()
    assert {error["pointer"] for error in problem["errors"]} == {"/task", "/estimator/tau", "/seed", "/extra"}
    assert "4 mistakes" in problem["detail"]


def test_thousands_of_mistakes_give_a_short_answer(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json=GOOD | {f"field{number}": "x" * 50 for number in range(10_000)})
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


def test_numbers_that_json_does_not_know_are_refused(http: httpx.Client) -> None:
    body = b'{"task": "polynomial", "estimator": {"name": "gumbel_softmax", "tau": Infinity}}'
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/estimator/tau"]


@pytest.mark.parametrize(
    ("query", "parameter", "words"),
    [
        ("limit=0", "limit", ["greater than or equal to 1", '"0"']),
        ("limit=many", "limit", ["valid integer", '"many"']),
        ("status=done", "status", ["'succeeded'", '"done"']),
        ("task=vae", "task", ["'categorical_vae'", '"vae"']),
        ("estimator=st", "estimator", ["'straight_through'", '"st"']),
        ("stauts=queued", "stauts", ["did you mean 'status'?"]),
        ("label=x", "label", ["label.KEY"]),
    ],
)
def test_a_wrong_parameter_is_named(http: httpx.Client, query: str, parameter: str, words: list[str]) -> None:
    answer = http.get(f"/v1/jobs?{query}")
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["parameter"]) == (422, parameter)
    for word in words:
        assert word in error["message"]


def test_labels_are_no_parameters_elsewhere(http: httpx.Client) -> None:
    answer = http.get("/v1/workers?label.a=b")
    assert answer.json()["errors"][0]["message"] == "unknown query parameter 'label.a'; there are none here"


WORDS = "task estimator optimizer tau name steps hardware labels c betas reinmax polynomial lr batch device gpus"
NAMES = st.sampled_from(["", *WORDS.split()])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES
VALUES = st.recursive(SCALARS, lambda value: st.lists(value, max_size=3) | st.dictionaries(NAMES, value, max_size=4))

FIELDS = st.dictionaries(NAMES, VALUES, max_size=4)
NEARLY_GOOD = st.builds(
    lambda task, estimator, optimizer, others: (
        {
            "task": {"name": "polynomial"} | task,
            "estimator": {"name": "reinmax"} | estimator,
            "optimizer": {"name": "sgd"} | optimizer,
        }
        | others
    ),
    *[FIELDS] * 4,
)


@given(body=NEARLY_GOOD | FIELDS | VALUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_every_mistake_is_somewhere_in_it(http: httpx.Client, body: Any) -> None:
    answer = http.post("/v1/jobs", params={"dry_run": True}, content=json.dumps(body), headers=JSON)
    assert answer.status_code in (200, 400, 422)
    for error in answer.json().get("errors", ()):
        assert error["message"]
        *parents, last = error["pointer"].split("/")
        place = body
        for part in parents[1:]:
            place = place[int(part)] if isinstance(place, list) else place[part]
        assert not parents or isinstance(place, (dict, list)), (error, last)
