"""The requests that the documentation shows; the tests send them."""

from __future__ import annotations

from typing import Final

from fastapi.openapi.models import Example

SHORT: Final = {"task": "categorical_vae", "estimator": "reinmax", "tau": 1.3, "hardware": "any", "seed": 0}

FULL: Final = {
    "task": {"name": "categorical_vae", "dataset": "mnist", "categories": 8, "latents": 4},
    "estimator": {"name": "reinmax", "tau": 1.3},
    "optimizer": {"name": "adam", "lr": 5e-4},
    "steps": 96000,
    "seed": 0,
    "hardware": {"device": "cuda", "gpus": 1, "memory_gb": 8},
    "name": "table 2, first cell",
    "labels": {"study": "table-2"},
    "priority": 5,
    "timeout_s": 86400,
    "max_attempts": 3,
    "max_attempts_by_cause": {"oom": 1},
}

SUBMISSIONS: Final[dict[str, Example]] = {
    "short": Example(summary="Short form", description="Whatever is left out is filled in.", value=SHORT),
    "full": Example(summary="Full form", description="The same as objects, with all settings.", value=FULL),
}
