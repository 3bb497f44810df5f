"""`reinmax` in the place of the package of that name, and beyond it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from reinmax import reinmax as published
from torch import Tensor

from reinmax_core import categorical, gradients, reinmax
from reinmax_core.estimators import ReinMax


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("tau", [1.0, 1.3])
def test_results_are_those_of_the_package(tau: float, classes: int) -> None:
    """Both outputs and both gradients, on the rows where independent draws happen to agree."""
    values = torch.randn(300, classes, dtype=torch.float64, generator=seeded())
    at_draws, at_probs = (torch.randn(300, classes, dtype=torch.float64, generator=seeded(seed)) for seed in (1, 2))

    def run(function: object) -> tuple[Tensor, Tensor, Tensor]:
        logits = values.clone().requires_grad_()
        draws, probs = function(logits, tau)  # type: ignore[operator]
        return draws, probs, torch.autograd.grad((draws, probs), logits, (at_draws, at_probs))[0]

    ours, theirs = run(reinmax), run(published)
    alike = (ours[0] == theirs[0]).all(-1)
    assert alike.sum() > 20
    assert torch.allclose(ours[1], theirs[1], atol=1e-15)
    assert torch.allclose(ours[2][alike], theirs[2][alike], atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("tau", [1.0, 1.3])
def test_results_are_those_of_the_package_at_its_draws(tau: float, classes: int, dtype: torch.dtype) -> None:
    values, at_draws, at_probs = torch.randn(3, 300, classes, dtype=dtype, generator=seeded())
    logits = values.clone().requires_grad_()
    torch.manual_seed(0)
    theirs = published(logits, tau)
    (wanted,) = torch.autograd.grad(theirs, logits, (at_draws, at_probs))
    probs = categorical.probabilities(logits)
    draws = ReinMax(tau=tau).through(logits, categorical.largest(theirs[0]), probs)
    assert torch.equal(draws, theirs[0])
    exactness = 1e-12 if dtype == torch.float64 else 2e-6
    assert torch.allclose(probs, theirs[1], atol=exactness)
    found = torch.autograd.grad((draws, probs), logits, (at_draws, at_probs))[0]
    assert torch.allclose(found, wanted, rtol=0, atol=exactness)


def both_gradients(logits: Tensor, tau: float | Tensor, dim: int = -1) -> tuple[Tensor, Tensor, Tensor]:
    """The draws, and the gradient from each output by itself."""
    logits = logits.clone().requires_grad_()
    upstream = torch.randn(logits.shape, dtype=logits.dtype, generator=seeded(1))
    outputs = reinmax(logits, tau, dim=dim, generator=seeded())
    return outputs[0], *(torch.autograd.grad(part, logits, upstream, retain_graph=True)[0] for part in outputs)


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("shape", [(4, 3, 1), (4, 1, 1), (1, 3, 1), (1, 1, 1), ()])
def test_each_row_may_have_a_temperature(shape: tuple[int, ...], classes: int) -> None:
    """As if each of the temperatures had been given for all."""
    logits = torch.randn(4, 3, classes, dtype=torch.float64, generator=seeded(2))
    tau = 1 + torch.rand(shape, dtype=torch.float64, generator=seeded(3))
    found = both_gradients(logits, tau)
    for place, each in zip(
        torch.cartesian_prod(torch.arange(4), torch.arange(3)), tau.expand(4, 3, 1).flatten(), strict=True
    ):
        wanted = both_gradients(logits, each.item())
        for ours, alone in zip(found, wanted, strict=True):
            assert torch.allclose(ours[tuple(place)], alone[tuple(place)], atol=1e-14)
    across = both_gradients(logits.movedim(-1, 1).contiguous(), tau.movedim(-1, 1) if shape else tau, dim=1)
    assert torch.equal(across[0].movedim(1, -1), found[0])


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_temperatures_of_rows_may_be_of_another_type(dtype: torch.dtype, classes: int) -> None:
    logits = torch.randn(6, classes, generator=seeded(2)).to(dtype)
    for tau in (torch.full((6, 1), 2.0, dtype=torch.float64), torch.full((6, 1), 2)):
        for ours, wanted in zip(both_gradients(logits, tau), both_gradients(logits, 2.0), strict=True):
            assert ours.dtype == dtype
            assert torch.allclose(ours, wanted, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_vmap_over_temperatures(classes: int) -> None:
    logits, tau = torch.randn(4, 3, classes, dtype=torch.float64), torch.tensor([1.0, 1.1, 1.5, 3.0]).double()
    upstream = torch.linspace(-1, 2, classes, dtype=torch.float64)

    def gradient(row: Tensor, tau: Tensor) -> Tensor:
        return torch.func.grad(lambda row: (reinmax(row, tau)[0] * upstream).sum())(row)

    torch.manual_seed(0)
    found = torch.vmap(gradient, randomness="same")(logits[:1].expand(4, 3, classes), tau)
    for row, each in zip(found, tau, strict=True):
        torch.manual_seed(0)
        assert torch.allclose(row, gradient(logits[0], each), atol=1e-14)
    assert not torch.allclose(found[0], found[3])


@pytest.mark.parametrize(
    ("tau", "finding"),
    [
        (torch.full((4,), 1.5), r"broadcast to logits of shape \(4, 3\) .*got shape \(4,\); use tau.unsqueeze\(-1\)"),
        (torch.full((4, 3), 1.5), r"length 1 on axis -1, got shape \(4, 3\)"),
        (torch.full((5, 1), 1.5), r"got shape \(5, 1\)"),
        (torch.full((2, 4, 1), 1.5), r"got shape \(2, 4, 1\)"),
        (torch.full((4, 1), 1.5, requires_grad=True), "requires a gradient.*tau.detach"),
        (torch.tensor([[1.0], [2.0], [0.5], [3.0]]), "at least 1, got 0.5"),
        (torch.tensor([[1.0], [2.0], [float("nan")], [3.0]]), "at least 1, got nan"),
        (torch.tensor([[1.0], [2.0], [float("inf")], [3.0]]), "at least 1, got inf"),
        (torch.tensor(0.0), "at least 1, got 0"),
    ],
)
def test_temperatures_that_fit_no_rows_are_refused(tau: Tensor, finding: str) -> None:
    with pytest.raises(ValueError, match=finding):
        reinmax(torch.zeros(4, 3), tau)


def test_logits_without_the_axis_are_refused_for_a_temperature_of_each_row_too() -> None:
    with pytest.raises(ValueError, match=r"have no axis 5 for the classes"):
        reinmax(torch.zeros(4, 3), torch.full((4, 1), 1.5), dim=5)


def test_one_output_may_go_unused() -> None:
    logits = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    _, probs = reinmax(logits, 1.2)
    upstream = torch.randn(50, 4, dtype=torch.float64)
    wanted = torch.autograd.grad(logits.softmax(-1), logits, upstream)[0]
    assert torch.allclose(torch.autograd.grad(probs, logits, upstream)[0], wanted, atol=1e-15)


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2), (3, 4, 7), (0, 3)])
def test_outputs_can_be_viewed_and_changed_in_place(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, requires_grad=True)
    draws, probs = reinmax(logits * 1, 1.0)
    assert draws.view(-1).shape == probs.view(-1).shape
    (draws.mul_(2).sum() + probs.sum()).backward()
    assert logits.grad is not None


@pytest.mark.parametrize("classes", [2, 3])
def test_layouts_that_the_package_refuses(classes: int) -> None:
    theta = torch.randn(4, classes, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(6, 4, classes, dtype=torch.float64)
    expanded = theta.expand(6, 4, classes)
    found = [
        torch.autograd.grad(reinmax(logits, 1.3, generator=seeded()), theta, (upstream, upstream))[0]
        for logits in (expanded, expanded.contiguous(), expanded.transpose(0, 1).contiguous().transpose(0, 1))
    ]
    assert torch.allclose(found[0], found[1], atol=1e-14)
    assert torch.allclose(found[2], found[1], atol=1e-14)
    per_row = torch.randn(1, classes).expand(6, classes).requires_grad_()
    _, probs = reinmax(per_row, 1.0)
    assert torch.autograd.grad(probs[2, 0], per_row)[0][2].abs().sum() > 0


def test_axis_mask_and_generator() -> None:
    logits = torch.randn(4, 5, 3)
    mask = torch.tensor([True, False, True, True, False]).view(1, 5, 1)
    draws, probs = reinmax(logits, 1.1, dim=1, mask=mask, generator=seeded())
    again, _ = reinmax(logits.movedim(1, -1), 1.1, mask=mask.movedim(1, -1), generator=seeded())
    assert torch.equal(draws, again.movedim(-1, 1))
    assert torch.allclose(probs.sum(1), torch.ones(4, 3))
    assert not probs[:, [1, 4]].any()
    assert not draws[:, [1, 4]].any()


@pytest.mark.parametrize("tau", [0.99, 0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_below_1_are_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {tau}"):
        reinmax(torch.zeros(2, 2), tau)


def test_half_precision_comes_back_as_it_came() -> None:
    logits = torch.randn(50, 6, dtype=torch.bfloat16, requires_grad=True)
    draws, probs = reinmax(logits, 1.3)
    assert draws.dtype == probs.dtype == torch.bfloat16
    (draws.sum() + probs.square().sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_repeated_draws_agree_with_the_estimator() -> None:
    logits = torch.randn(50, 6, dtype=torch.float64)
    draws, probs = reinmax(logits, 1.3, generator=seeded())
    assert torch.equal(draws, gradients.reinmax(logits, draws.argmax(-1), probs, 1.3))
    assert torch.equal(draws.argmax(-1), categorical.draw(probs, logits.shape, seeded()))


def test_importing_the_package_loads_no_torch() -> None:
    """Neither the package, nor the names of a run, nor any estimator, until something is computed."""
    program = """
import sys
import reinmax_core
from reinmax_core import RunSpec
from reinmax_core.estimators import GumbelSoftmax, ReinMax, Rloo
ReinMax(tau=1.1), RunSpec.model_json_schema()
sys.exit(", ".join(sorted({"torch", "numpy"} & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_public_names_are_found_and_others_named() -> None:
    import reinmax_core
    from reinmax_core import estimators

    assert {"reinmax", "RunSpec", "Trainer"} <= set(dir(reinmax_core))
    assert {"ReinMax", "Exact", "Pathwise"} <= set(dir(estimators))
    with pytest.raises(AttributeError, match=r"'relax'; it offers RunSpec"):
        _ = reinmax_core.relax
    with pytest.raises(AttributeError, match=r"'Nonesuch'; it offers .*Rloo"):
        _ = estimators.Nonesuch
