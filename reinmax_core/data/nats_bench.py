"""Accuracies of all cells of a search space, each trained in full: what an architecture search is scored by."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias, final

from reinmax_core.data.base import Citation, DataSet, DataSource
from reinmax_core.data.file import DataFile

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What may stand on an edge, under the benchmark's names and in its order."""

EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges of a cell, each from an earlier node to a later one, in the order in which the benchmark writes them."""

ACCURACIES: Final = (
    "cifar10_valid",
    "cifar10_test",
    "cifar100_valid",
    "cifar100_test",
    "imagenet16_120_valid",
    "imagenet16_120_test",
)
"""Data set and part of it on which the trained cells were tested, as columns of the table."""

Cell: TypeAlias = tuple[int, ...]
"""A number into `OPERATIONS` for each of `EDGES`."""


def written(cell: Sequence[int]) -> str:
    """The cell in the benchmark's notation.

    The edges into a node stand between bars, each as its operation and the node it comes from; a plus
    sign parts the nodes. For example |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|.

    Raises:
        ValueError: not one operation for each edge.
    """
    nodes: dict[int, str] = {}
    for (source, target), operation in zip(EDGES, cell, strict=True):
        nodes[target] = nodes.get(target, "|") + f"{OPERATIONS[operation]}~{source}|"
    return "+".join(nodes.values())


def parsed(text: str) -> Cell:
    """The cell that `written` writes so.

    Raises:
        ValueError: this is no cell in the benchmark's notation.
    """
    edges = [edge for node in text.split("+") for edge in node.strip("|").split("|")]
    names = [edge.partition("~")[0] for edge in edges]
    if len(names) != len(EDGES) or not set(names) <= set(OPERATIONS):
        raise ValueError(f"a cell has {len(EDGES)} edges with operations among {OPERATIONS}, but found {text!r}")
    cell = tuple(OPERATIONS.index(name) for name in names)
    if written(cell) != text:
        raise ValueError(f"a cell is written as {written(cell)!r}, but found {text!r}")
    return cell


@dataclass(frozen=True, slots=True, eq=False)
class CellTable:
    """Every cell with its accuracies in percent."""

    cells: tuple[str, ...]
    """The cells in the benchmark's notation, in the benchmark's order."""

    accuracies: dict[str, NDArray[numpy.float64]]
    """For each of `ACCURACIES` the accuracy of every cell, mean over the benchmark's runs of 200 epochs, [cells]."""

    def index(self, cell: Sequence[int]) -> int:
        """The number of a cell in the benchmark."""
        return self.cells.index(written(cell))

    def accuracy(self, index: int) -> dict[str, float]:
        """The accuracies of a cell, by column."""
        return {column: float(values[index]) for column, values in self.accuracies.items()}

    def rank(self, index: int) -> dict[str, int]:
        """One more than the number of cells that are better, by column; equals share a rank."""
        return {column: 1 + int((values > values[index]).sum()) for column, values in self.accuracies.items()}


@final
class NatsBench(DataSet):
    """The topology space of NATS-Bench: 15,625 cells, trained for 200 epochs each on three image data sets.

    The table holds what can be read off the benchmark's release v1.0, mean over its two or three runs of a
    cell: test accuracies of training on all training images, validation accuracies on CIFAR-10 of training
    on half of them.
    """

    name: Literal["nats_bench"] = "nats_bench"

    title: ClassVar[str] = "NATS-Bench, topology search space"
    terms: ClassVar[str] = "MIT licence, (c) Xuanyi Dong; the table here was compiled from published copies of it"
    citation: ClassVar[Citation] = Citation(
        authors="Xuanyi Dong, Lu Liu, Katarzyna Musial, Bogdan Gabrys",
        title="NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size",
        year=2021,
        link="https://arxiv.org/abs/2009.00437",
    )
    files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            name="nats-bench/nats_bench_tss_accuracies.csv.gz",
            bytes=407512,
            sha256="9dbf51554e9f40b6c84fd47ff008a99a5eeb730a74bde43144936fd38078d7f1",
            md5="da5729b752afd6c7523644f01c5b43fe",
            urls=(),
        ),
    )

    def load(self, source: DataSource) -> CellTable:
        """All 15,625 cells; see `DataSet.load`."""
        from numpy import array

        with gzip.open(source.fetch(self.files[0]), "rt", newline="") as content:
            rows = list(csv.DictReader(content))
        cells = tuple(row["arch_str"] for row in rows)
        return CellTable(cells, {column: array([float(row[column]) for row in rows]) for column in ACCURACIES})
