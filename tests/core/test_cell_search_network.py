"""The super-network: operations and sums by hand, and the gradient of a draw against the plain sum over operations."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reinmax_core.data.nats_bench import EDGES, OPERATIONS
from reinmax_core.estimators import ReinMax
from reinmax_core.models.cell_search_network import CellSearchNetwork, Evaluation, Node, Reduction, SearchCell

NONE, SKIP, POINTWISE, SPATIAL, POOL = range(len(OPERATIONS))
MODES = get_args(Evaluation)


def drawn(*operations: int) -> Tensor:
    return functional.one_hot(torch.tensor(operations), len(OPERATIONS)).double()


def images(seed: int = 0, *, channels: int = 3, size: int = 8, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)


def network(evaluation: Any, seed: int = 0) -> CellSearchNetwork:
    torch.manual_seed(seed)
    return CellSearchNetwork(channels=2, cells=2, classes=3, evaluation=evaluation).double()


def through(cell: SearchCell, x: Tensor, *operations: int) -> Tensor:
    found: Tensor = cell(x, drawn(*operations), operations)
    return found


def test_pooling_takes_the_mean_of_the_pixels_that_exist() -> None:
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    expected = [[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]]
    assert SearchCell(1, "full").operation(0, POOL, Node(x)).tolist() == [[expected]]


def test_convolutions_rectify_first_and_normalise_last() -> None:
    cell = SearchCell(1, "full").double()
    x = torch.tensor([[[[-2.0, 1.0], [3.0, 0.0]]], [[[4.0, -1.0], [-5.0, 2.0]]]]).double()
    with torch.no_grad():
        cell.pointwise[0].weight.fill_(-3.0)
        cell.spatial[0].weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
    rectified = [0.0, 1.0, 3.0, 0.0, 4.0, 0.0, 0.0, 2.0]
    assert cell.operation(0, POINTWISE, Node(x)).flatten().tolist() == pytest.approx(
        normalised([-3 * value for value in rectified])
    )
    # Weights 0 to 8 row by row, the pixel itself under 4: of a 2 x 2 image each pixel sees all four.
    a = [[4, 5, 7, 8], [3, 4, 6, 7], [1, 2, 4, 5], [0, 1, 3, 4]]
    sums = [
        sum(w * v for w, v in zip(row, image, strict=True)) for image in (rectified[:4], rectified[4:]) for row in a
    ]
    assert cell.operation(0, SPATIAL, Node(x)).flatten().tolist() == pytest.approx(normalised(sums))


def normalised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / (variance + 1e-5) ** 0.5 for value in values]


def test_nodes_are_sums_over_the_edges_that_lead_to_them() -> None:
    cell, x = SearchCell(2, "full").double(), images(channels=2)
    # With skips everywhere: x, x, x + x, x + x + 2 x.
    assert torch.equal(through(cell, x, *[SKIP] * 6), 4 * x)
    assert torch.equal(through(cell, x, *[NONE] * 6), torch.zeros_like(x))
    for path in ([(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]):
        assert torch.equal(through(cell, x, *(SKIP if edge in path else NONE for edge in EDGES)), x)
    for path in ([(0, 1), (0, 2), (1, 2)], [(1, 2), (2, 3), (1, 3)]):
        assert not through(cell, x, *(SKIP if edge in path else NONE for edge in EDGES)).any()


def test_edges_have_weights_of_their_own() -> None:
    cell, x = SearchCell(2, "full").double(), images(channels=2)
    for convolution in (POINTWISE, SPATIAL):
        found = [cell.operation(edge, convolution, Node(x)) for edge in range(len(EDGES))]
        assert all(not torch.equal(one, other) for i, one in enumerate(found) for other in found[:i])


def test_reduction_halves_the_image_and_doubles_the_channels() -> None:
    block, x = Reduction(2).double(), images(channels=2)
    assert block(x).shape == (4, 4, 4, 4)
    with torch.no_grad():
        block.residual[-1].weight.zero_()  # the last normalisation, so that the shortcut alone is left
    means = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    expected = torch.einsum("oi,nihw->nohw", block.shortcut[1].weight[:, :, 0, 0], means)
    torch.testing.assert_close(block(x), expected)


def plain(net: CellSearchNetwork, x: Tensor, z: Tensor, evaluation: Evaluation) -> Tensor:
    """The network as a sum over all operations, weighted by the draw, in plain autograd."""
    features = net.stem(x)
    for layer in net.layers:
        if not isinstance(layer, SearchCell):
            features = layer(features)
            continue
        nodes = [features]
        for target in (1, 2, 3):
            total = torch.zeros_like(features)
            for edge, (source, end) in enumerate(EDGES):
                if end != target:
                    continue
                for k in range(len(OPERATIONS)):
                    if evaluation == "sparse" and z[edge, k] == 0:
                        total = total + z[edge, k]
                    else:
                        total = total + z[edge, k] * layer.operation(edge, k, Node(nodes[source]))
            nodes.append(total)
        features = nodes[-1]
    logits: Tensor = net.classifier(net.head(features))
    return logits


DRAWS = [
    (SPATIAL, SKIP, POOL, POINTWISE, NONE, SPATIAL),
    (SKIP, NONE, POINTWISE, POOL, SPATIAL, SKIP),
    (POOL, NONE, NONE, SPATIAL, NONE, NONE),
]


@pytest.mark.parametrize("evaluation", MODES)
@pytest.mark.parametrize("operations", DRAWS)
def test_values_and_gradients_are_those_of_the_sum_over_operations(
    evaluation: Evaluation, operations: tuple[int, ...]
) -> None:
    net, x = network(evaluation), images()
    z, w = drawn(*operations).requires_grad_(), drawn(*operations).requires_grad_()
    found, expected = net(x, z), plain(net, x, w, evaluation)
    torch.testing.assert_close(found, expected)
    targets = torch.tensor([0, 1, 2, 0])
    weights = net.weights()
    one = torch.autograd.grad(functional.cross_entropy(found, targets), [z, *weights], materialize_grads=True)
    two = torch.autograd.grad(functional.cross_entropy(expected, targets), [w, *weights], materialize_grads=True)
    assert one[0].abs().max() > 0
    for mine, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_both_modes_and_a_draw_without_gradient_give_equal_values() -> None:
    x, z = images(), drawn(*DRAWS[0])
    values = [network(mode)(x, draw) for mode in MODES for draw in (z, z.clone().requires_grad_())]
    assert all(torch.equal(values[0], value) for value in values[1:])


def test_the_architecture_has_the_reinmax_gradient_of_the_sum_over_operations() -> None:
    net, x, targets = network("full"), images(), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        net.architecture.mul_(1000)  # away from equal probabilities
    z = ReinMax().sample(net.architecture, generator=torch.Generator().manual_seed(4))
    functional.cross_entropy(net(x, z), targets).backward()  # type: ignore[no-untyped-call]
    d = z.detach().requires_grad_()
    (g,) = torch.autograd.grad(functional.cross_entropy(plain(net, x, d, "full"), targets), d)
    p = net.architecture.detach().softmax(-1)
    # 2 J((p + d) / 2) g - J(p) g / 2 with J(q) g = q (g - q.g)
    middle = (p + d.detach()) / 2
    expected = 2 * product(middle, g) - product(p, g) / 2
    torch.testing.assert_close(net.architecture.grad, expected)


def product(q: Tensor, g: Tensor) -> Tensor:
    return q * (g - (q * g).sum(-1, keepdim=True))


def test_sparse_evaluates_nothing_but_what_is_picked() -> None:
    net, x = network("sparse"), images()
    with torch.no_grad():
        for cell in (layer for layer in net.layers if isinstance(layer, SearchCell)):
            for convolution in cell.spatial:
                convolution.weight.fill_(float("nan"))
    z = drawn(POINTWISE, SKIP, POOL, POINTWISE, NONE, SKIP).requires_grad_()
    net(x, z).sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()


def test_the_default_network_has_the_published_sizes() -> None:
    net = CellSearchNetwork(channels=16, cells=5, classes=10, evaluation="full")
    assert [type(layer).__name__ for layer in net.layers].count("SearchCell") == 15
    assert net.architecture.shape == (6, 5)
    assert 0 < net.architecture.abs().max() < 0.01
    # Stem, cells with six 1x1 and six 3x3 convolutions, two reductions, last normalisation, classifier.
    cells = 5 * 6 * 10 * (16**2 + 32**2 + 64**2)
    stem, head = 3 * 16 * 9 + 2 * 16, 2 * 64 + 64 * 10 + 10
    reductions = sum(c * 2 * c * 9 + 4 * c * c * 9 + 2 * c * c + 8 * c for c in (16, 32))
    assert sum(parameter.numel() for parameter in net.weights()) == cells + stem + head + reductions
    assert net(torch.randn(2, 3, 32, 32), drawn(*[SKIP] * 6)).shape == (2, 10)
