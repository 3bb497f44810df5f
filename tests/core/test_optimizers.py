"""Optimisers as values build the torch optimisers that they name."""

import pytest
import torch
from torch import Tensor, nn

from reinmax_core.optimizers import OPTIMIZERS, Adam, Optimizer, RAdam, Sgd


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
