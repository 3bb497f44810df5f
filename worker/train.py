"""The training process: `python -m worker.train WORKER_PID OUTCOME_FD` waits for an assignment and carries it out.

It imports all that training needs before there is a job, so that a job starts at once.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

PARENT_DEATH_SIGNAL = 1


def follow(worker_pid: int) -> None:
    """Has the kernel kill this process when the worker's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != worker_pid:
        sys.exit("the worker that started this training process is gone")


if __name__ == "__main__":
    follow(int(sys.argv[1]))  # before the imports, which take seconds

from worker.assignment import BEGUN, Assignment, News
from worker.training import Training, get_ready


class StopRequested(BaseException):
    """The worker asked the process to end before the first step, where there is nothing to save."""


class Wishes:
    """What the worker wants: SIGTERM ends all, a line on standard input with the id of a job ends that one.

    Before training, SIGTERM ends the process at once; all else is noticed at the end of a step.
    """

    def __init__(self) -> None:
        self.is_training = False
        self._ends_all = False
        self._ended: set[str] = set()
        signal.signal(signal.SIGTERM, self._receive)

    def end(self, job_id: str) -> bool:
        """Whether the run of a job is to end with a checkpoint."""
        return self._ends_all or job_id in self._ended

    def listen(self) -> None:
        """Takes up lines until the worker is gone, who holds the other end as long as it wants this process."""
        for line in sys.stdin.buffer:
            self._ended.add(line.decode().strip())
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._ends_all = True
        if not self.is_training:
            raise StopRequested


class Herald:
    """Tells the worker the news, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "wb")
        self._turn = threading.Lock()

    def begin(self) -> None:
        """The assignment is there."""
        self._write(BEGUN)

    def tell(self, news: News) -> None:
        """Writes a line, whole."""
        self._write(news.model_dump_json().encode() + b"\n")

    def _write(self, line: bytes) -> None:
        with self._turn:
            self._pipe.write(line)
            self._pipe.flush()


def main() -> None:
    """Carries out one assignment from standard input; the news go to the file descriptor in argv."""
    with suppress(StopRequested):
        _wait_and_work(Wishes(), Herald(int(sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)  # taking the interpreter and torch down in order would take a tenth of a second


def _wait_and_work(wishes: Wishes, herald: Herald) -> None:
    """Returns at once if the worker never gives an assignment."""
    get_ready()
    gc.freeze()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    herald.begin()
    threading.Thread(target=wishes.listen, daemon=True).start()
    Training(Assignment.model_validate_json(line), herald.tell).run(wishes)


if __name__ == "__main__":
    main()
