"""What a short spec is filled in with: the published tables' settings, and the length of the published runs."""

from __future__ import annotations

from typing import Any

import pytest

from reinmax_core import RunSpec


def spec(task: dict[str, Any], estimator: str | dict[str, Any], **settings: Any) -> RunSpec:
    return RunSpec.model_validate({"task": task, "estimator": estimator} | settings)


def categorical(categories: int, latents: int, **settings: Any) -> dict[str, Any]:
    return {"name": "categorical_vae", "categories": categories, "latents": latents} | settings


@pytest.mark.parametrize(
    ("size", "optimizer", "tau", "control_tau", "eta"),
    [
        ((8, 4), "adam", 1.3, 1.0, 1.5),
        ((4, 24), "radam", 1.5, 1.3, 1.5),
        ((8, 16), "radam", 1.5, 1.1, 1.5),
        ((16, 12), "radam", 1.5, 0.7, 1.5),
        ((64, 8), "radam", 1.5, 0.7, 1.5),
        ((10, 30), "radam", 1.3, 0.7, 1.0),
    ],
)
def test_reinmax_cv_has_the_settings_of_each_size(
    size: tuple[int, int], optimizer: str, tau: float, control_tau: float, eta: float
) -> None:
    filled = spec(categorical(*size), "reinmax_cv")
    found = filled.estimator
    assert (filled.optimizer.name, filled.optimizer.lr) == (optimizer, 5e-4)
    assert (found.tau, found.control_tau, found.eta) == (tau, control_tau, eta)


def test_what_is_given_of_an_estimator_is_kept_and_the_rest_filled_in() -> None:
    found = spec(categorical(8, 4), {"name": "reinmax_cv", "eta": 0.3}).estimator
    assert (found.tau, found.control_tau, found.eta) == (1.3, 1.0, 0.3)
    assert spec(categorical(9, 9), "reinmax_cv").estimator.control_tau == 0.7, "no row: the estimator's own default"


@pytest.mark.parametrize("size", [(64, 32), (32, 64)])
def test_the_larger_setting_is_filled_in_whichever_way_it_is_read(size: tuple[int, int]) -> None:
    filled = spec(categorical(*size, batch=200, activation="leaky_relu"), "reinmax")
    assert (filled.optimizer.name, filled.optimizer.lr, filled.estimator.tau) == ("radam", 5e-4, 1.1)
