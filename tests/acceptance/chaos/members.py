"""Processes that are started again whenever they have died, and what is known of each of their lives."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import IO, Final

import psutil

from tests.acceptance.chaos import telling_worker
from tests.acceptance.chaos.intervals import Interval, without
from worker.server_program import tied_to_this_process

READY: Final = re.compile(rf"^(API at |{telling_worker.READY})")
BEGINS: Final = re.compile(r"attempt \d+ begins$")
FENCED: Final = re.compile(r"no longer has job|ends: .*fenced")
TRAINING: Final = "worker.train"


@dataclass
class Life:
    """One process, from its start to its end; times are those of the clock on the wall."""

    process: psutil.Process
    began: float
    ready: float = inf
    leaving: float = inf
    """When it was asked to end."""
    ended: float = inf
    busy: list[list[float]] = field(default_factory=list)
    frozen: list[list[float]] = field(default_factory=list)

    @property
    def worker_name(self) -> str:
        """As a worker, it calls itself so."""
        return f"{socket.gethostname()}-{self.process.pid}"

    @property
    def is_well(self) -> bool:
        """Whether it lives, and nothing has been done to it that is not over."""
        is_frozen = bool(self.frozen) and self.frozen[-1][1] == inf
        return self.ready < inf and self.leaving == self.ended == inf and not is_frozen

    def free(self) -> list[Interval]:
        """When it could take a job."""
        served = [(self.ready, min(self.leaving, self.ended))]
        return without(served, [*_pairs(self.busy), *_pairs(self.frozen)])

    def training_processes(self) -> list[psutil.Process]:
        """Its training processes, the one that has had a job for longest first."""
        try:
            found = [child for child in self.process.children() if TRAINING in child.cmdline()]
            return sorted(found, key=lambda child: child.create_time())
        except psutil.Error:
            return []


class Member:
    """A Python module that runs as a process of its own, one life after the other.

    To be started from the main thread, to which the system ties its life.

    Args:
        name: what people call it.
        program: a module, as in `python -m`, and its arguments.
        environment: of the process.
        log: where all that it writes goes.
        cores: the processor cores it may use; all if empty.
    """

    def __init__(
        self, name: str, program: Sequence[str], environment: Mapping[str, str], log: Path, cores: Collection[int] = ()
    ) -> None:
        self.name = name
        self.lives: list[Life] = []
        self.exit_codes: list[int] = []
        self.messages = 0
        """Messages about jobs that it was sent."""
        self.begun = 0
        """Attempts that it has begun, not counting those beside another."""
        self.fenced = 0
        """Times that it was told that a job was no longer its own."""
        self._command = [*tied_to_this_process(), sys.executable, "-m", *program]
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._log, self._cores = log, cores
        self._start_at = -inf

    @property
    def life(self) -> Life:
        """The latest."""
        return self.lives[-1]

    def start(self) -> None:
        """Begins a life."""
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        if self._cores:
            os.sched_setaffinity(self._process.pid, self._cores)
        assert self._process.stdout is not None
        life = Life(psutil.Process(self._process.pid), time.time())
        self.lives.append(life)
        threading.Thread(target=self._listen, args=(self._process.stdout, life), daemon=True).start()

    def tend(self, pause_s: float) -> None:
        """Notes its death, and starts it again `pause_s` seconds later."""
        code = self._process.poll()
        if code is None:
            return
        if self.life.ended == inf:
            self.life.ended = time.time()
            self.exit_codes.append(code)
            self._start_at = time.monotonic() + pause_s
        elif time.monotonic() >= self._start_at:
            self.start()

    def kill(self) -> None:
        """SIGKILL, after which nothing of it is asked any more."""
        self._process.kill()
        self.life.leaving = min(self.life.leaving, time.time())

    def ask_to_end(self) -> None:
        """SIGTERM."""
        self.life.leaving = time.time()
        self._process.terminate()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.life.frozen.append([time.time(), inf])
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self, life: Life) -> None:
        """SIGCONT, if that life is not over."""
        life.frozen[-1][1] = time.time()
        if life is self.life:
            self._process.send_signal(signal.SIGCONT)

    def wait(self, grace_s: float) -> None:
        """Returns when it has ended; it is killed after `grace_s` seconds."""
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, output: IO[str], life: Life) -> None:
        with output, self._log.open("a") as log:
            for line in output:
                log.write(line)
                log.flush()
                self._note(line, time.time(), life)
        if life.busy and life.busy[-1][1] == inf:
            life.busy[-1][1] = time.time()

    def _note(self, line: str, now: float, life: Life) -> None:
        if READY.search(line):
            life.ready = min(life.ready, now)
        elif line.startswith(telling_worker.BEGINS):
            self.messages += 1
            life.busy.append([now, inf])
        elif line.startswith(telling_worker.ENDS) and life.busy:
            life.busy[-1][1] = now
        elif BEGINS.search(line):
            self.begun += 1
        elif FENCED.search(line):
            self.fenced += 1


def free_time(members: Sequence[Member]) -> Iterator[Interval]:
    """When at least one of them could take a job; the stretches may overlap."""
    for member in members:
        for life in member.lives:
            yield from life.free()


def _pairs(stretches: list[list[float]]) -> list[Interval]:
    return [(begin, end) for begin, end in stretches]
