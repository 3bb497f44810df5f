"""Runs whose tensors no machine can hold are refused before they begin, and all published ones are not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from reinmax_core import RunSpec
from reinmax_core.tasks.size import too_large

OWN = {"dataset": "own.npz", "image_shape": [1024, 1024]}


def test_a_tensor_is_too_large_from_the_limit_on() -> None:
    assert too_large("a", {"batch": 10**4, "latents": 400_000}) is None
    assert too_large("The draws of a step", {"batch": 10**4, "samples": 1, "latents": 400_001}, each=2) == (
        "The draws of a step would be batch 10000 x latents 400001 x 2 numbers, which take 32 GB in single precision, "
        "but a tensor may take 16 GB at most; lower batch or latents"
    )


@pytest.mark.parametrize(
    ("task", "estimator", "words"),
    [
        (
            {"name": "polynomial", "latents": 10**6, "batch": 10**6},
            "reinmax",
            ["batch 1000000 x latents 1000000 x 2 numbers", "8,000 GB", "lower batch or latents"],
        ),
        (
            {"name": "categorical_vae", "categories": 65536, "latents": 65536},
            "reinmax",
            ["latents 65536 x categories 65536", "lower latents or categories"],
        ),
        (
            {"name": "categorical_vae", "batch": 10000, "categories": 1024, "latents": 1024},
            "reinmax",
            ["batch 10000 x latents 1024 x categories 1024", "42 GB"],
        ),
        (
            {"name": "categorical_vae", "batch": 10000},
            {"name": "rloo", "samples": 10000},
            ["batch 10000 x draws of 'rloo' 10000", "pixels of image_shape 784", "314 GB"],
        ),
        ({"name": "categorical_vae", "batch": 10000} | OWN, "reinmax", ["batch 10000 x pixels of image_shape 1048576"]),
        ({"name": "bernoulli_vae", "batch": 10000, "samples": 10000}, "reinmax", ["batch 10000 x samples 10000"]),
        ({"name": "bernoulli_vae", "hidden": 65536}, "reinmax", ["hidden 65536 x 65536 numbers", "17 GB"]),
        (
            {"name": "bernoulli_vae", "hidden": 4096} | OWN,
            "reinmax",
            ["pixels of image_shape 1048576 x hidden 4096", "17 GB"],
        ),
        ({"name": "bernoulli_vae", "latents": 65536, "hidden": 65536}, "reinmax", ["hidden 65536"]),
        ({"name": "bernoulli_vae", "latents": 65536, "batch": 10000, "samples": 10}, "reinmax", ["latents 65536"]),
        ({"name": "bernoulli_vae", "hidden": 32768, "batch": 10000, "samples": 20}, "reinmax", ["hidden 32768"]),
        (
            {"name": "listops", "batch": 10000, "hidden": 4096},
            "reinmax",
            ["batch 10000 x hidden 4096", "GB", "lower batch or hidden"],
        ),
        ({"name": "gradient_quality", "batch": 10000} | OWN, "rloo", ["batch 10000 x pixels of image_shape 1048576"]),
        (
            {"name": "gradient_quality", "categories": 16384, "latents": 1} | OWN,
            "rloo",
            ["categories^latents 16384 x pixels of image_shape 1048576 x 2 numbers"],
        ),
    ],
)
def test_sizes_beyond_all_machines_are_refused(task: dict[str, Any], estimator: object, words: list[str]) -> None:
    with pytest.raises(ValidationError) as refusal:
        RunSpec.model_validate({"task": task, "estimator": estimator})
    (error,) = refusal.value.errors()
    assert all(word in error["msg"] for word in words), error["msg"]
    assert "16 GB at most" in error["msg"]


@pytest.mark.parametrize(
    "task",
    [
        {"name": "polynomial", "latents": 10**6, "batch": 1000},
        {"name": "categorical_vae", "categories": 64, "latents": 32, "batch": 200},
        {"name": "categorical_vae", "categories": 65536, "latents": 16},
        {"name": "bernoulli_vae", "latents": 1000, "hidden": 4096, "batch": 1000},
        {"name": "listops", "batch": 128, "hidden": 1024},
        {"name": "gradient_quality", "categories": 128, "latents": 2, "batch": 1000},
    ],
)
def test_large_runs_are_accepted(task: dict[str, Any]) -> None:
    RunSpec.model_validate({"task": task, "estimator": "reinmax"})
