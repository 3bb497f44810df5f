"""Estimators where PyTorch looks at a program without its numbers, keeps it, or gives it another default device."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from reinmax_core import reinmax
from reinmax_core.batches import Shuffled
from reinmax_core.diagnostics import compare
from reinmax_core.estimators import Estimator, GumbelRao, Pathwise, ReinMax
from reinmax_core.value import discover
from tests.core.contract import with_classes

ESTIMATORS = discover(Estimator)
AVERAGED = ("gumbel_rao", "reinmax_cv", "reinmax_rao")
INNER_WARNING = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]()  # type: ignore[call-arg]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cubic(draws: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, draws.shape[-1], dtype=draws.dtype, device=draws.device)
    return ((draws * weights).sum(-1) - 0.3) ** 3


def gradient(values: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """That of the sum of the values, drawn from torch's own generator after a fixed seed."""
    torch.manual_seed(0)
    return torch.autograd.grad(values(logits).sum(), logits)[0]


class Model(nn.Module):
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 5)
        self.dim = dim

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return reinmax(self.linear(inputs), 1.3, dim=self.dim)


@pytest.mark.parametrize("dim", [-1, 0])
def test_an_exported_program_draws_as_the_model_does(dim: int) -> None:
    """After a round trip through a file, and for another number of rows than it was exported with."""
    model, file = Model(dim), io.BytesIO()
    rows = torch.export.Dim("rows") if dim == -1 else torch.export.Dim.STATIC  # type: ignore[attr-defined]
    torch.export.save(torch.export.export(model, (torch.randn(7, 8),), dynamic_shapes=({0: rows},)), file)
    file.seek(0)
    program = torch.export.load(file).module()
    inputs, found = torch.randn(200 if dim == -1 else 7, 8), []
    for run in (program, model):
        torch.manual_seed(0)
        found.append(run(inputs))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)
    if dim == -1:
        assert not torch.equal(program(inputs)[0], found[0][0]), "the draws became constants of the program"


class Draws(nn.Module):
    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, logits: Tensor) -> Tensor:
        return self.estimator.sample(logits)


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=INNER_WARNING)])
@pytest.mark.parametrize("name", AVERAGED)
def test_what_averages_soft_samples_is_exported_for_any_number_of_rows(name: str, strict: bool) -> None:
    model, logits = Draws(ESTIMATORS[name]()), torch.randn(7, 5, requires_grad=True)  # type: ignore[call-arg]
    rows = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(model, (logits,), dynamic_shapes=rows, strict=strict).module()
    inputs, found = torch.randn(2000, 5), []
    for run in (program, model):
        torch.manual_seed(0)
        found.append(run(inputs))
    assert torch.equal(*found)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40), indirect=["estimator"])
def test_shapes_are_found_without_numbers(estimator: Estimator, classes: int) -> None:
    logits = torch.empty(6, 3, classes, device="meta", requires_grad=True)
    assert estimator.sample(logits).shape == logits.shape
    estimator.expectation(logits, cubic).sum().backward()
    assert logits.grad is not None
    assert logits.grad.is_meta


def with_gradient(estimator: Estimator, logits: Tensor) -> tuple[Tensor, Tensor]:
    draws = estimator.sample(logits)
    return draws, torch.autograd.grad(estimator.expectation(logits, cubic).sum(), logits)[0]


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40), indirect=["estimator"])
def test_fake_tensors_have_shapes_alone(estimator: Estimator, classes: int) -> None:
    with FakeTensorMode():
        found = with_gradient(estimator, torch.randn(6, 3, classes, requires_grad=True))
    assert [tensor.shape for tensor in found] == [(6, 3, classes)] * 2


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_a_recorded_graph_draws_and_differentiates(estimator: Estimator, classes: int, mode: str) -> None:
    logits = torch.randn(60, classes, dtype=torch.float64, requires_grad=True)
    graph = make_fx(lambda logits: with_gradient(estimator, logits), tracing_mode=mode)(logits)
    draws, found = graph(logits)
    assert ((draws == 0) | (draws == 1)).all()
    assert (draws.sum(-1) == 1).all()
    assert found.sum(-1).abs().max() < 1e-11
    assert found.abs().max() > 0
    again = graph(-logits if estimator.name == "argmax_straight_through" else logits)[0]
    assert not torch.equal(again, draws), "the draws became constants of the graph"


def test_what_only_watches_leaves_values_checked() -> None:
    logits = torch.tensor([[0.0, float("nan"), 1.0]], requires_grad=True)
    watching = (FlopCounterMode(display=False), torch.autograd.graph.save_on_cpu(), torch.profiler.profile())
    for context in watching:
        with context, pytest.raises(ValueError, match="row"):
            ReinMax().sample(logits)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40), indirect=["estimator"])
def test_the_default_device_is_no_matter(estimator: Estimator, classes: int) -> None:
    logits = torch.randn(6, 3, classes, requires_grad=True)
    wanted = gradient(lambda logits: estimator.expectation(logits, cubic), logits)
    with torch.device("meta"):
        found = gradient(lambda logits: estimator.expectation(logits, cubic), logits)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", [ReinMax, GumbelRao], ids=["enumerated", "sampled"])
def test_nor_is_it_where_estimators_are_compared(kind: type[Pathwise]) -> None:
    logits, seeds = torch.tensor([0.0, 1.0, 0.5]), (seeded(), seeded())
    (wanted,) = compare((kind(),), logits, cubic, draws=64, generator=seeds[0])
    with torch.device("meta"):
        (found,) = compare((kind(),), logits, cubic, draws=64, generator=seeds[1])
    assert str(found) == str(wanted)


def test_nor_is_it_to_the_order_of_examples() -> None:
    examples = torch.arange(20)
    wanted = Shuffled(examples, 5, seed=0)[0]
    with torch.device("meta"):
        assert torch.equal(Shuffled(examples, 5, seed=0)[0], wanted)
