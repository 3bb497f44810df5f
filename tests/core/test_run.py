"""The language of a run: short and full forms, published defaults, refusals."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.run import RunSpec
from reinmax_core.tasks.base import Task
from reinmax_core.value import discover

TASKS = tuple(discover(Task))
ESTIMATORS = tuple(discover(Estimator))


def spec(**settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": "polynomial", "estimator": "reinmax"} | settings)


def refusal(**settings: Any) -> tuple[tuple[str | int, ...], str]:
    """Place and message of the one mistake in the settings."""
    with pytest.raises(ValidationError) as caught:
        spec(**settings)
    (error,) = caught.value.errors()
    pointer = error.get("ctx", {}).get("pointer")
    return ((pointer,) if pointer else error["loc"]), error["msg"]


def test_short_and_full_form_mean_the_same() -> None:
    short = spec(task="categorical_vae", tau=1.2)
    full = spec(
        task={"name": "categorical_vae", "dataset": "mnist", "categories": 8, "latents": 4, "batch": 100},
        estimator={"name": "reinmax", "tau": 1.2},
        optimizer={"name": "adam", "lr": 5e-4},
        steps=96_000,
        seed=0,
    )
    assert short == full


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_spec_with_its_defaults_spelled_out_is_the_same_spec(task: str, estimator: str) -> None:
    if discover(Task)[task]().objection(discover(Estimator)[estimator]()):  # type: ignore[call-arg]
        with pytest.raises(ValidationError):
            spec(task=task, estimator=estimator)
        return
    complete = spec(task=task, estimator=estimator)
    assert RunSpec.model_validate_json(complete.model_dump_json()) == complete
    assert RunSpec.model_validate(complete.model_dump()) == complete


@pytest.mark.parametrize(
    ("estimator", "size", "optimizer", "lr", "tau"),
    [
        ("reinmax", (8, 4), "adam", 5e-4, 1.3),
        ("reinmax", (4, 24), "radam", 5e-4, 1.5),
        ("straight_through", (8, 4), "adam", 1e-3, 1.3),
        ("gumbel_softmax", (10, 30), "radam", 5e-4, 0.5),
        ("gumbel_rao", (64, 8), "adam", 7e-4, 2.0),
        ("gapped_straight_through", (16, 12), "radam", 7e-4, 0.5),
    ],
)
def test_published_settings_fill_the_gaps(
    estimator: str, size: tuple[int, int], optimizer: str, lr: float, tau: float
) -> None:
    task = {"name": "categorical_vae", "categories": size[0], "latents": size[1]}
    filled = spec(task=task, estimator=estimator)
    assert (filled.optimizer.name, filled.optimizer.lr, filled.estimator.tau) == (optimizer, lr, tau)


def test_what_is_given_is_not_overruled() -> None:
    given = spec(task="categorical_vae", tau=1.0, optimizer={"name": "adam", "lr": 0.01}, steps=7)
    assert (given.estimator.tau, given.optimizer.lr, given.steps) == (1.0, 0.01, 7)


def test_the_published_learning_rate_is_for_the_published_optimiser() -> None:
    assert spec(task="categorical_vae", optimizer="sgd").optimizer.lr == 1e-2


def test_the_published_protocol_holds_for_other_optimisers_too() -> None:
    named = spec(task="listops", optimizer="adam")
    assert (named.optimizer.lr, named.optimizer.clip_norm, named.optimizer.schedule.patience) == (1e-3, 5.0, 4)
    given = spec(task="listops", optimizer={"clip_norm": None, "schedule": None}, evaluate_every=10)
    assert (given.optimizer.lr, given.optimizer.clip_norm, given.optimizer.schedule) == (7e-4, None, None)
    assert given.evaluate_every == 10


def test_tau_twice_is_accepted_if_equal() -> None:
    assert spec(estimator={"name": "reinmax", "tau": 1.5}, tau=1.5).estimator.tau == 1.5


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"task": "polynomal"}, ("task",), ["'polynomal'", "'polynomial'", "'categorical_vae'"]),
        ({"estimator": "reinmx"}, ("estimator",), ["'reinmx'", "'reinmax'", "'straight_through'"]),
        ({"optimizer": "adamm"}, ("optimizer",), ["'adamm'", "'adam'", "'radam'", "'sgd'"]),
        ({"stepz": 3}, ("stepz",), ["not permitted"]),
        ({"steps": 0}, ("steps",), ["greater than or equal to 1"]),
        ({"seed": -1}, ("seed",), ["greater than or equal to 0"]),
        ({"tau": 0.5}, ("estimator", "reinmax", "tau"), ["1"]),
        ({"tau": 1.5, "estimator": {"name": "reinmax", "tau": 1.4}}, ("tau",), ["1.5", "1.4", "one of the two"]),
        ({"tau": 1.5, "estimator": "reinforce"}, ("tau",), ["'reinforce'", "no temperature"]),
        ({"task": {"name": "polynomial", "p": 0}}, ("task", "polynomial", "p"), ["greater than 0"]),
        ({"estimator": {"name": "rloo", "samples": 65}}, ("estimator",), ["64", "65", "at least"]),
        (
            {"task": {"name": "categorical_vae", "latents": 30}, "estimator": "exact"},
            ("estimator",),
            ["8^30", "max_states"],
        ),
        ({"steps": 10**9, "log_every": 999}, ("log_every",), ["999", "1001001 points", "raise it to 1000"]),
        ({"optimizer": {"name": "sgd", "nesterov": True}}, ("optimizer", "sgd"), ["momentum"]),
    ],
)
def test_mistakes_are_named_with_their_place(
    settings: dict[str, Any], place: tuple[str | int, ...], words: list[str]
) -> None:
    found, message = refusal(**settings)
    assert found == place
    for word in words:
        assert word in message


def test_task_and_estimator_have_to_be_given() -> None:
    with pytest.raises(ValidationError) as caught:
        RunSpec.model_validate({})
    assert {"task", "estimator"} <= {error["loc"][0] for error in caught.value.errors()}


def test_a_task_that_draws_inside_its_model_needs_a_pathwise_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    polynomial = discover(Task)["polynomial"]
    monkeypatch.setattr(polynomial, "needs_pathwise", True)
    for name, estimator in discover(Estimator).items():
        if issubclass(estimator, Pathwise):
            assert spec(estimator=name)
        else:
            assert "pathwise" in refusal(estimator=name)[1]


def test_every_field_is_described_in_the_schema() -> None:
    schema = RunSpec.model_json_schema()
    undescribed = [
        f"{name}.{field}"
        for name, definition in [("RunSpec", schema), *schema["$defs"].items()]
        for field, about in definition.get("properties", {}).items()
        if field != "name" and "description" not in about
    ]
    assert undescribed == []
    assert json.dumps(schema)
