"""Two halves of labelled images: what belongs to which, and in what order they are read."""

import numpy
import torch

from reinmax_core.halves import Halves, PairedBatches

CPU = torch.device("cpu")


def halves(count: int = 21) -> Halves:
    images = numpy.arange(count, dtype=numpy.uint8)[:, None, None, None].repeat(4, axis=2)
    return Halves.of(images, numpy.arange(count, dtype=numpy.uint8) + 100, CPU)


def test_halves_have_no_image_in_common_and_keep_their_labels() -> None:
    found = halves()
    assert found.first.images[:, 0, 0, 0].tolist() == list(range(10))
    assert found.second.images[:, 0, 0, 0].tolist() == list(range(10, 20))
    assert found.first.labels.tolist() == list(range(100, 110))
    assert found.second.labels.tolist() == list(range(110, 120))


def test_each_half_is_read_once_an_epoch_in_an_order_of_its_own() -> None:
    batches = PairedBatches(halves(), 5, seed=3)
    assert batches.steps_per_epoch == 2
    pairs = [batches[step] for step in range(2)]
    first = torch.cat([pair.first.labels for pair in pairs])
    second = torch.cat([pair.second.labels for pair in pairs])
    assert sorted(first.tolist()) == list(range(100, 110))
    assert sorted(second.tolist()) == list(range(110, 120))
    assert not torch.equal(first, second - 10)
    for pair in pairs:
        assert torch.equal(pair.first.images[:, 0, 0, 0].long() + 100, pair.first.labels)
        assert torch.equal(pair.second.images[:, 0, 0, 0].long() + 100, pair.second.labels)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    batches, again, other = (PairedBatches(halves(), 5, seed) for seed in (3, 3, 4))
    later = again[5]
    for step in range(5):
        _ = batches[step]
    for half in ("first", "second"):
        assert torch.equal(getattr(batches[5], half).labels, getattr(later, half).labels)
        assert not torch.equal(getattr(other[5], half).labels, getattr(later, half).labels)
