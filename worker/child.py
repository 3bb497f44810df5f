"""A training process, seen from the worker that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from worker.assignment import Assignment
from worker.hardware import SPINS, Machine

LAST_WORDS_BYTES = 2**16


class Child:
    """A fresh Python process in a session and process group of its own, which waits for one assignment.

    It ends with its worker in any case: the kernel kills it with the thread that made it (Linux), and
    it watches its standard input, whose end says that the worker is gone.

    Args:
        machine: what the process may see and use of the machine.
    """

    def __init__(self, machine: Machine) -> None:
        news, write_news = os.pipe()
        command = [sys.executable, "-u", "-m", "worker.train", str(os.getpid()), str(write_news)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(write_news,),
                env=os.environ | _environment(machine),
            )
        finally:
            os.close(write_news)
        # A pipe holds 64 KiB, which is less than an assignment of many jobs, and a process that imports reads nothing.
        self._writing = ThreadPoolExecutor(1, "assignment")
        self.news: IO[bytes] = os.fdopen(news, "rb", buffering=0)
        """From here its news come, a line each; what has become of each of its jobs, at last."""

    @property
    def pid(self) -> int:
        """Its process id, which is the id of its group too."""
        return self._process.pid

    @property
    def output(self) -> IO[bytes]:
        """What it and its own children write to standard output and standard error."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while it lives."""
        # It is left a zombie, so that its id, which is its group's, is nobody else's until `close`.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def wait(self, patience_s: float) -> int | None:
        """Its exit code once it has ended, or None if it does not within that time."""
        deadline = time.monotonic() + patience_s
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.exit_code

    def assign(self, assignment: Assignment) -> None:
        """Tells it what to do, and returns at once. A process that has died does not notice; its exit code tells.

        May be called at once: a process that is still importing reads it later.
        """
        self._tell(assignment.model_dump_json())

    def last_words(self) -> str:
        """How a process that has died ended, and what it wrote last."""
        written = os.read(self.output.fileno(), LAST_WORDS_BYTES)
        return f"exit code {self.exit_code}; {written.decode(errors='replace').strip()}"

    def ask_to_stop(self, job_id: str) -> None:
        """Has it save a checkpoint of one of its jobs at the end of its step, and train only the others on."""
        self._tell(job_id)

    def ask_to_end(self) -> None:
        """Has it save a checkpoint of every job at the end of its step, and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and all processes it started, at once."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Kills what is left of it and lets go of its pipes."""
        self.kill()
        self._process.wait()
        self._writing.shutdown()
        for pipe in (self._process.stdin, self._process.stdout, self.news):
            assert pipe is not None
            _close(pipe)

    def _tell(self, line: str) -> None:
        self._writing.submit(self._write, line)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return


def _environment(machine: Machine) -> dict[str, str]:
    threads = str(machine.cores)
    return {
        "CUDA_VISIBLE_DEVICES": machine.gpu.uuid if machine.gpu else "",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS),
        # The C library hands freed memory back at once otherwise, and a step asks for it again, page by page.
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "PYTHONUNBUFFERED": "1",
    }


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # an assignment that was never read
