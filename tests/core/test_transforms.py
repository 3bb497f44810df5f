"""Estimators under torch.func, under second derivatives and under torch.compile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reinmax_core.estimators import Estimator, ReinMax
from reinmax_core.value import discover
from tests.core.contract import with_classes

ESTIMATORS = discover(Estimator)
# Its shifts depend on the logits but count as constants, and moments of soft samples have no second derivative.
NO_DERIVATIVE_OF_THE_WHOLE = {"gapped_straight_through", "gumbel_rao", "reinmax_cv", "reinmax_rao", "rebar", "relax"}

# Their noise is drawn in the backward pass but at once inside transforms, so equal seeds do not give equal noise.
DRAWN_LATER = {"gumbel_rao", "reinmax_cv", "reinmax_rao"}


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]()  # type: ignore[call-arg]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cubic(draws: Tensor) -> Tensor:
    weights = torch.linspace(-1, 2, draws.shape[-1], dtype=draws.dtype)
    return (draws @ weights - 0.3) ** 3


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_vmap_can_draw_all_examples_alike(estimator: Estimator, classes: int) -> None:
    logits = torch.randn(classes, generator=seeded()).expand(8, 3, classes)
    found = torch.vmap(torch.func.grad(lambda row: estimator.expectation(row, cubic).sum()), randomness="same")(logits)
    # Not to the last bit: vector instructions round the last few entries of a tensor in another way.
    torch.testing.assert_close(found, found[:1].expand_as(found))


@pytest.mark.parametrize("classes", [2, 5])
def test_vmap_draws_each_example_by_itself(estimator: Estimator, classes: int) -> None:
    logits = torch.zeros(64, 3, classes)
    draws = torch.vmap(estimator.sample, randomness="different")(logits)
    assert draws.shape == logits.shape
    assert (draws.sum(-1) == 1).all()
    if estimator.name != "argmax_straight_through":
        assert len(draws.view(64, -1).unique(dim=0)) > 1


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
@pytest.mark.parametrize("settings", [{}, {"tau": 1.3}])
def test_per_example_gradients(estimator: Estimator, classes: int, settings: dict[str, float]) -> None:
    if not settings.keys() <= type(estimator).model_fields.keys():
        return
    estimator = type(estimator).model_validate(settings)
    logits = torch.randn(6, 3, classes, dtype=torch.float64)

    def loss(row: Tensor) -> Tensor:
        return estimator.expectation(row, cubic).sum()

    found = torch.vmap(torch.func.grad(loss), randomness="different")(logits)
    assert found.isfinite().all()
    assert found.sum(-1).abs().max() < 1e-12
    if estimator.name in DRAWN_LATER and classes > 2:
        return
    torch.manual_seed(0)
    one = torch.func.grad(loss)(logits[0])
    torch.manual_seed(0)
    leaf = logits[0].clone().requires_grad_()
    assert torch.allclose(one, torch.autograd.grad(loss(leaf), leaf)[0], atol=1e-14)


def test_rows_that_cannot_be_checked_give_no_draw() -> None:
    for classes in (2, 3):
        logits = torch.zeros(4, classes)
        logits[2] = float("nan")
        draws = torch.vmap(ReinMax().sample, randomness="different")(logits)
        assert draws[2].isnan().all()
        assert (draws[[0, 1, 3]].sum(-1) == 1).all()


@pytest.mark.parametrize("settings", [{}, {"tau": 1.3}])
@pytest.mark.parametrize(
    ("name", "classes"),
    [(name, classes) for name, classes in with_classes(2, 4) if name not in NO_DERIVATIVE_OF_THE_WHOLE],
)
def test_second_derivatives_are_those_at_the_fixed_draw(name: str, settings: dict[str, float], classes: int) -> None:
    """Against central differences of the first one, with the same seed and so the same draw and noise.

    The cost is linear, so that what it sends back is the same for both.
    """
    if not settings.keys() <= ESTIMATORS[name].model_fields.keys():
        return
    estimator = ESTIMATORS[name].model_validate(settings)
    logits, direction = (torch.randn(5, classes, dtype=torch.float64, generator=seeded(seed)) for seed in (1, 2))

    weights = torch.linspace(-1, 2, classes, dtype=torch.float64) ** 2

    def first(at: Tensor) -> Tensor:
        total = estimator.expectation(at, lambda draws: draws @ weights, generator=seeded()).sum()
        return torch.autograd.grad(total, at, create_graph=True)[0]

    at = logits.clone().requires_grad_()
    found = torch.autograd.grad((first(at) * direction).sum(), at)[0]
    step = 1e-6
    for row in range(5):
        for number in range(classes):
            shift = torch.zeros_like(logits)
            shift[row, number] = step
            up, down = (first((logits + sign * shift).requires_grad_()).detach() for sign in (1, -1))
            assert ((up - down) / (2 * step) * direction).sum().item() == pytest.approx(
                found[row, number].item(), abs=1e-7
            )


def test_gapped_straight_through_can_be_differentiated_twice() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    draws = ESTIMATORS["gapped_straight_through"]().sample(logits)  # type: ignore[call-arg]
    (first,) = torch.autograd.grad(draws.pow(3).sum(), logits, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), logits)[0].isfinite().all()


@pytest.mark.parametrize("classes", [2, 4])
def test_gumbel_rao_says_that_it_has_no_second_derivative(classes: int) -> None:
    logits = torch.randn(5, classes, requires_grad=True)
    draws = ESTIMATORS["gumbel_rao"]().sample(logits)  # type: ignore[call-arg]
    (first,) = torch.autograd.grad(draws.pow(3).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="use an estimator with a single soft sample"):
        first.square().sum().backward()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_a_compiled_graph_is_whole(estimator: Estimator, classes: int) -> None:
    """Traced in one piece and differentiated; compiling the result further needs a compiler, which may be missing."""

    def loss(logits: Tensor) -> Tensor:
        return estimator.expectation(logits, cubic).sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    logits = torch.randn(6, 3, classes, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    (found,) = torch.autograd.grad(compiled(logits), logits)
    assert found.abs().max() > 0
    assert found.sum(-1).abs().max() < 1e-12
    if estimator.name in DRAWN_LATER and classes > 2:
        return
    torch.manual_seed(0)
    assert torch.allclose(found, torch.autograd.grad(loss(logits), logits)[0], atol=1e-12)
