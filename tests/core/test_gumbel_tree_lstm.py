"""The Gumbel tree-LSTM: its leaves against torch's cell, its classifier, and what it drops."""

import pytest
import torch

from reinmax_core.estimators import ReinMax
from reinmax_core.models.gumbel_tree_lstm import GumbelTreeLstm
from reinmax_core.models.leaf_lstm import memory

TOKENS = torch.tensor([[2, 3, 4, 5, 6], [7, 8, 9, 1, 1], [3, 1, 1, 1, 1]])
LENGTHS = [5, 3, 1]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(dropout: float = 0.0) -> GumbelTreeLstm:
    torch.manual_seed(0)
    return GumbelTreeLstm(vocabulary=10, classes=4, embedding=6, hidden=5, dropout=dropout).double()


def test_leaves_and_their_gradients_are_those_of_torch() -> None:
    torch.manual_seed(1)
    cell = torch.nn.LSTMCell(4, 3).double()
    inputs = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    state = (torch.zeros(2, 3, dtype=torch.float64),) * 2
    expected = []
    for step in inputs:
        state = cell(step, state)
        expected.append(torch.cat(state, -1))
    # torch orders its gates i, f, g, o.
    i, f, g, o = torch.arange(12).chunk(4)
    order = torch.cat((i, f, o, g))
    shares = inputs @ cell.weight_ih[order].t() + (cell.bias_ih + cell.bias_hh)[order]
    found = memory(shares, cell.weight_hh[order])
    torch.testing.assert_close(found, torch.stack(expected))
    weights = torch.randn(found.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((found.sin() * weights).sum(), [inputs, *cell.parameters()]),
        torch.autograd.grad((torch.stack(expected).sin() * weights).sum(), [inputs, *cell.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_initial_values_are_the_published_ones() -> None:
    torch.manual_seed(0)
    model = GumbelTreeLstm(vocabulary=23, classes=11, embedding=300, hidden=300, dropout=0.5)
    assert model.embedding.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.query.std().item() == pytest.approx(0.01, rel=0.2)
    assert model.output.weight.abs().max().item() == pytest.approx(0.002, rel=0.01)
    columns = model.composition.weight.t() @ model.composition.weight
    torch.testing.assert_close(columns, torch.eye(600), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.recurrent.t() @ model.recurrent, torch.eye(300), atol=1e-4, rtol=0)
    assert model.leaf.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.01)
    assert model.leaf.bias.tolist() == [0.0] * 300 + [1.0] * 300 + [0.0] * 600


def test_a_batch_gives_what_its_trees_give_alone() -> None:
    model = network()
    together = model.likeliest(TOKENS, LENGTHS)
    for tree, length in enumerate(LENGTHS):
        alone = model.likeliest(TOKENS[tree : tree + 1, :length], [length])
        torch.testing.assert_close(together[tree : tree + 1], alone)


def test_every_parameter_has_a_gradient_that_agrees_with_differences() -> None:
    model = network()

    def loss() -> torch.Tensor:
        logits: torch.Tensor = model.likeliest(TOKENS, LENGTHS)
        return logits.square().sum()

    parameters = list(model.parameters())
    drawn = model(TOKENS, LENGTHS, ReinMax(), generator()).square().sum()
    assert all(gradient.any() for gradient in torch.autograd.grad(drawn, parameters))
    # For a small step the likeliest merges stay the same; no gradient passes through them.
    gradients = torch.autograd.grad(loss(), parameters)
    step = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator(), dtype=torch.float64)
        with torch.no_grad():
            parameter += step * direction
            above = loss()
            parameter -= 2 * step * direction
            below = loss()
            parameter += step * direction
        torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * step), atol=1e-7, rtol=1e-5)


def test_dropped_entries_are_drawn_from_the_generator_handed_in() -> None:
    model = network(dropout=0.5)
    one, same, other = (model(TOKENS, LENGTHS, ReinMax(), generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(model.likeliest(TOKENS, LENGTHS), network().likeliest(TOKENS, LENGTHS)), "none in evaluation"


def test_dropping_keeps_the_mean() -> None:
    model = network(dropout=0.25)
    dropped = model._dropped(torch.ones(100_000), generator())
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=5 * (1 / 3 / 100_000) ** 0.5)


def test_under_autocast_leaves_and_merges_keep_their_precision() -> None:
    model = network().float()
    expected = model(TOKENS, LENGTHS, ReinMax(), generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(TOKENS, LENGTHS, ReinMax(), generator())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.02 * expected.abs().max().item(), rtol=0)
    found.float().square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
