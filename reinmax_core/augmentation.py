"""Changes at random to images of which a network is not to take notice."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional


def flipped_and_shifted(images: Tensor, generator: Generator, *, border: int = 4) -> Tensor:
    """Each image mirrored with probability 1/2, then moved by up to `border` pixels along both axes.

    Every move is as likely; what comes in from outside is 0. This is a crop, at a random place, of the image
    with a border of zeros around it.

    Args:
        images: [images, channels, height, width], any type.
        generator: the source of randomness, on the device of the images.
        border: the largest move, in pixels.

    Returns:
        Images of the same shape and type, with channels last in memory.
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, (border,) * 4)
    rows = _starts(count, border, images.device, generator) + torch.arange(height, device=images.device)
    columns = _starts(count, border, images.device, generator) + torch.arange(width, device=images.device)
    mirrored = torch.randint(2, (count, 1), generator=generator, device=images.device).bool()
    columns = torch.where(mirrored, width + 2 * border - 1 - columns, columns)
    numbers = torch.arange(count, device=images.device)[:, None, None]
    return padded[numbers, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _starts(count: int, border: int, device: torch.device, generator: Generator) -> Tensor:
    return torch.randint(2 * border + 1, (count, 1), generator=generator, device=device)
