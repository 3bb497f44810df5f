"""Estimators inside what PyTorch offers: compilation, export, autocast, checkpoints, deterministic mode and so on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from reinmax_core import reinmax
from reinmax_core.estimators import Estimator, GumbelRao, Pathwise, ReinMax, ReinMaxCv, ReinMaxRao
from reinmax_core.value import discover
from tests.core.contract import with_classes

ESTIMATORS = discover(Estimator)
PATHWISE = [name for name, found in ESTIMATORS.items() if issubclass(found, Pathwise)]
SIZED = with_classes(2, 5, 40)
AVERAGED = {"gumbel_rao", "reinmax_cv", "reinmax_rao"}
SCHEDULE = [1 + step / 10 for step in range(10)]
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


def compilations(
    values: Callable[..., Tensor], settings: list[object], shapes: list[tuple[int, ...]], alike: bool = True
) -> int:
    """How often a function of logits and a setting is compiled, for settings and shapes in turn.

    Its gradients are those without compilation, unless they are not `alike`, as noise is drawn at another time.
    """
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(values, fullgraph=True, backend=counter)
    for setting, shape in zip(settings * len(shapes), shapes * len(settings), strict=True):
        logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        found, wanted = (
            gradient(lambda logits, run=run: run(logits, setting), logits)  # type: ignore[misc]  # noqa: B023
            for run in (compiled, values)
        )
        assert found.sum(-1).abs().max() < 1e-11
        assert torch.allclose(found, wanted, atol=1e-12) or not alike, setting
    return counter.frame_count


def expected(logits: Tensor, estimator: Estimator) -> Tensor:
    return estimator.expectation(logits, squares)


def squares(draws: Tensor) -> Tensor:
    """As `cubic`, but made of operations that take a number of classes not known beforehand."""
    return ((draws * torch.arange(draws.shape[-1], dtype=draws.dtype)).sum(-1) / 9 - 0.3) ** 2


def both_outputs(logits: Tensor, tau: float | Tensor) -> Tensor:
    draws, probs = reinmax(logits, tau)
    return squares(draws) + probs.square().sum(-1)


@INNER_WARNING
@pytest.mark.parametrize("classes", [2, 5])
def test_a_schedule_is_compiled_once_more_than_tau_1(classes: int) -> None:
    assert compilations(both_outputs, [*SCHEDULE], [(6, classes)]) == 2
    assert compilations(both_outputs, [torch.tensor(tau) for tau in SCHEDULE], [(6, classes)]) == 1
    assert compilations(both_outputs, [torch.full((6, 1), tau) for tau in SCHEDULE], [(6, classes)]) == 1


@INNER_WARNING
@pytest.mark.parametrize("classes", [2, 5])
def test_a_schedule_that_falls_to_1_is_compiled_a_few_times(classes: int) -> None:
    """For its first number, for any number, and at the end for 1; whatever its length."""
    falling = SCHEDULE[::-1]
    assert compilations(both_outputs, [*falling[:-1]], [(6, classes)]) <= 2
    assert compilations(both_outputs, [*falling], [(6, classes)]) <= 4
    assert compilations(both_outputs, [torch.tensor(tau) for tau in falling], [(6, classes)]) == 1


@pytest.mark.slow
@INNER_WARNING
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if "tau" in ESTIMATORS[name].model_fields])
def test_no_estimator_is_compiled_for_each_temperature(name: str, classes: int) -> None:
    """The estimator is built outside: compiled code cannot look into the validation of its settings."""
    schedule = [ESTIMATORS[name].model_validate({"tau": tau}) for tau in SCHEDULE]
    assert compilations(expected, [*schedule], [(6, classes)], name not in AVERAGED) == 2


@INNER_WARNING
def test_rows_and_classes_of_any_number_are_compiled_once_more_than_the_first() -> None:
    for shapes in ([(rows, 5) for rows in range(3, 12)], [(4, classes) for classes in (40, 64, 100, 99, 70, 45, 50)]):
        assert compilations(expected, [ReinMax(tau=1.2)], shapes) <= 3


@pytest.mark.slow
@INNER_WARNING
@pytest.mark.parametrize(("estimator", "classes"), SIZED, indirect=["estimator"])
def test_no_estimator_is_compiled_for_each_number_of_rows(estimator: Estimator, classes: int) -> None:
    shapes = [(rows, classes) for rows in range(3, 12)]
    assert compilations(expected, [estimator], shapes, estimator.name not in AVERAGED) == 2


@pytest.mark.slow
@INNER_WARNING
@pytest.mark.parametrize(
    ("estimator", "classes"), [pair for pair in SIZED if pair[1] == 40 and pair[0] != "exact"], indirect=["estimator"]
)
def test_no_estimator_is_compiled_for_each_number_of_classes(estimator: Estimator, classes: int) -> None:
    shapes = [(4, classes + more) for more in (0, 24, 60, 59, 30, 5, 10)]
    assert compilations(expected, [estimator], shapes, estimator.name not in AVERAGED) <= 3


@INNER_WARNING
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tau", [1.0, 1.3])
def test_variants_of_reinmax_compile(tau: float, classes: int) -> None:
    for variant in (ReinMax(tau=tau, second_weight=0.75), ReinMax(tau=tau, baseline="uniform", most_weight=2)):
        assert compilations(expected, [variant], [(6, classes)]) == 1


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", PATHWISE)
def test_many_gradients_at_once(name: str, classes: int) -> None:
    """Jacobians by torch.func, and gradients in batches, are the gradients one after the other."""
    estimator = ESTIMATORS[name]()  # type: ignore[call-arg]
    logits = torch.randn(3, classes, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    draws = estimator.sample(logits)
    each = torch.eye(draws.numel(), dtype=torch.float64).view(-1, *draws.shape)
    wanted = torch.stack([torch.autograd.grad(draws, logits, one, retain_graph=True)[0] for one in each])
    (batched,) = torch.autograd.grad(draws, logits, each, is_grads_batched=True, retain_graph=True)
    mapped = torch.func.vmap(lambda one: torch.autograd.grad(draws, logits, one, retain_graph=True)[0])(each)
    torch.manual_seed(0)
    jacobian = torch.func.jacrev(estimator.sample)(logits.detach())
    assert torch.allclose(batched, wanted, atol=1e-14)
    assert torch.allclose(mapped, wanted, atol=1e-14)
    assert not mapped.requires_grad
    # Soft samples are drawn at once inside a transform and later outside of it, so there the noise is another.
    drawn_later = classes > 2 and name in {"gumbel_rao", "reinmax_cv", "reinmax_rao"}
    assert torch.allclose(jacobian.view_as(wanted), wanted, atol=0.1 if drawn_later else 1e-14)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tau", [1.0, 1.3, torch.tensor([[1.0], [1.3], [4.0]])], ids=["1", "1.3", "rows"])
def test_second_derivatives_of_both_outputs(tau: float | Tensor, classes: int) -> None:
    logits = torch.randn(3, classes, dtype=torch.float64, requires_grad=True)

    def outputs(logits: Tensor) -> tuple[Tensor, Tensor]:
        return reinmax(logits, tau, generator=seeded())

    assert torch.autograd.gradgradcheck(outputs, (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40, 64), indirect=["estimator"])
def test_autocast_changes_nothing_at_the_logits(estimator: Estimator, classes: int, dtype: torch.dtype) -> None:
    logits, found = torch.randn(20, 3, classes, generator=seeded()).to(dtype).requires_grad_(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(gradient(lambda logits: estimator.expectation(logits, cubic), logits))
    assert found[1].dtype == dtype
    assert torch.equal(*found)


@pytest.mark.parametrize("samples", [3, 200])
@pytest.mark.parametrize("kind", [GumbelRao, ReinMaxRao, ReinMaxCv])
def test_moments_of_soft_samples_keep_their_digits_under_autocast(kind: type[Pathwise], samples: int) -> None:
    """With fewer samples than classes, and with more; the backward pass within autocast or after it."""
    estimator = kind.model_validate({"samples": samples})
    logits, upstream = (torch.randn(20, 7, generator=seeded(seed)).requires_grad_() for seed in (0, 1))
    (wanted,) = torch.autograd.grad(estimator.sample(logits, generator=seeded()), logits, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        after, within = (estimator.sample(logits, generator=seeded()) for _ in range(2))
        assert torch.equal(torch.autograd.grad(within, logits, upstream)[0], wanted)
    assert torch.equal(torch.autograd.grad(after, logits, upstream)[0], wanted)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_models_train_under_autocast(estimator: Estimator, classes: int) -> None:
    """What reaches the layer before the draw is what its own half-precision logits get in single precision."""
    layer, inputs = nn.Linear(8, classes), torch.randn(30, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(inputs)
        assert logits.dtype == torch.bfloat16
        values = estimator.expectation(logits, lambda z: cubic(z.float()), generator=seeded())
    values.sum().backward()
    single = logits.detach().float().requires_grad_()
    (at_logits,) = torch.autograd.grad(estimator.expectation(single, cubic, generator=seeded()).sum(), single)
    assert layer.weight.grad is not None
    wanted = at_logits.T @ inputs
    assert (layer.weight.grad - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40), indirect=["estimator"])
def test_logits_may_be_changed_in_place_before_the_backward_pass(estimator: Estimator, classes: int) -> None:
    leaf, found = torch.randn(6, 3, classes, requires_grad=True), []
    for changed in (False, True):
        logits = leaf.clone()
        values = estimator.expectation(logits, cubic, generator=seeded())
        if changed:
            logits.detach().zero_()
            with torch.no_grad():
                logits.sub_(1)
        found.append(torch.autograd.grad(values.sum(), leaf)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("classes", [1, 2, 5, 40])
@pytest.mark.parametrize("name", PATHWISE)
def test_draws_may_be_changed_in_place(name: str, classes: int) -> None:
    estimator, logits = ESTIMATORS[name](), torch.randn(6, 3, classes, requires_grad=True)  # type: ignore[call-arg]
    found = []
    for double in (Tensor.mul, Tensor.mul_):
        draws = estimator.sample(logits, generator=seeded())
        found.append(torch.autograd.grad(cubic(double(draws, 2)).sum(), logits)[0])
    assert torch.equal(*found)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_draws_are_drawn_again(estimator: Estimator, classes: int, reentrant: bool) -> None:
    logits = torch.randn(20, 3, classes, requires_grad=True)

    def values(logits: Tensor) -> Tensor:
        return estimator.expectation(logits, cubic)

    found = []
    for run in (values, lambda logits: checkpoint(values, logits, use_reentrant=reentrant)):
        torch.manual_seed(0)
        logits.grad = None
        run(logits).sum().backward()
        found.append(logits.grad)
    assert torch.equal(*found)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40, 1000), indirect=["estimator"])
def test_nothing_needs_an_operation_without_a_fixed_order(estimator: Estimator, classes: int) -> None:
    logits = torch.randn(6, classes, requires_grad=True)
    values = [gradient(lambda logits: estimator.expectation(logits, cubic), logits) for _ in range(2)]
    assert torch.equal(*values)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5, 40), indirect=["estimator"])
def test_inference_mode_draws_the_same(estimator: Estimator, classes: int) -> None:
    logits = torch.randn(6, 3, classes)
    wanted = estimator.sample(logits, generator=seeded())
    with torch.inference_mode():
        assert torch.equal(estimator.sample(logits, generator=seeded()), wanted)
        assert estimator.expectation(logits, cubic, generator=seeded()).isfinite().all()


def test_copies_of_an_estimator_are_equal(estimator: Estimator) -> None:
    logits = torch.randn(6, 3, 2)
    wanted = estimator.sample(logits, generator=seeded())
    for copied in (copy.copy(estimator), copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):  # noqa: S301
        assert copied == estimator
        assert hash(copied) == hash(estimator)
        assert torch.equal(copied.sample(logits, generator=seeded()), wanted)
