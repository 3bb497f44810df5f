"""Estimators as layers: draws and gradients are the estimator's, and all that PyTorch does to modules is borne."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from reinmax_core.estimators import Estimator, Pathwise
from reinmax_core.estimators.argmax_straight_through import ArgmaxStraightThrough
from reinmax_core.estimators.gumbel_rao import GumbelRao
from reinmax_core.estimators.reinmax import ReinMax
from reinmax_core.modules import CategoricalSample
from reinmax_core.value import discover

PATHWISE = sorted(name for name, found in discover(Estimator).items() if issubclass(found, Pathwise))
OTHERS = sorted(set(discover(Estimator)) - set(PATHWISE))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(draws: Tensor, logits: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, draws.numel(), dtype=draws.dtype).view_as(draws)
    return torch.autograd.grad(((draws * weights).sum() - 1) ** 2, logits)[0]


@pytest.mark.parametrize("name", PATHWISE)
def test_in_training_it_is_the_estimator(name: str) -> None:
    logits = torch.randn(2, 5, 3, requires_grad=True, generator=seeded())
    mask = torch.rand(5, 3, generator=seeded(1)) < 0.8
    mask[0] = True
    layer, estimator = CategoricalSample(name, dim=1), discover(Estimator)[name].model_validate({})
    assert layer.estimator == estimator
    found = layer(logits, mask, seeded(2))
    expected = estimator.sample(logits, dim=1, mask=mask, generator=seeded(2))
    assert torch.equal(found, expected)
    assert torch.equal(found.sum(1), torch.ones(2, 3))
    assert torch.equal(gradient(found, logits), gradient(expected, logits))


@pytest.mark.parametrize("name", PATHWISE)
def test_in_evaluation_it_takes_the_likeliest_class(name: str) -> None:
    logits = torch.randn(6, 4, requires_grad=True, generator=seeded())
    mask = logits < logits.amax(-1, keepdim=True)
    layer = CategoricalSample(name).eval()
    assert torch.equal(layer(logits).argmax(-1), logits.argmax(-1))
    assert torch.equal(layer(logits, mask).argmax(-1), logits.masked_fill(~mask, -9).argmax(-1))
    expected = ArgmaxStraightThrough(tau=1.0).sample(logits)
    assert torch.equal(gradient(layer(logits), logits), gradient(expected, logits))


def test_in_evaluation_it_can_go_on_drawing() -> None:
    layer = CategoricalSample(sample_in_eval=True).eval()
    logits = torch.zeros(50, 3)
    assert torch.equal(layer(logits, generator=seeded()), ReinMax().sample(logits, generator=seeded()))


def test_the_temperature_can_follow_a_schedule() -> None:
    layer = CategoricalSample(GumbelRao(tau=0.5, samples=7))
    for tau in (1.0, 0.1):
        layer.tau = tau
        assert layer.estimator == GumbelRao(tau=tau, samples=7)
        assert layer.tau == tau
    layer.estimator = "reinmax"
    assert layer.estimator == ReinMax()
    assert CategoricalSample("gumbel_rao", tau=0.3).tau == 0.3


def test_a_temperature_out_of_bounds_is_refused_and_changes_nothing() -> None:
    layer = CategoricalSample("reinmax", tau=1.2)
    with pytest.raises(ValueError, match=r"greater than or equal to 1.*input_value=0\.5"):
        layer.tau = 0.5
    assert layer.estimator == ReinMax(tau=1.2)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        CategoricalSample("reinmax", tau=0.5)


@pytest.mark.parametrize("name", OTHERS)
def test_an_estimator_that_is_no_layer_is_refused_with_those_that_are(name: str) -> None:
    for wrong in (name, discover(Estimator)[name].model_validate({})):
        with pytest.raises(ValueError, match=rf"draws of '{name}'.*expectation\(logits, cost\)") as refused:
            CategoricalSample(wrong)
        assert all(other in str(refused.value) for other in PATHWISE)


@pytest.mark.parametrize("wrong", ["reinmx", "ReinMax", None, 3])
def test_what_is_no_estimator_is_refused_with_those_that_exist(wrong: object) -> None:
    with pytest.raises(ValueError, match=f"found {wrong!r}; choose one of {', '.join(PATHWISE)}"):
        CategoricalSample(wrong)  # type: ignore[arg-type]


def test_it_is_described_as_it_is_written() -> None:
    layer = CategoricalSample(GumbelRao(samples=7), dim=1)
    assert repr(layer) == "CategoricalSample(GumbelRao(samples=7), dim=1, sample_in_eval=False)"
    assert eval(repr(layer)).estimator == layer.estimator  # noqa: S307


def model(name: str = "reinmax") -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(8, 5), CategoricalSample(name), nn.Linear(5, 2))


def outcome(network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Outputs and the gradient of the inputs, from a fixed seed."""
    inputs = torch.randn(4, 8, generator=seeded()).requires_grad_()
    torch.manual_seed(0)
    outputs = network(inputs)
    return outputs.detach(), torch.autograd.grad(outputs.square().sum(), inputs)[0]


@pytest.mark.parametrize("name", PATHWISE)
def test_copies_behave_alike(name: str) -> None:
    original = model(name)
    saved = io.BytesIO()
    torch.save(original, saved)
    saved.seek(0)
    for copied in (
        copy.deepcopy(original),
        pickle.loads(pickle.dumps(original)),  # noqa: S301
        torch.load(saved, weights_only=False),
    ):
        for found, expected in zip(outcome(copied), outcome(original), strict=True):
            assert torch.equal(found, expected)


def test_checkpoints_fit_models_of_other_settings() -> None:
    assert not CategoricalSample("gumbel_rao").state_dict()
    other = model("straight_through")
    other.load_state_dict(model("reinmax").state_dict())
    assert isinstance(other[1], CategoricalSample)
    assert other[1].estimator.name == "straight_through"


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_model_is_whole_and_follows_a_schedule() -> None:
    torch._dynamo.reset()
    network, counter = model(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, fullgraph=True, backend=counter)
    layer = network[1]
    assert isinstance(layer, CategoricalSample)
    for step in range(12):
        layer.tau = 1 + step / 10
        for found, expected in zip(outcome(compiled), outcome(network), strict=True):
            torch.testing.assert_close(found, expected)
    assert counter.frame_count == 2, "tau = 1, and every other"
    network.eval()
    assert torch.equal(outcome(compiled)[0], outcome(network)[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["gumbel_softmax", "reinmax"])
def test_an_exported_model_draws_for_any_batch(name: str, training: bool) -> None:
    network = model(name)[:2].train(training)
    exported = torch.export.export(
        network, (torch.randn(4, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    ).module()
    inputs = torch.randn(200, 8, generator=seeded())
    draws = exported(inputs)
    assert torch.equal(draws.sum(-1), torch.ones(200))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    if training:
        assert not torch.equal(exported(inputs), draws), "the draws became constants of the program"
    else:
        assert torch.equal(draws, network(inputs))
