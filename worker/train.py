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
import traceback
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

from worker.assignment import BEGUN, Assignment, Failed, FencedOff, Outcome, Stopped
from worker.attempt import Fenced
from worker.jobs import Cause, Failure
from worker.memory import ran_out
from worker.training import Training, get_ready


class StopRequested(BaseException):
    """The worker asked the process to end before the first step, where there is nothing to save."""


class StopSignal:
    """SIGTERM: ends the process at once before training, and is otherwise noticed at the end of a step."""

    def __init__(self) -> None:
        self.requested = False
        self.is_training = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self.is_training:
            raise StopRequested


def main() -> None:
    """Carries out one assignment from standard input; its outcome goes to the file descriptor in argv."""
    try:
        outcome = _wait_and_work(StopSignal(), int(sys.argv[2]))
    except StopRequested:
        outcome = Stopped()
    if outcome is not None:
        os.write(int(sys.argv[2]), outcome.model_dump_json().encode())
    sys.stdout.flush()
    os._exit(0)  # taking the interpreter and torch down in order would take a tenth of a second


def _wait_and_work(stop: StopSignal, outcome_fd: int) -> Outcome | None:
    """The outcome of the assignment; None if the worker never gave one."""
    get_ready()
    gc.freeze()
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    os.write(outcome_fd, BEGUN)
    threading.Thread(target=_die_with_the_worker, daemon=True).start()
    return carry_out(Assignment.model_validate_json(line), stop)


def carry_out(assignment: Assignment, stop: StopSignal) -> Outcome:
    """Trains, and says what came of it; the traceback of an error goes to standard error, which is the job's log."""
    try:
        return Training(assignment).run(stop)
    except Fenced as error:
        print(error)
        return FencedOff()
    except Exception as error:  # noqa: BLE001  (the job has to be told, whatever went wrong)
        traceback.print_exc()
        return Failed(
            cause=_cause(error), failure=Failure(type=type(error).__name__, message=str(error) or repr(error))
        )


def _cause(error: Exception) -> Cause:
    from reinmax_core.trainer import Diverged

    if isinstance(error, Diverged):
        return Cause.DIVERGED
    return Cause.OOM if ran_out(error) else Cause.ERROR


def _die_with_the_worker() -> None:
    """The worker holds the other end of standard input as long as it lives and wants this process."""
    while sys.stdin.buffer.read(1):
        continue
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
