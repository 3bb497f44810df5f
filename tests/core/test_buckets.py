"""Batches of sequences of similar lengths: every sequence once an epoch, and every batch known by its step."""

import pytest
import torch

from reinmax_core.buckets import Bucketed, Sequences

LENGTHS = torch.arange(1, 61)[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
TOKENS = torch.where(torch.arange(60) < LENGTHS.unsqueeze(1), LENGTHS.unsqueeze(1), 0)
ALL = Sequences(TOKENS, LENGTHS, -LENGTHS)


def test_sequences_come_the_longest_first_without_padding_beyond_it() -> None:
    rows = torch.tensor([4, 9, 2])
    chosen = ALL.at(rows)
    assert chosen.lengths.tolist() == sorted(LENGTHS[rows].tolist(), reverse=True)
    assert chosen.labels.tolist() == (-chosen.lengths).tolist()
    assert chosen.tokens.shape == (3, chosen.lengths[0])
    assert all((row[:length] == length).all() for row, length in zip(chosen.tokens, chosen.lengths, strict=True))


def test_parts_hold_all_sequences_and_no_more_tokens_than_asked() -> None:
    parts = list(ALL.parts(100))
    assert torch.cat([part.lengths for part in parts]).tolist() == list(range(60, 0, -1))
    assert max(part.tokens.numel() for part in parts) <= 100
    assert [len(part) for part in ALL.parts(1)] == [1] * 60, "a sequence longer than that comes alone"


def test_every_sequence_is_read_once_an_epoch_in_another_order_each_time() -> None:
    batches = Bucketed(ALL, size=6, seed=0)
    assert batches.steps_per_epoch == 10
    epochs = [torch.cat([batches[step].lengths for step in range(10 * epoch, 10 * epoch + 10)]) for epoch in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(1, 61)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_lengths_of_a_batch_are_neighbours() -> None:
    batches = Bucketed(ALL, size=6, seed=0)
    assert all(batches[step].lengths[0] - batches[step].lengths[-1] == 5 for step in range(20))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    in_order = Bucketed(ALL, size=7, seed=3)
    expected = [in_order[step].lengths for step in range(16)]
    for step in (15, 2, 7, 0):
        assert torch.equal(Bucketed(ALL, size=7, seed=3)[step].lengths, expected[step])
    assert any(not torch.equal(Bucketed(ALL, size=7, seed=4)[step].lengths, expected[step]) for step in range(4))
    assert {len(lengths) for lengths in expected} == {7}, "a last incomplete batch is left out"


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 61 cannot be taken from 60 examples"):
        Bucketed(ALL, size=61, seed=0)
