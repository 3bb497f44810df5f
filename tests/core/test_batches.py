"""Order of examples: every one once an epoch, and every batch known by its step."""

import pytest
import torch

from reinmax_core.batches import Shuffled

ROWS = torch.arange(10).unsqueeze(-1)


def test_every_row_is_read_once_an_epoch_in_another_order_each_time() -> None:
    batches = Shuffled(ROWS, size=5, seed=0)
    assert batches.steps_per_epoch == 2
    epochs = [torch.cat([batches[step], batches[step + 1]]).flatten().tolist() for step in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    in_order = Shuffled(ROWS, size=3, seed=7)
    expected = [in_order[step] for step in range(12)]
    for step in (11, 2, 5, 0):
        assert torch.equal(Shuffled(ROWS, size=3, seed=7)[step], expected[step])
        assert torch.equal(in_order[step], expected[step])
    assert any(not torch.equal(Shuffled(ROWS, size=3, seed=8)[step], expected[step]) for step in range(3))


def test_a_last_incomplete_batch_is_left_out() -> None:
    batches = Shuffled(ROWS, size=4, seed=0)
    assert {len(batches[step]) for step in range(6)} == {4}


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 11 cannot be taken from 10 examples"):
        Shuffled(ROWS, size=11, seed=0)
