"""The Triton kernels on the CPU, in Triton's interpreter, and built for GPUs by its compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

pytest.importorskip("triton")

from reinmax_core import fused, kernels
from reinmax_core.estimators import GumbelSoftmax, ReinMax, StraightThrough

IMPOSSIBLE = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

Loss = Callable[[Tensor], Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def jacobian_product(p: Tensor, g: Tensor) -> Tensor:
    return p * g - p * (p * g).sum(-1, keepdim=True)


def expected(operator: str, logits: Tensor, draws: Tensor, tau: float, g: Tensor | None, v: Tensor | None) -> Tensor:
    """The gradient in double precision, as the formulas of the papers read."""
    theta = logits.double()
    p, q = theta.softmax(-1), (theta / tau).softmax(-1)
    result = torch.zeros_like(p)
    if g is not None and operator == "straight_through":
        result = jacobian_product(q, g.double()) / tau
    elif g is not None:
        result = 2 * jacobian_product((q + draws.double()) / 2, g.double()) - jacobian_product(p, g.double()) / 2
    return result if v is None else result + jacobian_product(p, v.double())


def error(found: Tensor, wanted: Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("tau", [1.0, 1.3])
@pytest.mark.parametrize("classes", [2, 10, 37, 64, 1000, 9000])
def test_both_gradients_alone_and_together(classes: int, tau: float) -> None:
    logits = (2 * normal(21 if classes < 100 else 2, classes)).requires_grad_()
    draws, probs = fused.reinmax(logits, tau, seeded())
    assert torch.equal(draws, torch.zeros_like(draws).scatter(-1, draws.argmax(-1, keepdim=True), 1))
    torch.testing.assert_close(probs, logits.softmax(-1), rtol=1e-5, atol=0)
    g, v = torch.randn_like(draws), torch.randn_like(probs)
    outputs = (draws, probs)
    for at_draws, at_probs in ((g, None), (None, v), (g, v)):
        reached = [(output, at) for output, at in zip(outputs, (at_draws, at_probs), strict=True) if at is not None]
        reached_outputs, upstream = zip(*reached, strict=True)
        (found,) = torch.autograd.grad(reached_outputs, logits, upstream, retain_graph=True)
        wanted = expected("reinmax", logits.detach(), draws.detach(), tau, at_draws, at_probs)
        assert error(found, wanted) < 1e-6


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("classes", [2, 37])
def test_straight_through(classes: int, tau: float) -> None:
    logits = normal(21, classes).requires_grad_()
    draws = fused.sample(StraightThrough(tau=tau), logits, seeded())
    (found,) = torch.autograd.grad(draws, logits, g := torch.randn_like(draws))
    assert error(found, expected("straight_through", logits.detach(), draws.detach(), tau, g, None)) < 1e-6


def test_draws_alone_are_those_of_both() -> None:
    logits = normal(21, 10).requires_grad_()
    both, _ = fused.reinmax(logits, 1.3, seeded())
    alone = fused.sample(ReinMax(tau=1.3), logits, seeded())
    assert torch.equal(both, alone)
    found = [torch.autograd.grad(draws, logits, normal(21, 10, seed=1))[0] for draws in (both, alone)]
    assert torch.equal(*found)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_masked_classes_are_never_drawn_and_get_no_gradient(classes: int) -> None:
    logits = normal(40, classes)
    masked = torch.rand(40, classes, generator=seeded()) < 0.5
    masked[:, -1] = False
    logits = logits.masked_fill(masked, float("-inf")).requires_grad_()
    draws, probs = fused.reinmax(logits, 1.3)
    assert not draws[masked].any()
    assert not probs[masked].any()
    (found,) = torch.autograd.grad((draws, probs), logits, (normal(40, classes, seed=1), normal(40, classes, seed=2)))
    assert not found[masked].any()
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tau", [1.0, 1.3])
def test_half_precision_loses_no_more_than_its_rounding(tau: float, dtype: torch.dtype) -> None:
    logits = (2 * normal(64, 37)).to(dtype).requires_grad_()
    draws, probs = fused.reinmax(logits, tau, seeded())
    assert draws.dtype == probs.dtype == dtype
    upstream = normal(64, 37, seed=1).to(dtype), normal(64, 37, seed=2).to(dtype)
    (found,) = torch.autograd.grad((draws, probs), logits, upstream)
    wanted = expected("reinmax", logits.detach(), draws.detach(), tau, *upstream)
    # The distance between two numbers of the type is up to eps. The interpreter cuts bfloat16 off instead of rounding.
    assert error(found, wanted) < torch.finfo(dtype).eps / (2 if dtype == torch.bfloat16 else 4)


def test_gradients_far_from_zero_keep_their_digits() -> None:
    logits = normal(64, 10).requires_grad_()
    draws, probs = fused.reinmax(logits, 1.3, seeded())
    upstream = 1e4 + normal(64, 10, seed=1), 1e4 + normal(64, 10, seed=2)
    (found,) = torch.autograd.grad((draws, probs), logits, upstream)
    assert error(found, expected("reinmax", logits.detach(), draws.detach(), 1.3, *upstream)) < 1e-5


def test_a_high_temperature_brings_back_classes_whose_probability_underflows() -> None:
    logits = torch.tensor([[0.0, -150, -200, -300]]).expand(5, 4).requires_grad_()
    draws, _ = fused.reinmax(logits, 50.0, seeded())
    (found,) = torch.autograd.grad(draws, logits, g := normal(5, 4))
    assert error(found, expected("reinmax", logits.detach(), draws.detach(), 50.0, g, None)) < 1e-6


def counts(logits: Tensor, rows: int) -> Tensor:
    """How often each class is drawn; in few programs of many rows, which the interpreter computes at once."""
    classes = logits.numel()
    width = max(2, 1 << (classes - 1).bit_length())
    height = 2**20 // width
    numbers, unused = torch.empty(rows, dtype=torch.int32), torch.empty(rows, classes)
    kernels.draw[(-(-rows // height),)](
        logits, torch.tensor([123]), unused, unused, numbers, rows, 1, classes,
        WITH_PROBS=False, EXACT=False, ROWS=height, WIDTH=width, STEPS=1,
    )  # fmt: skip
    return torch.bincount(numbers, minlength=classes)


@pytest.mark.parametrize("classes", [2, 10, 37, 1000])
def test_classes_are_drawn_as_often_as_their_probabilities_say(classes: int) -> None:
    logits = torch.linspace(0, -6, classes)
    if classes > 2:
        logits[classes // 3] = float("-inf")
    probs = logits.double().softmax(-1)
    rows = 2**16 if classes < 100 else 2**14
    found, possible = counts(logits, rows), probs > 0
    assert not found[~possible].any()
    assert stats.chisquare(found[possible].numpy(), rows * probs[possible].numpy()).pvalue > 1e-3


def test_a_rare_class_is_drawn_as_often_as_any() -> None:
    logits, rows = torch.tensor([0.0, -11]), 2**20
    wanted = rows * logits.double().softmax(-1)[1].item()
    assert abs(counts(logits, rows)[1].item() - wanted) < 4 * wanted**0.5


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (1,), (4, 1), (5,), (3, 4, 5)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    logits = normal(*shape).requires_grad_()
    draws, probs = fused.reinmax(logits, 1.3)
    assert draws.shape == probs.shape == logits.shape
    (found,) = torch.autograd.grad((draws, probs), logits, (normal(*shape, seed=1), normal(*shape, seed=2)))
    assert found.shape == logits.shape
    assert draws.sum() == logits[..., 0].numel()
    if shape[-1] == 1:
        assert not found.any()


def test_layouts_change_nothing() -> None:
    theta = normal(4, 5).requires_grad_()
    expanded = theta.expand(6, 4, 5)
    upstream = normal(6, 4, 5, seed=1), normal(6, 4, 5, seed=2).transpose(0, 1).contiguous().transpose(0, 1)
    results = [
        (draws, probs, torch.autograd.grad((draws, probs), theta, upstream)[0])
        for logits in (expanded, expanded.contiguous(), expanded.transpose(0, 1).contiguous().transpose(0, 1))
        for draws, probs in [fused.reinmax(logits, 1.3, seeded())]
    ]
    for result in results[1:]:
        for found, wanted in zip(result, results[0], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@IMPOSSIBLE
@pytest.mark.parametrize("values", [[float("nan"), 0, 0], [float("inf"), 0, 0], [float("-inf")] * 3])
def test_impossible_rows_give_no_draw(values: list[float]) -> None:
    logits = torch.zeros(4, 3)
    logits[2] = torch.tensor(values)
    draws, _ = fused.reinmax(logits, 1.0)
    assert draws[2].isnan().all()
    assert (draws[[0, 1, 3]].sum(-1) == 1).all()


def test_a_generator_repeats_its_draws_and_goes_on() -> None:
    logits, generator = torch.zeros(100, 10), seeded(3)
    first, second = (fused.sample(ReinMax(), logits, generator) for _ in range(2))
    assert torch.equal(first, fused.sample(ReinMax(), logits, seeded(3)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("estimator", [ReinMax(), ReinMax(tau=1.3), StraightThrough(), StraightThrough(tau=1.3)])
def test_second_derivatives_are_those_at_the_fixed_draw(estimator: ReinMax | StraightThrough) -> None:
    values, g, direction = (normal(6, 5, seed=seed) for seed in range(3))
    logits = values.clone().requires_grad_()
    draws = fused.sample(estimator, logits, seeded())
    (first,) = torch.autograd.grad(draws, logits, g, create_graph=True)
    (found,) = torch.autograd.grad(first, logits, direction)
    exact = values.double().requires_grad_()
    wanted_first = expected(estimator.name, exact, draws.detach(), estimator.tau, g, None)
    assert error(first.detach(), wanted_first.detach()) < 1e-6
    assert error(found, torch.autograd.grad(wanted_first, exact, direction.double())[0]) < 1e-6


def test_probabilities_can_be_differentiated_twice() -> None:
    values, v, direction = (normal(6, 5, seed=seed) for seed in range(3))
    logits, exact = values.clone().requires_grad_(), values.double().requires_grad_()
    (first,) = torch.autograd.grad(fused.reinmax(logits)[1], logits, v, create_graph=True)
    (wanted,) = torch.autograd.grad(exact.softmax(-1), exact, v.double(), create_graph=True)
    found = torch.autograd.grad(first, logits, direction)[0]
    assert error(found, torch.autograd.grad(wanted, exact, direction.double())[0]) < 1e-6


def test_many_gradients_at_once() -> None:
    logits = normal(6, 5).requires_grad_()
    draws = fused.sample(ReinMax(tau=1.3), logits, seeded())
    upstream = normal(3, 6, 5)
    (found,) = torch.autograd.grad(draws, logits, upstream, is_grads_batched=True, retain_graph=True)
    for number, g in enumerate(upstream):
        torch.testing.assert_close(found[number], torch.autograd.grad(draws, logits, g, retain_graph=True)[0])


def test_what_may_be_changed_in_place() -> None:
    logits = normal(6, 5).requires_grad_()
    changed = logits * 1
    draws, probs = fused.reinmax(changed)
    (draws.mul_(2).sum() + probs.mul_(2).square().sum()).backward()
    assert logits.grad is not None
    draws, _ = fused.reinmax(changed)
    changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        draws.sum().backward()


def test_the_kernels_are_for_gpus_and_for_two_estimators() -> None:
    assert not fused.available(torch.zeros(3, 2))
    assert all(fused.knows(estimator) for estimator in (ReinMax(tau=1.3), StraightThrough(tau=0.5)))
    others = ReinMax(second_weight=1), ReinMax(baseline="uniform"), GumbelSoftmax()
    assert not any(fused.knows(other) for other in others)


def with_probs(logits: Tensor) -> Tensor:
    draws, probs = fused.reinmax(logits, 1.3)
    return (draws @ torch.arange(5.0)).pow(2).sum() + probs.square().sum()


STRAIGHT_THROUGH = StraightThrough(tau=1.3)


def draws_alone(logits: Tensor) -> Tensor:
    assert fused.knows(STRAIGHT_THROUGH) and not fused.available(logits)
    return (fused.sample(STRAIGHT_THROUGH, logits) @ torch.arange(5.0)).pow(2).sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("loss", [with_probs, draws_alone])
def test_a_compiled_graph_is_whole(loss: Loss, dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    logits = normal(6, 3, 5).requires_grad_()
    found = []
    for function in (compiled, loss):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(function(logits), logits)[0])
    torch.testing.assert_close(*found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_operators_are_what_they_declare() -> None:
    logits, seed = normal(4, 5), torch.tensor([7])
    draws, probs, drawn = fused.draw(logits, seed, True)
    for wanted in (False, True):
        torch.library.opcheck(fused.draw, (logits, seed, wanted))
    for upstream in ((draws, None), (None, probs), (draws, probs)):
        torch.library.opcheck(fused.gradient, (logits, drawn, *upstream, 1.3, False))


BUILD = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from reinmax_core import fused, kernels

TYPES = {"seed": "*i64", "drawn": "*i32", "tau": "fp32", "rows": "i32", "period": "i32", "classes": "i32"}
classes, capability, pointer = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
_, tile = fused._launch(10**5, classes)
warps = tile.pop("num_warps")
flags = {"STRAIGHT": False, "TEMPERED": True, "WITH_DRAWS": True, "WITH_PROBS": True}
for kernel in (kernels.draw, kernels.differentiate):
    names = kernel.arg_names
    constants = {name: value for name, value in (tile | flags).items() if name in names}
    types = {name: "constexpr" if name in constants else TYPES.get(name, pointer) for name in names}
    aligned = {
        (number,): [["tt.divisibility", 16]]
        for number, name in enumerate(names)
        if types[name].startswith("*") or (name == "classes" and classes % 16 == 0)
    }
    source = ASTSource(kernel, types, {(names.index(name),): value for name, value in constants.items()}, aligned)
    built = compile(source, GPUTarget("cuda", capability, 32), {"num_warps": warps})
    assert built.asm["cubin"]
    print(built.asm["ptx"].count("ld.global"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "capability", "pointer", "most_loads"),
    [
        # 8 entries a thread in two loads, once though passes are three, and the seed;
        # logits and two gradients so, their entries at the drawn class, and its number.
        (1024, 90, "*fp32", (3, 9)),
        (2, 80, "*fp32", (5, 25)),
        (10, 80, "*bf16", (9, 49)),
        (32000, 90, "*bf16", (100, 100)),
    ],
)
def test_the_kernels_are_built_for_gpus_and_read_rows_that_fit_once(
    classes: int, capability: int, pointer: str, most_loads: tuple[int, int], tmp_path: Path
) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(classes), str(capability), pointer],
        env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    loads = [int(line) for line in done.stdout.split()]
    assert all(found <= most for found, most in zip(loads, most_loads, strict=True)), loads
