"""A network that holds every cell of the NATS-Bench topology space, one of which a draw picks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from reinmax_core.data.nats_bench import EDGES, OPERATIONS

STAGES = 3

Evaluation: TypeAlias = Literal["full", "sparse"]
"""Which operations are evaluated for the gradient of a draw, see `CellSearchNetwork`."""


class CellSearchNetwork(nn.Module):
    """Images to logits of classes, through copies of one cell whose operations are drawn.

    A 3x3 convolution, three stages of cells with a residual block of stride 2 between them that doubles the
    channels, the mean over pixels and a linear layer. Batch normalisation always takes the statistics of the
    batch, so the network has no state beyond its parameters.

    `architecture` [6, 5] holds the logits of the operations on a cell's edges, which all cells share. It is
    not used here: who trains draws from it. Of a draw's operations only those that it picks are felt by the
    result. If the draw has a gradient, that for operation k of an edge, with u what arrives at the edge's
    output, is

    - full: <u, o_k(x)>, the derivative. All operations are evaluated, those not picked without a graph.
    - sparse: <u, o_k(x)> for the one picked, and the sum of u for all others, as if each gave ones. Nothing
      but the picked operation is evaluated. This is the gradient of GDAS.

    Sources: Dong, Liu, Musial and Gabrys, "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology
    and Size", 2021, arXiv 2009.00437; Dong and Yang, "Searching for a Robust Neural Architecture in Four GPU
    Hours", 2019, arXiv 1910.04465.

    Args:
        channels: of the first stage.
        cells: in each stage.
        classes: of the images.
        evaluation: see above.
    """

    def __init__(self, channels: int, cells: int, classes: int, evaluation: Evaluation) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), _normalisation(channels))
        widths = [channels * 2**stage for stage in range(STAGES)]
        layers: list[nn.Module] = [SearchCell(channels, evaluation) for _ in range(cells)]
        for width in widths[1:]:
            layers += [Reduction(width // 2), *(SearchCell(width, evaluation) for _ in range(cells))]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(_normalisation(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[-1], classes)
        self.architecture = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)))

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the architecture."""
        return [parameter for parameter in self.parameters() if parameter is not self.architecture]

    def forward(self, images: Tensor, draws: Tensor) -> Tensor:
        """Logits of the classes [images, classes].

        Args:
            images: [images, 3, height, width], height and width divisible by 4.
            draws: one-hot draws of an operation for each edge, [6, 5].
        """
        picked: list[int] = draws.argmax(-1).tolist()
        features = self.stem(images)
        for layer in self.layers:
            features = layer(features, draws, picked) if isinstance(layer, SearchCell) else layer(features)
        return cast(Tensor, self.classifier(self.head(features)))


class SearchCell(nn.Module):
    """Four nodes; each is the sum, over the earlier ones, of what the operation on the edge from there gives."""

    def __init__(self, channels: int, evaluation: Evaluation) -> None:
        super().__init__()
        self.evaluation = evaluation
        self.pointwise = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in EDGES)
        self.spatial = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in EDGES)

    def forward(self, features: Tensor, draws: Tensor, picked: Sequence[int]) -> Tensor:
        """Features of the shape of `features`; for the others see `CellSearchNetwork`."""
        sums: dict[int, Tensor] = {}
        nodes = {0: Node(features)}
        for edge, (source, target) in enumerate(EDGES):
            if source not in nodes:
                nodes[source] = Node(sums[source])
            output = self._drawn(edge, nodes[source], draws, picked[edge])
            sums[target] = sums[target] + output if target in sums else output
        return sums[EDGES[-1][1]]

    def _drawn(self, edge: int, node: Node, draws: Tensor, picked: int) -> Tensor:
        output = self.operation(edge, picked, node)
        if not draws.requires_grad:
            return output
        outputs = [output if k == picked else self._other(edge, k, node) for k in range(len(OPERATIONS))]
        return cast(Tensor, _Picked.apply(draws[edge], picked, *outputs))  # type: ignore[no-untyped-call]

    def _other(self, edge: int, operation: int, node: Node) -> Tensor:
        """What the draw's gradient is taken to need of an operation that was not picked."""
        if self.evaluation == "sparse":
            return node.features.new_ones(())
        if OPERATIONS[operation] == "none":
            return node.features.new_zeros(())
        with torch.no_grad():
            return self.operation(edge, operation, node)

    def operation(self, edge: int, operation: int, node: Node) -> Tensor:
        """What an operation of an edge gives for the node that the edge comes from."""
        match OPERATIONS[operation]:
            case "skip_connect":
                return node.features
            case "nor_conv_1x1":
                return _normalised(self.pointwise[edge](node.rectified))
            case "nor_conv_3x3":
                return _normalised(self.spatial[edge](node.rectified))
            case "avg_pool_3x3":
                return node.pooled
            case _:
                return torch.zeros_like(node.features)


class Node:
    """A node's features, and what several edges make of them alike."""

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @cached_property
    def rectified(self) -> Tensor:
        with torch.set_grad_enabled(self.features.requires_grad):
            return self.features.relu()

    @cached_property
    def pooled(self) -> Tensor:
        """The mean over the 3 x 3 pixels around each one, of those that lie within the image."""
        with torch.set_grad_enabled(self.features.requires_grad):
            return functional.avg_pool2d(self.features, 3, stride=1, padding=1, count_include_pad=False)


class Reduction(nn.Module):
    """A residual block that halves height and width and doubles the channels; no part of the search."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.residual = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False),
            _normalisation(wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            _normalisation(wide),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, wide, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """[images, channels, height, width] to [images, 2 channels, height / 2, width / 2]."""
        return cast(Tensor, self.shortcut(features) + self.residual(features))


class _Picked(Function):
    """sum_k z_k o_k for a one-hot draw z, which is the output o of the operation picked."""

    @staticmethod
    def forward(draw: Tensor, picked: int, *outputs: Tensor) -> Tensor:
        return outputs[picked].view_as(outputs[picked])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.picked, *outputs = inputs
        ctx.save_for_backward(*outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        # d/dz_k = <u, o_k>, d/do_picked = u
        along = torch.stack([_inner_product(u, output) for output in ctx.saved_tensors])
        passed = [u if k == ctx.picked else None for k in range(len(ctx.saved_tensors))]
        return along, None, *passed


def _inner_product(u: Tensor, output: Tensor) -> Tensor:
    if output.dim() == 0:
        return u.sum() * output
    # In one pass and without a copy, as channels lie last in memory.
    return u.movedim(1, -1).reshape(-1).dot(output.movedim(1, -1).reshape(-1))


def _normalisation(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _normalised(features: Tensor) -> Tensor:
    """Each channel with mean 0 and variance 1 over the batch and the pixels."""
    return functional.batch_norm(features, None, None, training=True)
