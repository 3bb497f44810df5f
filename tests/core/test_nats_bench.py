"""The benchmark's table: its notation, its known cells and optima, and ranks among all cells."""

from itertools import product

import pytest

from reinmax_core.data import DataSource
from reinmax_core.data.nats_bench import ACCURACIES, EDGES, OPERATIONS, CellTable, NatsBench, parsed, written

CELLS = 15_625


@pytest.fixture(scope="module")
def table() -> CellTable:
    return NatsBench().load(DataSource.from_environment())


def test_every_cell_is_there_once_and_written_as_the_benchmark_writes_it(table: CellTable) -> None:
    assert len(table.cells) == CELLS
    cells = [parsed(text) for text in table.cells]
    assert [written(cell) for cell in cells] == list(table.cells)
    assert set(cells) == set(product(range(len(OPERATIONS)), repeat=len(EDGES)))


def test_edges_are_written_in_the_order_of_their_nodes() -> None:
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    assert written((3, 0, 1, 4, 2, 0)) == text
    assert parsed(text) == (3, 0, 1, 4, 2, 0)
    assert [EDGES[edge] for edge in (1, 5)] == [(0, 2), (2, 3)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|+|none~0|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|max_pool_3x3~2|",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
    ],
)
def test_what_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cell"):
        parsed(text)


@pytest.mark.parametrize(
    ("column", "index", "optimum"),
    [
        ("cifar10_valid", 6111, 91.61),
        ("cifar10_test", 6111, 94.37),
        ("cifar100_valid", 9930, 73.49),
        ("cifar100_test", 9930, 73.51),
        ("imagenet16_120_valid", 10676, 46.73),
        ("imagenet16_120_test", 857, 47.31),
    ],
)
def test_the_best_cells_are_the_published_ones(table: CellTable, column: str, index: int, optimum: float) -> None:
    assert table.rank(index)[column] == 1
    assert table.accuracy(index)[column] == pytest.approx(optimum, abs=0.01)


def test_the_cell_of_skips_has_the_accuracies_published_for_darts(table: CellTable) -> None:
    index = table.index((OPERATIONS.index("skip_connect"),) * len(EDGES))
    assert index == 1835
    published = (39.77, 54.30, 15.03, 15.61, 16.43, 16.32)
    assert list(table.accuracy(index).values()) == pytest.approx(published, abs=0.006)


def test_ranks_count_what_is_better(table: CellTable) -> None:
    for index in (0, 1835, 15_624):
        ranks, accuracies = table.rank(index), table.accuracy(index)
        for column in ACCURACIES:
            better = sum(value > accuracies[column] for value in table.accuracies[column].tolist())
            assert ranks[column] == 1 + better
