"""Images of a user's own, from a file in the data folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, final
from zipfile import BadZipFile

from pydantic import AfterValidator

from reinmax_core.data import idx
from reinmax_core.data.base import DataSource, Readable
from reinmax_core.data.file import sha256_of

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

STEM: Final = r"([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*"
"""What names without their ending look like; no part of one begins with a dot, so that none leads out of the folder."""
PATTERN: Final = rf"^{STEM}(\.npz|[.-]idx3-ubyte(\.gz)?)$"
LONGEST_NAME: Final = 200
HELD_OUT: Final = 10
"""One in so many training images is held out where a file has no test images."""

logger = logging.getLogger(__name__)


class ImagesUnfit(ValueError):
    """A user's file does not hold images as they are asked for."""


def checked_name(name: str) -> str:
    """The name itself, if a file of images below a data folder can have it.

    Raises:
        ValueError: it cannot; the message says what a name looks like.
    """
    if len(name) <= LONGEST_NAME and re.fullmatch(PATTERN, name):
        return name
    raise ValueError(
        f"{name[:LONGEST_NAME]!r} should be the name of a file below the data folder, such as 'own/letters.npz': "
        f"letters, digits, '_', '-' and '.', no part of it beginning with a dot, ending in .npz, -idx3-ubyte or "
        f"-idx3-ubyte.gz, at most {LONGEST_NAME} characters"
    )


@dataclass(frozen=True, slots=True, eq=False)
class OwnImages:
    """Grey levels 0 to 255 of a user's images, uint8 arrays in the order of the file."""

    train: NDArray[numpy.uint8]
    """[train, height, width]"""

    test: NDArray[numpy.uint8]
    """[test, height, width]"""


