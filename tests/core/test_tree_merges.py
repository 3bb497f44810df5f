"""Trees whose compositions and derivatives are kept: equal to composing everything anew at every step."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from reinmax_core.estimators.base import Estimator, Pathwise
from reinmax_core.models.forest import plan
from reinmax_core.models.tree_merges import Cell, Choose, merged
from reinmax_core.value import discover

PATHWISE = [name for name, estimator in discover(Estimator).items() if issubclass(estimator, Pathwise)]
SIZE = 5
LENGTHS = [[7, 7, 5, 4, 3, 2, 1], [9, 9, 9], [12, 3, 3], [4, 1], [3], [2], [1]]


def composed(cell: Cell, left: Tensor, right: Tensor) -> Tensor:
    """Hidden and cell state of the composition of nodes [..., 2 size]."""
    size = left.shape[-1] // 2
    inward = torch.cat((left[..., :size], right[..., :size]), -1) @ cell.weight.t() + cell.bias
    i, f_left, f_right, o, u = inward.chunk(5, -1)
    state = left[..., size:] * (f_left + 1).sigmoid() + right[..., size:] * (f_right + 1).sigmoid()
    state = state + u.tanh() * i.sigmoid()
    return torch.cat((o.sigmoid() * state.tanh(), state), -1)


def scores(cell: Cell, nodes: Tensor) -> Tensor:
    size = nodes.shape[-1] // 2
    return nodes[..., :size] @ cell.query / math.sqrt(size)


def merged_anew(leaves: Tensor, lengths: list[int], cell: Cell, choose: Choose) -> Tensor:
    """The plain algorithm: at every step all pairs are composed, and the sequence is a weighted sum."""
    sequences = [leaves[:length, tree] for tree, length in enumerate(lengths)]
    # Where the leftmost leaves of the nodes are, so that both sides ask for choices among the same places.
    places = [list(range(length)) for length in lengths]
    for _ in range(len(leaves) - 1):
        pairs = [composed(cell, nodes[:-1], nodes[1:]) for nodes in sequences]
        trees = [tree for tree, nodes in enumerate(sequences) if len(nodes) > 2]
        choices = chosen_at(trees, places, [scores(cell, nodes) for nodes in pairs], len(leaves), choose)
        for tree, nodes in enumerate(sequences):
            if len(nodes) > 1:
                one_hot = choices[tree].unsqueeze(-1) if tree in choices else nodes.new_ones(1, 1)
                so_far = one_hot.cumsum(0)
                stays, moves = 1 - so_far, so_far - one_hot
                sequences[tree] = stays * nodes[:-1] + one_hot * pairs[tree] + moves * nodes[1:]
                del places[tree][int(one_hot.argmax()) + 1]
    return torch.stack([nodes[0, : nodes.shape[-1] // 2] for nodes in sequences])


def chosen_at(
    trees: list[int], places: list[list[int]], found: list[Tensor], count: int, choose: Choose
) -> dict[int, Tensor]:
    """One-hot choices among the pairs of each tree, drawn in a table of all places."""
    if not trees:
        return {}
    table, mask = found[0].new_zeros(len(trees), count), torch.zeros(len(trees), count, dtype=torch.bool)
    for row, tree in enumerate(trees):
        where = torch.tensor(places[tree][:-1])
        table = table.index_put((torch.tensor(row), where), found[tree])
        mask[row, where] = True
    draws = choose(table, mask)
    return {tree: draws[row, torch.tensor(places[tree][:-1])] for row, tree in enumerate(trees)}


def problem(lengths: list[int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(lengths[0], len(lengths), 2 * SIZE), (5 * SIZE, 2 * SIZE), (5 * SIZE,), (SIZE,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def value_and_gradients(
    algorithm: Callable[..., Tensor], lengths: list[int], estimator: Estimator
) -> tuple[Tensor, list[Tensor]]:
    leaves, *cell = (tensor.requires_grad_() for tensor in problem(lengths))
    generator = torch.Generator().manual_seed(3)
    roots = algorithm(
        leaves, lengths, Cell(*cell), lambda table, mask: estimator.sample(table, mask=mask, generator=generator)
    )
    weights = torch.randn(roots.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((roots.tanh() * weights).sum(), [leaves, *cell], allow_unused=True)
    zeros = [torch.zeros_like(tensor) for tensor in (leaves, *cell)]
    return roots.detach(), [zero if one is None else one for one, zero in zip(gradients, zeros, strict=True)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", PATHWISE)
def test_values_and_all_gradients_are_those_of_composing_anew(name: str, lengths: list[int]) -> None:
    estimator = discover(Estimator)[name].model_validate({})
    roots, gradients = value_and_gradients(merged, lengths, estimator)
    expected, expected_gradients = value_and_gradients(merged_anew, lengths, estimator)
    torch.testing.assert_close(roots, expected, rtol=1e-12, atol=1e-12)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)
    if lengths[0] > 2:
        assert gradients[3].abs().max() > 0, "choices are learned from"


def greedy(table: Tensor, mask: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(table.masked_fill(~mask, -math.inf).argmax(-1), table.shape[1]).to(table)


def recursive(cell: Cell, nodes: list[Tensor]) -> Tensor:
    """One tree, merged where the score is largest until a node is left."""
    if len(nodes) == 1:
        return nodes[0][:SIZE]
    pairs = [composed(cell, left, right) for left, right in itertools.pairwise(nodes)]
    best = max(range(len(pairs)), key=lambda pair: scores(cell, pairs[pair]).item())
    return recursive(cell, [*nodes[:best], pairs[best], *nodes[best + 2 :]])


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_greedy_trees_are_those_of_a_recursion(lengths: list[int]) -> None:
    leaves, *parameters = problem(lengths, seed=1)
    cell = Cell(*parameters)
    expected = [recursive(cell, list(leaves[:length, tree])) for tree, length in enumerate(lengths)]
    torch.testing.assert_close(merged(leaves, lengths, cell, greedy), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_what_stands_beyond_a_tree_changes_nothing() -> None:
    lengths = [6, 4, 2]
    leaves, *cell = problem(lengths)
    changed = leaves.clone()
    changed[4:, 1], changed[2:, 2] = 100, -100
    assert torch.equal(merged(leaves, lengths, Cell(*cell), greedy), merged(changed, lengths, Cell(*cell), greedy))
    changed.requires_grad_()
    (gradient,) = torch.autograd.grad(merged(changed, lengths, Cell(*cell), greedy_of_one).sum(), changed)
    assert gradient[:2].ne(0).all()
    assert not gradient[4:, 1].any() and not gradient[2:, 2].any()


def greedy_of_one(table: Tensor, mask: Tensor) -> Tensor:
    return discover(Estimator)["argmax_straight_through"].model_validate({}).sample(table, mask=mask)


def test_only_open_pairs_of_trees_with_a_choice_are_offered() -> None:
    offered = []

    def first(table: Tensor, mask: Tensor) -> Tensor:
        offered.append(mask.int().tolist())
        return greedy(-torch.arange(table.shape[1], dtype=table.dtype).expand_as(table), mask)

    leaves, *cell = problem([4, 3, 2, 1])
    merged(leaves, [4, 3, 2, 1], Cell(*cell), first)
    assert offered == [[[1, 1, 1, 0], [1, 1, 0, 0]], [[1, 0, 1, 0]]]


def test_a_second_gradient_is_refused() -> None:
    leaves, *cell = (tensor.requires_grad_() for tensor in problem([3]))
    total = merged(leaves, [3], Cell(*cell), greedy_of_one).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be taken once"):
        total.backward()


@pytest.mark.parametrize("lengths", [[2, 3], [3, 0]])
def test_lengths_out_of_order_are_refused(lengths: list[int]) -> None:
    leaves, *cell = problem([3, 3])
    with pytest.raises(ValueError, match="at least 1 in falling order"):
        merged(leaves, lengths, Cell(*cell), greedy)


@pytest.mark.parametrize(
    ("lengths", "merging", "choosing"),
    [
        ([], [], []),
        ([1], [], []),
        ([1, 1, 1], [], []),
        ([2], [1], [0]),
        ([2, 2, 1], [2], [0]),
        ([4, 4, 4], [3, 3, 3], [3, 3, 0]),
        ([7, 7, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 2], [5, 4, 3, 2, 2, 0]),
    ],
)
def test_a_tree_of_n_leaves_merges_n_less_one_times_and_chooses_n_less_two_times(
    lengths: list[int], merging: list[int], choosing: list[int]
) -> None:
    assert plan(lengths) == (merging, choosing)
    assert sum(merging) == sum(length - 1 for length in lengths)
    assert sum(choosing) == sum(max(length - 2, 0) for length in lengths)
