"""Estimates of a mean cost: their values, their gradients with respect to all but the logits, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from reinmax_core.estimators import Estimator, Exact, Pathwise, Reinforce, Rloo, Separable
from reinmax_core.value import discover
from tests.core.contract import with_classes

if TYPE_CHECKING:
    from reinmax_core.estimators.base import Cost

ESTIMATORS = discover(Estimator)
NOT_RANDOM = {"argmax_straight_through"}


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]()  # type: ignore[call-arg]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 4), indirect=["estimator"])
@pytest.mark.parametrize("shape", [(), (6,), (6, 3)])
def test_estimates_have_the_shape_of_the_values(estimator: Estimator, shape: tuple[int, ...], classes: int) -> None:
    logits = torch.randn(6, 3, classes, requires_grad=True)
    if not shape:
        logits = logits[0]

    def cost(draws: Tensor) -> Tensor:
        beneath = range(-logits.ndim + len(shape), 0)
        return draws.square().sum(tuple(beneath))

    assert estimator.expectation(logits, cost, generator=seeded()).shape == shape


@pytest.mark.parametrize(
    ("estimator", "classes"),
    [(name, classes) for name, classes in with_classes(2, 4) if name not in NOT_RANDOM],
    indirect=["estimator"],
)
def test_estimates_are_right_in_the_mean(estimator: Estimator, classes: int) -> None:
    weights = torch.randn(3, classes, dtype=torch.float64, generator=seeded(1))
    logits = torch.randn(3, classes, dtype=torch.float64, generator=seeded(2)).expand(20_000, 3, classes)

    def cost(draws: Tensor) -> Tensor:
        return (draws * weights).sum((-1, -2)).sin()

    with torch.no_grad():
        estimates = estimator.expectation(logits, cost, generator=seeded(3))
    exact = Exact().expectation(logits[0], cost)
    error = estimates.std() / len(estimates) ** 0.5
    assert abs(estimates.mean() - exact) < 4 * error + 1e-12


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 4), indirect=["estimator"])
def test_parameters_of_the_cost_get_their_ordinary_gradient(estimator: Estimator, classes: int) -> None:
    """A cost that is linear in its parameters is its gradient times the parameters, whichever draws were made."""
    parameters = torch.randn(3, classes, requires_grad=True)
    logits = torch.randn(6, 3, classes, requires_grad=True)
    total = estimator.expectation(logits, lambda z: (z * parameters).sum((-1, -2)), generator=seeded()).sum()
    found, _ = torch.autograd.grad(total, (parameters, logits))
    assert torch.allclose((found * parameters).sum(), total, atol=1e-4)
    assert torch.allclose(found.sum(-1), torch.full((3,), 6.0), atol=1e-4)


@pytest.mark.parametrize(("estimator", "classes"), with_classes(2, 4), indirect=["estimator"])
def test_parameters_need_no_gradient_of_the_logits(estimator: Estimator, classes: int) -> None:
    parameters = torch.randn(classes, requires_grad=True)
    estimator.expectation(torch.randn(5, classes), lambda z: z @ parameters).sum().backward()
    assert parameters.grad is not None
    assert parameters.grad.sum().item() == pytest.approx(5, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if not issubclass(ESTIMATORS[name], Pathwise)])
def test_values_that_fit_no_latents_are_refused(name: str) -> None:
    estimator = ESTIMATORS[name]()  # type: ignore[call-arg]
    for wrong in (lambda z: z.sum((-1, -3)), lambda z: z, lambda z: z.sum((-1, -2)).unsqueeze(-1)):
        with pytest.raises(ValueError, match=r"leading part of .*5, 3\)"):
            estimator.expectation(torch.zeros(5, 3, 2), wrong)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"exact"}))
def test_evaluations_tell_what_the_cost_is_called_with(name: str) -> None:
    """In one call or several, each with one draw of every row or with some on a leading axis."""
    estimator = ESTIMATORS[name]()  # type: ignore[call-arg]
    seen: list[int] = []

    def cost(draws: Tensor) -> Tensor:
        assert draws.shape[-3:] == (5, 3, 2)
        assert draws.ndim <= 4
        seen.append(len(draws) if draws.ndim == 4 else 1)
        return draws.square().sum((-1, -2))

    estimator.expectation(torch.zeros(5, 3, 2), cost)
    assert sum(seen) == estimator.evaluations


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_exact_is_the_sum_over_joint_states(classes: int) -> None:
    logits = torch.randn(5, 2, 2, classes, dtype=torch.float64, requires_grad=True)
    table = torch.randn(5, *[classes] * 4, dtype=torch.float64)

    def cost(draws: Tensor) -> Tensor:
        """An arbitrary value for every joint state of four latents."""
        return torch.einsum("bijkl,...bi,...bj,...bk,...bl->...b", table, *draws.flatten(-3, -2).unbind(-2))

    probs = logits.softmax(-1).flatten(1, 2)
    wanted = torch.einsum("bijkl,bi,bj,bk,bl->b", table, *probs.unbind(1))
    found = Exact().expectation(logits, cost)
    assert torch.allclose(found, wanted, rtol=1e-12)
    found_gradient, wanted_gradient = (torch.autograd.grad(values.sum(), logits)[0] for values in (found, wanted))
    assert torch.allclose(found_gradient, wanted_gradient, atol=1e-12)


def test_exact_in_parts_is_exact() -> None:
    """A batch whose states are enumerated in several parts, against quarters of it that are not."""
    logits = torch.randn(100, 12, 2, dtype=torch.float64, requires_grad=True)
    parameters = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    calls: list[int] = []

    def cost(draws: Tensor) -> Tensor:
        calls.append(len(draws))
        return (draws * parameters).sum((-1, -2)).sin()

    def both(rows: Tensor) -> tuple[Tensor, ...]:
        values = Exact().expectation(rows, cost)
        return values, *torch.autograd.grad(values.sum(), (rows, parameters))

    values, at_logits, at_parameters = both(logits)
    assert len(calls) > 3
    quarters = [both(rows) for rows in logits.split(25)]
    assert torch.allclose(values, torch.cat([quarter[0] for quarter in quarters]), rtol=1e-10)
    assert torch.allclose(at_logits, torch.cat([quarter[1] for quarter in quarters]), atol=1e-12)
    assert torch.allclose(at_parameters, torch.stack([quarter[2] for quarter in quarters]).sum(0), atol=1e-10)


def test_exact_takes_separable_costs_one_latent_at_a_time() -> None:
    logits = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    separable = Separable(lambda z: (z @ torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)).square())
    found = Exact(max_states=1).expectation(logits, separable)
    wanted = Exact().expectation(logits, lambda z: separable(z))
    assert torch.allclose(found, wanted)
    found_gradient, wanted_gradient = (torch.autograd.grad(values.sum(), logits)[0] for values in (found, wanted))
    assert torch.allclose(found_gradient, wanted_gradient, atol=1e-12)


def test_exact_ignores_what_cannot_happen() -> None:
    logits = torch.tensor([[0.0, 1.0, float("-inf")]], requires_grad=True)
    value = Exact().expectation(
        logits, lambda z: z @ torch.tensor([1.0, 2.0, 0.0]) + torch.where(z[..., 2] > 0, torch.inf, 0)
    )
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0


def test_exact_says_when_there_are_too_many_states() -> None:
    with pytest.raises(ValueError, match=r"limited to 16384 states, but 128 latents of 2 classes .* 2\^128; raise"):
        Exact().expectation(torch.zeros(3, 128, 2), lambda z: z.sum((-1, -2)))


@pytest.mark.parametrize("values", [lambda z: z.square().sum((-1, -2)), lambda z: z.square().sum()])
def test_the_baseline_of_a_single_value_is_nothing(values: Cost) -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    estimates = [Reinforce(baseline=name).expectation(logits, values, generator=seeded()) for name in ("none", "batch")]
    alone, in_batch = (torch.autograd.grad(estimate.sum(), logits)[0] for estimate in estimates)
    assert torch.equal(alone, in_batch)


def test_rloo_needs_two_draws() -> None:
    with pytest.raises(ValueError, match="samples"):
        Rloo(samples=1)


FROM_COSTS = [name for name in ESTIMATORS if not issubclass(ESTIMATORS[name], Pathwise)]
WITHOUT_SLOPES = ["arms", "disarm", "exact", "reinforce", "rloo", "rodeo"]


@pytest.mark.parametrize("name", [name for name in FROM_COSTS if ESTIMATORS[name]().evaluations > 1])  # type: ignore[call-arg]
def test_a_cost_that_drops_the_axis_of_the_samples_is_refused(name: str) -> None:
    logits = torch.zeros(5, 3, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"leading axes that its values must keep, but gave values of shape \(\)"):
        ESTIMATORS[name]().expectation(logits, lambda z: z.square().mean())  # type: ignore[call-arg]


def test_exact_wants_the_axis_of_the_states_kept() -> None:
    with pytest.raises(ValueError, match="leading axes that its values must keep"):
        Exact().expectation(torch.zeros(3), lambda z: z.mean())


@pytest.mark.parametrize("name", WITHOUT_SLOPES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_accuracies_are_costs(name: str, dtype: torch.dtype) -> None:
    def hits(draws: Tensor) -> Tensor:
        return (draws[..., 1] > 0.5).all(-1).to(dtype)

    logits = torch.randn(200, 3, 2, generator=seeded(1), requires_grad=True)
    estimator = ESTIMATORS[name]()  # type: ignore[call-arg]
    (found, wanted) = (
        torch.autograd.grad(estimator.expectation(logits, cost, generator=seeded()).sum(), logits)[0]
        for cost in (hits, lambda draws: hits(draws).float())
    )
    assert found.abs().max() > 0
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", sorted({*FROM_COSTS} - {"exact", "rebar", "relax"}))
def test_costs_in_half_precision_lose_nothing_to_baselines(name: str) -> None:
    """The sum of these costs is more than half precision holds."""
    logits = torch.zeros(50, 2, dtype=torch.float16, requires_grad=True)
    settings = {"baseline": "batch"} if name == "reinforce" else {"samples": 4}
    estimator = ESTIMATORS[name].model_validate(settings)
    costs = estimator.expectation(logits, lambda z: (z * 0).sum(-1) + 20_000.0, generator=seeded())
    (found,) = torch.autograd.grad(costs.sum(), logits)
    assert found.abs().max() == 0


def test_a_pathwise_estimator_too_wants_values_that_fit_the_latents() -> None:
    with pytest.raises(ValueError, match=r"leading part of \(4, 3\).* gave \(3,\)"):
        ESTIMATORS["reinmax"]().expectation(torch.zeros(4, 3, 5), lambda z: z.square().sum(-1).sum(0))  # type: ignore[call-arg]


def test_parts_of_another_estimator_are_refused_and_bound_ones_are_told_apart() -> None:
    from reinmax_core.estimators import DoubleCv, Relax

    one, other = (DoubleCv().parts(3, 2) for _ in range(2))
    assert DoubleCv().using(one) == DoubleCv().using(one) != DoubleCv().using(other) != DoubleCv()
    assert len({DoubleCv(), DoubleCv(), DoubleCv().using(one), DoubleCv().using(other)}) == 3
    with pytest.raises(ValueError, match=r"of 'relax' hold .*network.* but the module given has alpha"):
        Relax().using(one)
