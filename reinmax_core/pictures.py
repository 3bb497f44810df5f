"""Grey levels as files that anything shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def png(levels: Tensor) -> bytes:
    """A PNG file of grey levels 0 to 255 as bytes, [height, width]."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(levels.numpy(force=True)).save(file, "PNG", optimize=True)
    return file.getvalue()
