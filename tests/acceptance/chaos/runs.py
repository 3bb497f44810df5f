"""What the jobs train: many tasks and estimators, each run short, and each given to several jobs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy

from reinmax_core.data.base import DataSource
from reinmax_core.data.mnist import Mnist
from reinmax_core.forms import packable
from reinmax_core.run import RunSpec

IMAGES: Final = "own/digits.npz"
TRAINING_IMAGES, TEST_IMAGES = 600, 100
SHORTEST_S, MEAN_EXCESS_S = 2.0, 3.0
"""Runs take at least the first, and on average less than both together."""
SIBLINGS: Final = 2
"""Runs that differ in their seeds alone, where such can be trained side by side."""

_SMALL = {"dataset": IMAGES, "batch": 20, "bound_images": 20, "bound_samples": 5}
_VAE: Final[dict[str, object]] = {"name": "categorical_vae", "categories": 8, "latents": 4} | _SMALL
_BINARY: Final[dict[str, object]] = {"name": "bernoulli_vae", "latents": 20} | _SMALL


@dataclass(frozen=True)
class Pair:
    """A task with an estimator, and about how many steps one core makes in a second."""

    task: str | dict[str, object]
    estimator: str
    rate: float


PAIRS: Final = (
    *(
        Pair("polynomial", estimator, rate)
        for estimator, rate in {
            "reinmax": 2500, "straight_through": 2700, "argmax_straight_through": 2900, "gumbel_softmax": 2500,
            "gumbel_rao": 320, "gapped_straight_through": 1900, "reinforce": 2700, "rloo": 2500, "relax": 460,
            "rebar": 890, "disarm": 2600, "arms": 1900, "double_cv": 1200, "rodeo": 310, "reinmax_rao": 300,
            "reinmax_cv": 200, "exact": 2600,
        }.items()
    ),
    Pair(_VAE, "reinmax", 340),
    Pair(_VAE, "gumbel_softmax", 340),
    Pair(_VAE, "relax", 150),
    Pair(_BINARY, "disarm", 540),
    Pair(_BINARY, "rodeo", 270),
)  # fmt: skip
"""Learned estimators among them, whose own parameters, optimiser and draws a resumed run must bring back too."""


def write_images(data_dir: Path) -> None:
    """Puts a few real digits where runs look for the user's own images."""
    digits = Mnist().load(DataSource.from_environment())
    path = data_dir / IMAGES
    path.parent.mkdir(parents=True, exist_ok=True)
    numpy.savez(path, train_images=digits.train_images[:TRAINING_IMAGES], test_images=digits.test_images[:TEST_IMAGES])


def draw_specs(count: int, longest_s: float, seed: int) -> list[dict[str, Any]]:
    """Run specs of different seeds and lengths, at most so many seconds each.

    One that can be trained side by side with others is followed by one that it can be trained with.
    """
    chance, seeds = random.Random(seed), itertools.count(1000 * seed)
    kinds = (_spec(pair, longest_s, chance) for pair in _pairs(chance))
    specs = (kind | {"seed": next(seeds)} for kind in kinds for _ in range(_siblings(kind)))
    return list(itertools.islice(specs, count))


def _siblings(kind: dict[str, Any]) -> int:
    return SIBLINGS if packable(RunSpec.model_validate(kind)) else 1


def _pairs(chance: random.Random) -> Iterator[Pair]:
    """Every pair again and again, in another order each time; images among the first few, however few are drawn."""
    images = [pair for pair in PAIRS if pair.task == _VAE]
    yield from (PAIRS[0], chance.choice(images))
    while True:
        yield from chance.sample(PAIRS, len(PAIRS))


def _spec(pair: Pair, longest_s: float, chance: random.Random) -> dict[str, Any]:
    """All of a run but its seed."""
    seconds = min(longest_s, SHORTEST_S + chance.expovariate(1 / MEAN_EXCESS_S))
    steps = round(seconds * pair.rate)
    return {
        "task": pair.task,
        "estimator": pair.estimator,
        "steps": steps,
        "log_every": 7,
        "evaluate_every": max(1, steps // 5),
    }
