"""One draw and its backward pass beside the package `reinmax` and torch's Gumbel-softmax: speed and memory.

    python -m tests.benchmarks.bench_estimators [--rounds 15] [--threads 2]

All of a row's contestants run in turns in one process; ratios are medians over rounds. Two threads want two
idle cores: a core shared with another process makes every operation wait for it. Memory that is freed stays
with the process, as in the processes that train for the service: all contestants run several times faster and
far more evenly than where every large tensor is asked of the kernel page by page.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from reinmax import reinmax as published_reinmax
from torch import Tensor

from reinmax_core import reinmax
from reinmax_core.estimators import GappedStraightThrough, GumbelRao, GumbelSoftmax, Pathwise, ReinMax, StraightThrough
from tests.benchmarks import memory
from tests.benchmarks.memory import Draws

KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "33554432"}
SHAPES = ((65536, 2), (3000, 10), (8192, 64), (4096, 1024), (64, 32000))
SECONDS_A_TURN = 0.03


@dataclass(frozen=True)
class Contest:
    """A table: who is measured, against the first of them, and how many times faster the last must be by shape."""

    title: str
    draws: dict[str, Draws]
    wanted: tuple[float, ...]
    shapes: tuple[tuple[int, int], ...] = SHAPES
    dtype: torch.dtype = torch.float32
    into_both: bool = False
    """Whether a gradient arrives at the probabilities too."""

    def inputs(self, shape: tuple[int, int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        upstream = tuple(torch.randn(shape, dtype=self.dtype) for _ in range(2 if self.into_both else 1))
        return torch.randn(shape, dtype=self.dtype, requires_grad=True), upstream


def by(estimator: Pathwise) -> Draws:
    return lambda logits: (estimator.sample(logits),)


def contests() -> Iterator[Contest]:
    yield Contest(
        "float32, tau 1",
        {
            "package `reinmax`": lambda logits: published_reinmax(logits, 1.0),
            "`F.gumbel_softmax`": lambda logits: (torch.nn.functional.gumbel_softmax(logits, hard=True),),
            "`StraightThrough`": by(StraightThrough()),
            "`GumbelSoftmax`": by(GumbelSoftmax()),
            "`GappedStraightThrough`": by(GappedStraightThrough()),
            "`ReinMax`": by(ReinMax()),
            "`reinmax()`": lambda logits: reinmax(logits, 1.0),
        },
        (10, 5, 10, 12, 12),
    )
    yield Contest(
        "bfloat16, tau 1",
        {
            "package `reinmax`": lambda logits: published_reinmax(logits, 1.0),
            "`reinmax()`": lambda logits: reinmax(logits, 1.0),
        },
        (3, 3.5, 10, 10, 10),
        dtype=torch.bfloat16,
    )
    yield Contest(
        "float32, tau 1.3, gradients into both outputs",
        {
            "package `reinmax`": lambda logits: published_reinmax(logits, 1.3),
            "`reinmax()`": lambda logits: reinmax(logits, 1.3),
        },
        (2, 2, 4, 4, 4),
        into_both=True,
    )
    yield Contest(
        "Gumbel-Rao, K = 100, float32, tau 1",
        {"straightforward": lambda logits: (straightforward_rao(logits),), "`GumbelRao`": by(GumbelRao())},
        (4, 4),
        shapes=((3000, 10), (400, 8)),
    )


def straightforward_rao(logits: Tensor, tau: float = 1.0, samples: int = 100) -> Tensor:
    """Gumbel-Rao as its formula reads: K copies of the perturbed logits, and the mean of their softmaxes."""
    draws = torch.nn.functional.one_hot(torch.multinomial(logits.softmax(-1), 1).squeeze(-1), logits.shape[-1])
    with torch.no_grad():
        rings = torch.empty(samples, *logits.shape).exponential_()
        first = (rings * draws).sum(-1, keepdim=True)
        total = logits.logsumexp(-1, keepdim=True).exp()
        perturbed = torch.where(draws > 0, total.log() - rings.log(), -(rings / logits.exp() + first / total).log())
    soft = ((logits + (perturbed - logits).detach()) / tau).softmax(-1).mean(0)
    return draws + (soft - soft.detach())


def milliseconds(draws: Draws, logits: Tensor, upstream: tuple[Tensor, ...], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        torch.autograd.grad(draws(logits)[: len(upstream)], logits, upstream)
    return (time.perf_counter() - started) / repeats * 1e3


def rounds_of(contest: Contest, shape: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    inputs = contest.inputs(shape)
    repeats = {}
    for name, draws in contest.draws.items():
        milliseconds(draws, *inputs, 2)
        repeats[name] = max(1, round(SECONDS_A_TURN * 1e3 / milliseconds(draws, *inputs, 2)))
    times: dict[str, list[float]] = {name: [] for name in contest.draws}
    for _ in range(rounds):
        for name, draws in contest.draws.items():
            times[name].append(milliseconds(draws, *inputs, repeats[name]))
    return times


def cell(first: list[float], mine: list[float]) -> str:
    faster = statistics.median(a / b for a, b in zip(first, mine, strict=True))
    return f"{statistics.median(mine):.3f} ({faster:.1f}x)"


def speed(contest: Contest, rounds: int) -> None:
    """Prints a row a shape: median milliseconds, and how many times faster than the first contestant."""
    first, *_ = contest.draws
    print(
        f"\n| {contest.title}: ms | {' | '.join(contest.draws)} | wanted |\n|---|{'---:|' * (len(contest.draws) + 1)}"
    )
    for shape, wanted in zip(contest.shapes, contest.wanted, strict=True):
        times = rounds_of(contest, shape, rounds)
        cells = [cell(times[first], mine) for mine in times.values()]
        print(f"| {shape[0]}x{shape[1]} | {' | '.join(cells)} | {wanted}x |", flush=True)


def space(contest: Contest) -> None:
    """Prints a row a shape: saved beyond the outputs, and peak, in tensors of the size of the logits."""
    print(f"\n| {contest.title}: saved, peak | {' | '.join(contest.draws)} |\n|---|{'---:|' * len(contest.draws)}")
    for shape in contest.shapes:
        logits, upstream = contest.inputs(shape)
        pairs = [(memory.saved(draw, logits), memory.peak(draw, logits, upstream)) for draw in contest.draws.values()]
        cells = [f"{saved:.2f}, {peak:.1f}" for saved, peak in pairs]
        print(f"| {shape[0]}x{shape[1]} | {' | '.join(cells)} |", flush=True)


def space_by_samples() -> None:
    """Prints what Gumbel-Rao's peak does as K grows."""
    logits, upstream = torch.randn(3000, 10, requires_grad=True), (torch.randn(3000, 10),)
    peaks = {samples: memory.peak(by(GumbelRao(samples=samples)), logits, upstream) for samples in (100, 300, 1000)}
    print(
        "\nPeak of `GumbelRao` at 3000x10 by K:", ", ".join(f"{samples}: {peak:.0f}" for samples, peak in peaks.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if not os.environ.keys() >= KEEPING_MEMORY.keys():
        command = [sys.executable, "-m", "tests.benchmarks.bench_estimators", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | KEEPING_MEMORY, check=False).returncode)
    torch.set_num_threads(arguments.threads)
    for contest in contests():
        speed(contest, arguments.rounds)
        space(contest)
    space_by_samples()


if __name__ == "__main__":
    main()
