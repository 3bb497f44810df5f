"""How programs of the same user find the service that runs on this machine."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another stack runs with the same state folder."""


@contextmanager
def announced(url: str, state_dir: Path) -> Iterator[None]:
    """Lets `running_here` find the address inside the block.

    The file is locked as long as its writer lives, so that the address of a stack that was killed is
    told from that of one that runs.

    Raises:
        AlreadyRunning: somebody else has announced an address for this folder.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "address").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already_running(state_dir) from None
        file.truncate(0)
        file.write(url)
        file.flush()
        yield


def running_here(state_dir: Path) -> str | None:
    """The address of the stack that runs with this state folder; None if there is none."""
    try:
        with (state_dir / "address").open() as file:
            return file.read() if _is_locked(file.fileno()) else None
    except OSError:
        return None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _already_running(state_dir: Path) -> AlreadyRunning:
    return AlreadyRunning(
        f"One stack can run with the state folder {state_dir}, and one does, at {running_here(state_dir)}. "
        "Use that one, end it first, or set REINMAX_STATE_DIR to another folder."
    )
