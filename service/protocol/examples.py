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

GRID: Final = {
    "base": {"task": "polynomial", "steps": 2000, "hardware": "cpu"},
    "grid": {
        "estimator": ["reinmax", "straight_through", "rloo"],
        "estimator.tau": [1.0, 1.3],
        "optimizer.lr": {"from": 1e-4, "to": 1e-2, "count": 3, "scale": "log"},
    },
    "seeds": 10,
    "select": {"over": ["estimator.tau", "optimizer.lr"]},
    "name": "which rate",
    "labels": {"study": "rates"},
}

GRIDS: Final = {
    "base": {"task": "polynomial", "steps": 2000},
    "grid": [
        {"estimator": ["reinmax", "straight_through"], "estimator.tau": [1.0, 1.3, 1.5]},
        {"estimator": ["gumbel_softmax"], "estimator.tau": [0.3, 0.5, 1.0]},
        {"estimator": ["exact"]},
    ],
    "seeds": 5,
    "select": {"over": ["estimator.tau"]},
}

COUPLED: Final = {
    "base": {"task": {"name": "categorical_vae", "dataset": "mnist"}, "estimator": "reinmax"},
    "grid": {"task": [{"categories": 8, "latents": 4}, {"categories": 4, "latents": 24}]},
    "seeds": [0, 1, 2],
}

SEARCH: Final = {
    "base": {"task": "polynomial", "estimator": "gumbel_softmax", "steps": 2000},
    "search": {
        "trials": 20,
        "fields": {
            "optimizer.lr": {"low": 1e-4, "high": 1e-1, "scale": "log"},
            "estimator.tau": {"low": 0.1, "high": 2.0},
        },
    },
    "seeds": 3,
}

PRESET: Final = {"preset": "table-2-smoke", "seeds": 3}

SWEEPS: Final[dict[str, Example]] = {
    "grid": Example(summary="A grid", description="Lists, a range, and an axis that one estimator lacks.", value=GRID),
    "grids": Example(summary="Several grids", description="Temperatures that suit each estimator.", value=GRIDS),
    "coupled": Example(summary="Coupled fields", description="Objects stand for several fields.", value=COUPLED),
    "search": Example(summary="A search", description="Fields whose best values are looked for.", value=SEARCH),
    "preset": Example(summary="A published table", description="What stands beside it changes it.", value=PRESET),
}

EXTENSIONS: Final[dict[str, Example]] = {
    "count": Example(summary="Seeds 0 to 19", description="Those that are there stay.", value={"seeds": 20}),
    "list": Example(summary="Two more", description="Those that are there stay.", value={"seeds": [10, 11]}),
}

SUBMISSIONS: Final[dict[str, Example]] = {
    "short": Example(summary="Short form", description="Whatever is left out is filled in.", value=SHORT),
    "full": Example(summary="Full form", description="The same as objects, with all settings.", value=FULL),
}
