"""One draw and its backward pass, in milliseconds, beside the package `reinmax` and torch's Gumbel-softmax.

    python -m tests.benchmarks.bench_estimators [--rounds 15] [--threads 2]

All of a row's contestants run in turns in one process; ratios are medians over rounds. Two threads want two
idle cores: a core shared with another process makes every operation wait for it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from reinmax import reinmax as published_reinmax
from torch import Tensor

from reinmax_core import reinmax
from reinmax_core.estimators import GappedStraightThrough, GumbelRao, GumbelSoftmax, Pathwise, ReinMax, StraightThrough

SHAPES = ((65536, 2), (3000, 10), (400, 8), (8192, 64), (4096, 1024))
RAO_SHAPES = ((3000, 10), (400, 8))

Draw = Callable[[Tensor], Tensor]


def by_estimator(estimator: Pathwise) -> Draw:
    return estimator.sample


def contestants() -> dict[str, Draw]:
    return {
        "package reinmax": lambda logits: published_reinmax(logits, 1.0)[0],
        "F.gumbel_softmax": lambda logits: torch.nn.functional.gumbel_softmax(logits, hard=True),
        "reinmax()": lambda logits: reinmax(logits, 1.0)[0],
        "ReinMax": by_estimator(ReinMax()),
        "ReinMax tau 1.3": by_estimator(ReinMax(tau=1.3)),
        "StraightThrough": by_estimator(StraightThrough()),
        "GumbelSoftmax": by_estimator(GumbelSoftmax()),
        "GappedStraightThrough": by_estimator(GappedStraightThrough()),
    }


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


def milliseconds(draw: Draw, logits: Tensor, upstream: Tensor, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        torch.autograd.grad(draw(logits), logits, upstream)
    return (time.perf_counter() - started) / repeats * 1e3


def rounds_of(draws: dict[str, Draw], shape: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    logits, upstream = torch.randn(shape, requires_grad=True), torch.randn(shape)
    repeats = {name: max(1, round(15 / milliseconds(draw, logits, upstream, 2))) for name, draw in draws.items()}
    times: dict[str, list[float]] = {name: [] for name in draws}
    for _ in range(rounds):
        for name, draw in draws.items():
            times[name].append(milliseconds(draw, logits, upstream, repeats[name]))
    return times


def cell(first: list[float], mine: list[float]) -> str:
    faster = statistics.median(a / b for a, b in zip(first, mine, strict=True))
    return f"{statistics.median(mine):.3f} ({faster:.1f}x)"


def table(draws: dict[str, Draw], shapes: tuple[tuple[int, int], ...], rounds: int) -> None:
    """Prints a row a shape: median milliseconds, and how many times faster than the first contestant."""
    first, *_ = draws
    print(f"\n| float32 | {' | '.join(draws)} |\n|---|{'---:|' * len(draws)}", flush=True)
    for rows, classes in shapes:
        times = rounds_of(draws, (rows, classes), rounds)
        cells = [cell(times[first], mine) for mine in times.values()]
        print(f"| {rows}x{classes} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table(contestants(), SHAPES, arguments.rounds)
    rao = {"straightforward Gumbel-Rao": straightforward_rao, "GumbelRao": by_estimator(GumbelRao())}
    table(rao, RAO_SHAPES, arguments.rounds)


if __name__ == "__main__":
    main()
