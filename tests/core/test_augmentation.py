"""Images flipped and shifted: every outcome is a crop of the image with its border, and all are as likely."""

import torch
from torch.nn import functional

from reinmax_core.augmentation import flipped_and_shifted

DRAWS = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outcomes(image: torch.Tensor, border: int) -> list[torch.Tensor]:
    """Every image that may come of it, by loops."""
    _, height, width = image.shape
    found = []
    for mirrored in (image, image.flip(-1)):
        padded = functional.pad(mirrored, (border,) * 4)
        for y in range(2 * border + 1):
            found += [padded[:, y : y + height, x : x + width] for x in range(2 * border + 1)]
    return found


def test_all_outcomes_are_as_likely_and_there_are_no_others() -> None:
    image = torch.arange(1, 19, dtype=torch.uint8).reshape(2, 3, 3)
    possible = {tuple(outcome.flatten().tolist()): 0 for outcome in outcomes(image, 1)}
    assert len(possible) == 18
    for drawn in flipped_and_shifted(image.expand(DRAWS, -1, -1, -1), generator(), border=1):
        possible[tuple(drawn.flatten().tolist())] += 1  # an outcome that is not possible is a KeyError
    p = 1 / 18
    for count in possible.values():
        assert abs(count - DRAWS * p) / (DRAWS * p * (1 - p)) ** 0.5 < 4.5


def test_each_image_is_changed_by_itself_and_keeps_its_type() -> None:
    images = torch.randint(256, (50, 3, 32, 32), generator=generator(), dtype=torch.uint8)
    changed = flipped_and_shifted(images, generator(1))
    assert (changed.shape, changed.dtype) == (images.shape, images.dtype)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    for image, drawn in zip(images, changed, strict=True):
        assert any(torch.equal(drawn, outcome) for outcome in outcomes(image, 4))


def test_the_generator_decides() -> None:
    images = torch.randint(256, (8, 3, 32, 32), generator=generator(), dtype=torch.uint8)
    one, same, other = (flipped_and_shifted(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
