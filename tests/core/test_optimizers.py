"""Optimisers as values build the torch optimisers that they name."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from reinmax_core.optimizers import OPTIMIZERS, Adam, Optimizer, RAdam, Sgd
from reinmax_core.schedules import Plateau


def trained(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int) -> list[Tensor]:
    """Parameters after steps on a noisy, curved loss."""
    noise = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum((p - torch.randn(p.shape, generator=noise)).abs().pow(1.5).sum() for p in parameters)
        loss.backward()  # type: ignore[union-attr, no-untyped-call]
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(7, 3), (5,)]]


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 200])
@pytest.mark.parametrize(
    ("value", "peer"),
    [
        (RAdam(lr=0.02), lambda p: torch.optim.RAdam(p, lr=0.02)),
        (RAdam(betas=(0.8, 0.9), weight_decay=0.1), lambda p: torch.optim.RAdam(p, betas=(0.8, 0.9), weight_decay=0.1)),
        (RAdam(eps=0.1), lambda p: torch.optim.RAdam(p, eps=0.1)),
        (Adam(lr=0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
        (Sgd(momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)),
    ],
)
def test_steps_are_those_of_torch(value: Optimizer, peer: object, steps: int) -> None:
    ours, theirs = parameters(), parameters()
    for a, b in zip(
        trained(value.build(ours), ours, steps),
        trained(peer(theirs), theirs, steps),  # type: ignore[operator]
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("optimizer_class", OPTIMIZERS)
def test_state_resumes_exactly(optimizer_class: type[Optimizer]) -> None:
    whole, half = parameters(), parameters()
    value = optimizer_class.model_validate({})
    through = value.build(whole)
    trained(through, whole, 20)
    expected = trained(through, whole, 20)

    first = value.build(half)
    trained(first, half, 20)
    second = value.build(half)
    second.load_state_dict(first.state_dict())
    for a, b in zip(expected, trained(second, half, 20), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("value", [RAdam(lr=0.5), Adam(lr=0.5), Sgd(lr=0.5)])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_plateau_lowers_the_learning_rate_of_every_optimiser(
    value: Optimizer, direction: Literal["min", "max"]
) -> None:
    ours = parameters()
    optimizer = value.build(ours)
    schedule = Plateau(factor=0.1, patience=2).build(optimizer, direction)
    sign = 1 if direction == "max" else -1
    rates = []
    for objective in (1, 2, 3, 3, 2, 3, 4, 4, 4, 4):
        schedule.step(sign * objective)
        trained(optimizer, ours, 1)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5] * 5 + [0.05] * 4 + [0.005])


def test_a_lower_learning_rate_takes_proportionally_smaller_steps() -> None:
    whole, lowered = parameters(), parameters()
    a, b = RAdam(lr=0.5).build(whole), RAdam(lr=0.5).build(lowered)
    before = trained(a, whole, 10)
    assert all(torch.equal(one, other) for one, other in zip(before, trained(b, lowered, 10), strict=True))
    b.param_groups[0]["lr"] *= 0.25
    for start, large, small in zip(before, trained(a, whole, 1), trained(b, lowered, 1), strict=True):
        torch.testing.assert_close(small - start, 0.25 * (large - start), rtol=1e-3, atol=1e-6)


def test_a_schedule_may_be_left_out() -> None:
    assert Adam.model_validate({"schedule": {"name": "plateau"}}).schedule == Plateau()
    assert Adam.model_validate({"schedule": None}).schedule is None
    assert Adam().schedule is None
