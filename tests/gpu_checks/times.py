"""How long a draw and its backward pass take, beside the published package and beside copying the same bytes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

from reinmax_core import fused, reinmax
from tests.gpu_checks.runs import settle

SHAPES = ((100, 30, 10), (65536, 2), (3000, 10), (8192, 64), (4096, 1024), (64, 32000), (16384, 2048))
"""Of a VAE with 30 latents of 10 classes, of the benchmarks on CPUs, and one of 128 MB."""
MOST_ENTRIES_ON_A_CPU = 10**5
STREAMS = 6
"""Tensors of the size of the logits that must be moved: logits, draws, probabilities; logits, and two gradients."""

Pair = Callable[[Tensor], tuple[Tensor, Tensor]]


def times(device: str) -> str:
    """Milliseconds forward and backward, with a gradient at the draws, and the share that moving the bytes takes."""
    on_gpu = device.startswith("cuda")
    bandwidth = copied_bytes_a_second(device)
    pairs = contestants(on_gpu)
    lines = [
        f"copying moves {bandwidth / 1e9:.0f} GB/s",
        "",
        f"| | floor | {' | '.join(pairs)} |",
        "|---" * (len(pairs) + 2) + "|",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        shapes = [shape for shape in SHAPES if on_gpu or math.prod(shape) <= MOST_ENTRIES_ON_A_CPU]
        lines += [line(pairs, shape, dtype, device, bandwidth) for shape in shapes]
    return "\n".join(lines)


def contestants(on_gpu: bool) -> dict[str, Pair]:
    first = {"package reinmax": package} if find_spec("reinmax") else {"formula": straightforward}
    kernels = {"kernels": fused.reinmax, "kernels, in a CUDA graph": fused.reinmax} if on_gpu else {}
    return first | {"reinmax() in plain torch": in_plain_torch, "reinmax()": reinmax} | kernels


def line(pairs: dict[str, Pair], shape: tuple[int, ...], dtype: torch.dtype, device: str, bandwidth: float) -> str:
    logits = torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    upstream = torch.randn_like(logits)
    floor = STREAMS * logits.numel() * logits.element_size() / bandwidth * 1e3
    cells = []
    for name, pair in pairs.items():
        step = backward_too(pair, logits, upstream.detach())
        taken = milliseconds(captured(step) if name.endswith("graph") else step, device)
        cells.append(f"{taken:.3f} ({floor / taken:.0%})")
    size = "x".join(map(str, shape))
    return f"| {size} {str(dtype).removeprefix('torch.')} | {floor:.4f} | {' | '.join(cells)} |"


def backward_too(pair: Pair, logits: Tensor, upstream: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(pair(logits)[0], logits, upstream)


def captured(step: Callable[[], object]) -> Callable[[], object]:
    """The replay of a graph: what the GPU takes when the program that launches the kernels costs nothing."""
    from tests.gpu_checks.kernels import warmed_up

    warmed_up(step)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Callable[[], object], device: str) -> float:
    """The median of 15 rounds of about 10 ms each."""
    round_of(step, 3, device)
    repeats = max(1, round(10 / round_of(step, 3, device)))
    return statistics.median(round_of(step, repeats, device) for _ in range(15))


def round_of(step: Callable[[], object], repeats: int, device: str) -> float:
    settle(device)
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    settle(device)
    return (time.perf_counter() - began) / repeats * 1e3


def copied_bytes_a_second(device: str) -> float:
    source = torch.empty((2**29 if device.startswith("cuda") else 2**26) // 4, device=device).fill_(1)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / milliseconds(lambda: target.copy_(source), device) * 1e3


def package(logits: Tensor) -> tuple[Tensor, Tensor]:
    from reinmax import reinmax as published

    draws, probs = published(logits, 1.0)
    return draws, probs


def straightforward(logits: Tensor) -> tuple[Tensor, Tensor]:
    """ReinMax as its authors' algorithm reads, by detached surrogates."""
    probs = logits.softmax(-1)
    flat = probs.detach().reshape(-1, probs.shape[-1])
    drawn = torch.multinomial(flat.float(), 1).squeeze(-1)
    draws = torch.nn.functional.one_hot(drawn, flat.shape[-1]).to(logits.dtype).view(logits.shape)
    first = (draws + probs) / 2
    first = ((first.log() - logits).detach() + logits).softmax(-1)
    second = 2 * first - probs / 2
    return second - second.detach() + draws, probs


def in_plain_torch(logits: Tensor) -> tuple[Tensor, Tensor]:
    with without_kernels():
        return reinmax(logits, 1.0)


@contextmanager
def without_kernels() -> Iterator[None]:
    before, fused.enabled = fused.enabled, False
    try:
        yield
    finally:
        fused.enabled = before
