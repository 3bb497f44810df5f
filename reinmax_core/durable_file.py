"""Files and folders that are still there, whole, when the machine comes back from a crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from secrets import token_hex

CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is on disk, whole, under its name once this returns; if it fails, nothing is left behind.

    Raises:
        OSError: the folder does not take it.
    """
    draft = path.with_name(f".{path.name}.{token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_names(path.parent)


def make_folder(path: Path) -> None:
    """Makes a folder, with those above it, that is on disk once this returns.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_names(folder.parent)


def _sync_names(folder: Path) -> None:
    """Has the names in a folder on disk: without, a crash may take back a new file, or bring back an old one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network file systems, and Windows, write names at once and offer no way to ask for it.
        if error.errno not in CANNOT_SYNC_FOLDERS:
            raise