@final
class ImageFile(Readable):
    """A file of images in a data folder.

    NumPy's `.npz` holds `train_images`, and `test_images` if there are any: [images, height, width] or
    [images, height x width], grey levels 0 to 255 as uint8, or 0 to 1 as floats, which are rounded to 8 bits,
    or booleans. An IDX file holds the training images; the test images are in the file beside it, if there is
    one, with `t10k` or `test` in its name instead of `train`. Where there are no test images, the last tenth of the
    training images is held out for them, and the log says so.
    """

    name: Annotated[str, AfterValidator(checked_name)]
    """The file's name below the data folder."""

    def digests(self, source: DataSource) -> dict[str, str]:
        """The SHA-256 of the file, and of the one with its test images if that is another; see `Readable.digests`."""
        return {name: sha256_of(path) for name, path in self._paths(source).items()}

    def load(self, source: DataSource, shape: tuple[int, int]) -> OwnImages:
        """The images, of that height and width.

        Raises:
            DataCorrupt: an IDX file is none.
            DataUnavailable: no data folder has the file.
            ImagesUnfit: the file cannot be read, or its arrays are missing or of another shape, type or range.
        """
        arrays = _arrays(tuple(self._paths(source).values()))
        parts = _levels({f"{name} of {self.name!r}": found for name, found in arrays.items()}, shape)
        train, test = parts if len(parts) == 2 else self._divided(parts[0])
        return OwnImages(train, test)

    def _paths(self, source: DataSource) -> dict[str, Path]:
        paths = {self.name: source.own(self.name)}
        folder, slash, last = self.name.rpartition("/")
        if not last.endswith(".npz") and "train" in last:
            for word in ("t10k", "test"):
                name = f"{folder}{slash}{last.replace('train', word)}"
                path = paths[self.name].with_name(last.replace("train", word))
                if path.is_file():
                    return paths | {name: path}
        return paths

    def _divided(self, images: NDArray[numpy.uint8]) -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
        if len(images) < 2:
            raise ImagesUnfit(f"{self.name!r} should hold two images or more, but holds {len(images)}; add some")
        held_out = max(1, len(images) // HELD_OUT)
        # A warning, because a process that has configured no logging still shows it.
        logger.warning(
            "%s has no test images: the last %d of its %d images are held out", self.name, held_out, len(images)
        )
        return images[:-held_out], images[-held_out:]


def _arrays(paths: tuple[Path, ...]) -> dict[str, NDArray[Any]]:
    """Training images, and test images if there are any, by their names."""
    if paths[0].suffix == ".npz":
        return npz_arrays(paths[0], ("train_images",), ("test_images",))
    names = ("train_images", "test_images")
    return {name: idx.read(path, 3, "save it anew") for name, path in zip(names, paths, strict=False)}


def npz_arrays(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of those names in a user's `.npz` file.

    Raises:
        ImagesUnfit: the file cannot be read, or lacks a needed array.
    """
    from numpy.lib.npyio import NpzFile

    try:
        with path.open("rb") as content, NpzFile(content, allow_pickle=False) as archive:
            if missing := [name for name in needed if name not in archive]:
                arguments = ", ".join(f"{name}=..." for name in needed + optional)
                raise ImagesUnfit(
                    f"{path} should hold an array {missing[0]}, but holds {', '.join(archive) or 'nothing'}; "
                    f"save it with numpy.savez_compressed(path, {arguments})"
                )
            return {name: archive[name] for name in needed + optional if name in archive}
    except ImagesUnfit:
        raise
    except (BadZipFile, OSError, EOFError, ValueError, KeyError) as error:
        raise ImagesUnfit(
            f"{path} should be a whole .npz file of plain numbers, but cannot be read: {error}; "
            f"save it anew with numpy.savez_compressed"
        ) from error


def _levels(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> list[NDArray[numpy.uint8]]:
    """Grey levels [images, height, width] as bytes, from what a user's arrays hold."""
    from numpy import ascontiguousarray

    for subject, found in arrays.items():
        _check_shape(found, subject, shape)
    return [ascontiguousarray(levels.reshape(-1, *shape)) for levels in in_bytes(arrays)]


def in_bytes(arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[numpy.uint8]]:
    """Levels 0 to 255, from such bytes, floats from 0 to 1 or booleans.

    Args:
        arrays: those of a file, by what messages call them.

    Raises:
        ImagesUnfit: one of them holds something else, or their bytes are 0 and 1.
    """
    levels = [_in_bytes(found, subject) for subject, found in arrays.items()]
    _check_bytes(arrays)
    return levels


def _in_bytes(found: NDArray[Any], subject: str) -> NDArray[numpy.uint8]:
    from numpy import bool_, floating, issubdtype, uint8

    if found.dtype == bool_:
        return found * uint8(255)
    if issubdtype(found.dtype, floating):
        # NaN is not in the range either.
        fits = bool(((found >= 0) & (found <= 1)).all())
        _check_range(fits, found, subject, "floats from 0 to 1", "" if fits else _remedy_of_floats(found))
        return (255.0 * found).round().astype(uint8)
    _check_range(found.dtype == uint8, found, subject, "uint8, floats from 0 to 1 or booleans", "convert them")
    return found


def _remedy_of_floats(found: NDArray[Any]) -> str:
    from numpy import isfinite

    if not isfinite(found).all():
        return "replace what is no finite number"
    if found.min() < 0:
        return "scale them, as by (x - x.min()) / (x.max() - x.min())"
    return "divide by 255" if found.max() <= 255 else "divide by the largest level there can be, such as 65535"


def _check_bytes(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuses bytes of 0 and 1, on which a model would see nothing; one array may be black beside another."""
    from numpy import uint8

    levels = {subject: found for subject, found in arrays.items() if found.dtype == uint8}
    if levels:
        subject = max(levels, key=lambda name: int(levels[name].max()))
        brightest = levels[subject].max()
        # All black alone is what casting leaves of fractions; beside an array of another kind it is taken as it is.
        fits = brightest > 1 or (brightest == 0 and len(levels) < len(arrays))
        remedy = "multiply by 255 before they become bytes, or in an .npz file save 0 and 1 as booleans"
        _check_range(bool(fits), levels[subject], subject, "uint8 from 0 to 255", remedy)


def _check_shape(found: NDArray[Any], subject: str, shape: tuple[int, int]) -> None:
    height, width = shape
    if not len(found.shape) or not len(found) or found.shape[1:] not in (shape, (height * width,)):
        raise ImagesUnfit(
            f"{subject} should have the shape [images, {height}, {width}] or [images, {height * width}], but "
            f"has {list(found.shape)}; save it so, or set the task's image_shape to the images' height and width"
        )


def _check_range(fits: bool, found: NDArray[Any], subject: str, expected: str, remedy: str) -> None:
    if not fits:
        numbers = "biufc"
        span = f" from {found.min()} to {found.max()}" if found.dtype.kind in numbers else ""
        raise ImagesUnfit(f"{subject} should be {expected}, but is {found.dtype}{span}; {remedy}")
