"""What every estimator keeps to, those of files not yet written included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor

from reinmax_core.estimators import Estimator, Pathwise
from reinmax_core.value import discover
from tests.core.contract import with_classes

ESTIMATORS = discover(Estimator)
PATHWISE = [name for name, estimator_class in ESTIMATORS.items() if issubclass(estimator_class, Pathwise)]
TEMPERED = [name for name, estimator_class in ESTIMATORS.items() if "tau" in estimator_class.model_fields]
NOT_RANDOM = {"argmax_straight_through"}


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]()  # type: ignore[call-arg]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cubic(draws: Tensor) -> Tensor:
    """A value for each latent, with a derivative that depends on the draw."""
    weights = torch.linspace(-1, 2, draws.shape[-1], dtype=draws.dtype)
    return (draws @ weights - 0.3) ** 3 + (draws * weights.square()).sum(-1)


def gradient(
    estimator: Estimator, logits: Tensor, seed: int = 0, cost: Callable[[Tensor], Tensor] = cubic, **options: Any
) -> Tensor:
    logits = logits.detach().requires_grad_()
    estimator.expectation(logits, cost, generator=seeded(seed), **options).sum().backward()
    assert logits.grad is not None
    return logits.grad


def is_one_hot(draws: Tensor, dim: int = -1) -> bool:
    return bool(((draws == 0) | (draws == 1)).all() and (draws.sum(dim) == 1).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [1, 2, 3, 40])
def test_draws_are_exactly_one_hot(estimator: Estimator, classes: int, dtype: torch.dtype) -> None:
    logits = torch.randn(5, 4, classes, dtype=dtype)
    draws = estimator.sample(logits, generator=seeded())
    assert draws.shape == logits.shape
    assert draws.dtype == dtype
    assert is_one_hot(draws)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 3), indirect=["estimator"])
@pytest.mark.parametrize("dim", [0, 1, -2, -3])
def test_any_axis_may_hold_the_classes(estimator: Estimator, dim: int, classes: int) -> None:
    last = torch.randn(5, 4, classes)
    moved = last.movedim(-1, dim).contiguous()
    assert torch.equal(
        estimator.sample(moved, dim=dim, generator=seeded()),
        estimator.sample(last, generator=seeded()).movedim(-1, dim),
    )
    moved.requires_grad_()
    estimator.expectation(
        moved, lambda z: cubic(z.movedim(dim % 3 - 3, -1)), dim=dim, generator=seeded()
    ).sum().backward()
    assert moved.grad is not None
    assert torch.allclose(moved.grad, gradient(estimator, last).movedim(-1, dim), atol=1e-6)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 3), indirect=["estimator"])
def test_layout_does_not_matter(estimator: Estimator, classes: int) -> None:
    dense = torch.randn(1, 4, classes).expand(6, 4, classes).contiguous()
    expanded = dense[:1].expand(6, 4, classes)
    transposed = dense.transpose(0, 1).contiguous().transpose(0, 1)
    wanted = gradient(estimator, dense)
    for logits in (expanded, transposed):
        assert torch.equal(estimator.sample(logits, generator=seeded()), estimator.sample(dense, generator=seeded()))
        leaf = logits.detach().requires_grad_()
        (found,) = torch.autograd.grad(estimator.expectation(leaf, cubic, generator=seeded()).sum(), leaf)
        assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 3), indirect=["estimator"])
def test_empty_batches_pass(estimator: Estimator, classes: int) -> None:
    logits = torch.empty(0, 4, classes, requires_grad=True)
    assert estimator.sample(logits).shape == (0, 4, classes)
    estimator.expectation(logits, cubic).sum().backward()


@pytest.mark.parametrize(("estimator", "classes"), with_classes(1), indirect=["estimator"])
def test_a_single_class_has_no_gradient(estimator: Estimator, classes: int) -> None:
    assert torch.equal(gradient(estimator, torch.randn(5, classes)), torch.zeros(5, classes))


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - NOT_RANDOM))
def test_draws_follow_the_softmax_whatever_tau(name: str, classes: int) -> None:
    estimator_class = ESTIMATORS[name]
    taus = [{"tau": 1.0}, {"tau": 3.0}] if "tau" in estimator_class.model_fields else [{}]
    logits = torch.randn(classes, generator=seeded(classes))
    for settings in taus:
        with torch.no_grad():
            draws = estimator_class.model_validate(settings).sample(logits.expand(20_000, classes), generator=seeded())
        assert chisquare(draws.sum(0), 20_000 * logits.double().softmax(-1).numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 3, 40), indirect=["estimator"])
def test_masked_classes_are_never_drawn_and_get_no_gradient(estimator: Estimator, classes: int) -> None:
    logits = torch.randn(500, classes)
    mask = torch.rand(500, classes, generator=seeded()) < 0.5
    mask[:, 1] = True
    assert not estimator.sample(logits, mask=mask, generator=seeded())[~mask].any()
    found = gradient(estimator, logits, mask=mask)
    assert not found[~mask].any()
    assert found.isfinite().all()
    by_hand = logits.masked_fill(~mask, float("-inf"))
    assert torch.equal(gradient(estimator, by_hand), found)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("row", "finding"),
    [([float("nan")], "nan"), ([float("inf")], "inf"), ([float("-inf")], "masked or at -inf")],
)
def test_impossible_rows_are_refused(estimator: Estimator, row: list[float], finding: str, classes: int) -> None:
    logits = torch.zeros(3, 2, classes)
    logits[1, 0] = torch.tensor(row)
    with pytest.raises(ValueError, match=rf"row \(1, 0\).*{finding}"):
        estimator.sample(logits)


def test_what_is_no_row_of_logits_is_refused(estimator: Estimator) -> None:
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: estimator.sample(torch.zeros(3, 2, dtype=torch.int64)), "int64"),
        (lambda: estimator.sample(torch.tensor(1.0)), "no axis -1"),
        (lambda: estimator.sample(torch.zeros(3, 2), dim=2), "no axis 2"),
        (lambda: estimator.sample(torch.zeros(3, 0)), "at least one class"),
        (lambda: estimator.sample(torch.zeros(3, 2), mask=torch.zeros(3, 2, dtype=torch.bool)), "masked or at -inf"),
        (lambda: estimator.sample(torch.zeros(3, 2), mask=torch.ones(3, 2)), "must be boolean"),
        (lambda: estimator.sample(torch.zeros(3, 2), mask=torch.ones(4, 2, dtype=torch.bool)), r"got \(4, 2\)"),
    ]
    for refused, finding in refusals:
        with pytest.raises(ValueError, match=finding):
            refused()


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_half_precision_is_computed_in_single(estimator: Estimator, classes: int) -> None:
    """All but the cost, which is called with draws of the type of the logits."""
    for dtype in (torch.bfloat16, torch.float16):
        logits = torch.randn(200, classes).to(dtype)
        assert torch.equal(
            estimator.sample(logits, generator=seeded()).float(),
            estimator.sample(logits.float(), generator=seeded()),
        )
        found = gradient(estimator, logits)
        assert found.dtype == dtype
        wanted = gradient(estimator, logits.float(), cost=lambda draws, dtype=dtype: cubic(draws.to(dtype)))
        assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_a_generator_repeats_and_nothing_else_is_drawn_from(estimator: Estimator, classes: int) -> None:
    logits, before = torch.randn(50, classes), torch.get_rng_state()
    assert torch.equal(gradient(estimator, logits, seed=3), gradient(estimator, logits, seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    first = estimator.sample(logits)
    torch.manual_seed(1)
    assert torch.equal(estimator.sample(logits), first)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 3, 40), indirect=["estimator"])
def test_gradients_sum_to_zero_over_classes(estimator: Estimator, classes: int) -> None:
    found = gradient(estimator, torch.randn(100, classes, dtype=torch.float64))
    assert found.abs().max() > 0
    assert found.sum(-1).abs().max() < 1e-12


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 5), indirect=["estimator"])
def test_extreme_logits_have_finite_gradients(estimator: Estimator, classes: int) -> None:
    for scale in (50, 1e4, 1e30):
        found = gradient(estimator, torch.randn(100, classes, generator=seeded()).mul(scale))
        assert found.isfinite().all()


@pytest.mark.parametrize("name", TEMPERED)
def test_tau_is_bounded_and_its_smallest_values_are_harmless(name: str) -> None:
    estimator_class = ESTIMATORS[name]
    for tau in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="tau"):
            estimator_class.model_validate({"tau": tau})
    if name not in {"reinmax", "reinmax_cv"}:
        for classes in (2, 5):
            logits = torch.randn(100, classes, generator=seeded())
            assert gradient(estimator_class.model_validate({"tau": 1e-30}), logits).isfinite().all()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", PATHWISE)
def test_what_all_derivatives_have_in_common_costs_no_digits(name: str, classes: int) -> None:
    logits = torch.randn(200, classes, requires_grad=True)
    draws = ESTIMATORS[name]().sample(logits, generator=seeded())  # type: ignore[call-arg]
    upstream = torch.randint(-99, 99, (200, classes)) / 64
    (near,) = torch.autograd.grad(draws, logits, upstream, retain_graph=True)
    (far,) = torch.autograd.grad(draws, logits, upstream + 8192)
    assert torch.allclose(near, far, rtol=1e-5, atol=1e-6)
