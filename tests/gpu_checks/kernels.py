"""The Triton kernels: what they draw, what they send back, and that graphs and compilers take them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reinmax_core import fused
from reinmax_core.estimators import ReinMax, StraightThrough
from reinmax_core.estimators.base import DrawDetermined
from tests.gpu_checks.draws import deviation, difference, exact

NO_GPU = "left out on a CPU"
SHAPES = (
    (1000, 2, torch.float32),
    (1000, 3, torch.float32),
    (1000, 10, torch.float32),
    (1000, 10, torch.bfloat16),
    (1000, 10, torch.float16),
    (200, 1000, torch.float32),
    (200, 1024, torch.float32),
    (200, 1024, torch.bfloat16),
    (8, 32000, torch.float32),
    (8, 32000, torch.bfloat16),
    (4, 65536, torch.float32),
)
BOUNDS = {dtype: 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps / 3 for *_, dtype in SHAPES}
ESTIMATORS: tuple[ReinMax | StraightThrough, ...] = (ReinMax(), ReinMax(tau=1.3), StraightThrough(tau=1.3))


def kernel_frequencies(device: str) -> str:
    """Classes are drawn as often as their probabilities say, rare ones too, and masked ones never."""
    if not device.startswith("cuda"):
        return NO_GPU
    worst = 0.0
    for classes in (2, 10, 1000, 20000):
        # No class so rare that its number of draws were far from normal.
        logits = torch.rand(classes, generator=torch.Generator().manual_seed(classes)).to(device)
        rows = 20_000 if classes > 1000 else 200_000
        draws = fused.sample(ReinMax(), logits.expand(rows, classes), torch.Generator(device).manual_seed(0))
        worst = max(worst, deviation(draws, logits) if classes <= 1000 else blockwise(draws, logits))
    assert worst < 5, worst
    return f"largest deviation {worst:.1f} standard errors; {rare(device)}; {masked(device)}"


def blockwise(draws: Tensor, logits: Tensor) -> float:
    """As `deviation`, of blocks of 100 classes each, because each alone is drawn a few times only."""
    counts = draws.sum(0, dtype=torch.float64).view(-1, 100).sum(-1)
    p = logits.double().softmax(-1).view(-1, 100).sum(-1)
    return ((counts - len(draws) * p) / (len(draws) * p * (1 - p)).sqrt()).abs().max().item()


def rare(device: str) -> str:
    rows = 2**27
    logits = torch.tensor([0.0, -15.5], device=device)
    found = int(fused.sample(ReinMax(), logits.expand(rows, 2))[:, 1].sum(dtype=torch.float64).item())
    wanted = rows * logits.double().softmax(-1)[1].item()
    assert abs(found - wanted) < 5 * math.sqrt(wanted), (found, wanted)
    return f"a class of probability 2e-7 {found} times where {wanted:.0f} were expected"


def masked(device: str) -> str:
    logits = torch.randn(100_000, 37, device=device).masked_fill_(
        torch.rand(100_000, 37, device=device) < 0.5, -torch.inf
    )
    logits[:, 20] = 0
    logits.requires_grad_()
    draws, probs = fused.reinmax(logits, 1.3)
    (found,) = torch.autograd.grad((draws, probs), logits, (torch.randn_like(draws), torch.randn_like(probs)))
    never = logits.isinf()
    assert (draws.sum(-1) == 1).all() and not draws[never].any() and not found[never].any()
    broken = torch.zeros(1000, 37, device=device)
    broken[500, 3], broken[501, 4], broken[502] = torch.nan, torch.inf, -torch.inf
    assert fused.reinmax(broken)[0].isnan().any(-1).nonzero().flatten().tolist() == [500, 501, 502]
    return "masked classes never"


def kernel_gradients(device: str) -> str:
    """Each gradient, alone and with the other, is that of the CPU in double precision."""
    if not device.startswith("cuda"):
        return NO_GPU
    worst = dict.fromkeys(BOUNDS, 0.0)
    for rows, classes, dtype in SHAPES:
        logits = (2 * torch.randn(rows, classes, device=device)).to(dtype).requires_grad_()
        g, v = torch.randn_like(logits), torch.randn_like(logits)
        for estimator in ESTIMATORS:
            worst[dtype] = max(worst[dtype], *differences(estimator, logits, g.detach(), v.detach()))
    assert all(worst[dtype] < bound for dtype, bound in BOUNDS.items()), worst
    return "largest relative difference " + ", ".join(f"{error:.1e} in {dtype}" for dtype, error in worst.items())


def differences(estimator: ReinMax | StraightThrough, logits: Tensor, g: Tensor, v: Tensor) -> list[float]:
    draws = fused.sample(estimator, logits)
    found = [difference(torch.autograd.grad(draws, logits, g)[0], exact(estimator, logits, draws, g))]
    if isinstance(estimator, ReinMax):
        draws, probs = fused.reinmax(logits, estimator.tau)
        (both,) = torch.autograd.grad((draws, probs), logits, (g, v), retain_graph=True)
        (soft,) = torch.autograd.grad(probs, logits, v)
        found.append(difference(both, exact(estimator, logits, draws, g, v)))
        found.append(difference(soft, exact(estimator, logits, draws, torch.zeros_like(g), v)))
    return found


def compiled(device: str) -> str:
    """torch.compile takes draws and gradient in one graph each, for any number of rows."""
    if not device.startswith("cuda"):
        return NO_GPU
    function = torch.compile(lambda logits: fused.reinmax(logits * 1, 1.3), fullgraph=True, dynamic=True)
    for rows in (100, 1000):
        logits = torch.randn(rows, 10, device=device, requires_grad=True)
        g, v = torch.randn(2, rows, 10, device=device)
        draws, probs = function(logits)
        (found,) = torch.autograd.grad((draws, probs), logits, (g, v))
        assert difference(found, exact(ReinMax(tau=1.3), logits, draws, g, v)) < 1e-5
    return "gradients are those in double precision"


def graphs(device: str) -> str:
    """A captured forward and backward pass draws anew at every replay, and sends back the gradient of that draw."""
    if not device.startswith("cuda"):
        return NO_GPU
    for estimator in ESTIMATORS:
        replayed(estimator, estimator.sample, device)
        replayed(estimator, lambda logits, of=estimator: fused.sample(of, logits), device)
    graphed(device)
    return f"{len(ESTIMATORS)} estimators, with and without the kernels, and make_graphed_callables"


def replayed(estimator: DrawDetermined, sample: Callable[[Tensor], Tensor], device: str) -> None:
    logits = torch.randn(512, 10, device=device, requires_grad=True)
    g = torch.randn(512, 10, device=device)

    def step() -> tuple[Tensor, Tensor]:
        draws = sample(logits)
        return draws, torch.autograd.grad(draws, logits, g)[0]

    warmed_up(step)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        draws, found = step()
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(draws.detach().clone())
        assert (seen[-1].sum(-1) == 1).all()
        assert difference(found, exact(estimator, logits, draws, g)) < 1e-5
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def warmed_up(step: Callable[[], object]) -> None:
    """Capture wants a stream on which kernels are loaded already."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)


def graphed(device: str) -> None:
    logits, g = torch.randn(512, 10, device=device, requires_grad=True), torch.randn(512, 10, device=device)
    function = torch.cuda.make_graphed_callables(lambda x: fused.sample(ReinMax(), x), (logits,))
    for _ in range(2):
        draws = function(logits)
        (found,) = torch.autograd.grad(draws, logits, g)
        assert difference(found, exact(ReinMax(), logits, draws, g)) < 1e-5
