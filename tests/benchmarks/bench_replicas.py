"""Steps a second of ten runs trained side by side, beside the same ten trained one after the other.

    python -m tests.benchmarks.bench_replicas [--rounds 5] [--replicas 10]

Both sides take turns in one process; the steps of all replicas count. The ratio is taken round by round, for one
thread and for two.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from reinmax_core import RunSpec, Trainer
from reinmax_core.replicas import Replicas, trainers_of


@dataclass(frozen=True)
class Case:
    """A task, how much faster its replicas are wanted, and steps of each replica at a time."""

    name: str
    task: dict[str, Any]
    wanted: float
    steps: int


CASES = (
    Case("polynomial, batch 64", {"name": "polynomial"}, 3.0, 200),
    Case("categorical_vae 8x4, batch 100", {"name": "categorical_vae"}, 1.15, 20),
    Case("categorical_vae 10x30, batch 100", {"name": "categorical_vae", "categories": 10, "latents": 30}, 1.0, 20),
)


def trainers(case: Case, replicas: int) -> tuple[Trainer, ...]:
    known = {"task": case.task, "estimator": "reinmax", "steps": 10**8, "log_every": 10**3, "evaluate_every": 10**8}
    return trainers_of([RunSpec.model_validate(known | {"seed": seed}) for seed in range(replicas)])


def rate(steps: Iterator[object], many: int) -> float:
    started = time.perf_counter()
    for _ in islice(steps, many):
        pass
    return many / (time.perf_counter() - started)


def one_after_the_other(runs: list[Iterator[object]], many: int) -> float:
    return statistics.harmonic_mean([rate(run, many) for run in runs])


def measure(case: Case, replicas: int, rounds: int) -> str:
    packed, alone = iter(Replicas(trainers(case, replicas))), [iter(one) for one in trainers(case, replicas)]
    rate(packed, case.steps * replicas), one_after_the_other(alone, case.steps // 4)
    pairs = [(rate(packed, case.steps * replicas), one_after_the_other(alone, case.steps // 2)) for _ in range(rounds)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"| {case.name} | {torch.get_num_threads()} | {ours:.4g} | {theirs:.4g} | {ratio:.2f} | {case.wanted} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=10)
    settings = parser.parse_args()
    print("| task | threads | side by side, steps/s | one after the other, steps/s | ratio, median | wanted |")
    print("|---|---:|---:|---:|---:|---:|")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for case in CASES:
            print(measure(case, settings.replicas, settings.rounds), flush=True)


if __name__ == "__main__":
    main()
