"""A process of the local stack, whose words are passed on line by line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO, Final, TypeAlias

from worker.lives import Lives, ending_in_words
from worker.server_program import tied_to_this_process

LAST_WORDS: Final = 15

Listener: TypeAlias = Callable[[str, str], None]
"""Is given the name of a process and a line that it wrote."""


class ProcessKeepsEnding(Exception):
    """A process of the stack ends as often as it is started."""


class StackProcess:
    """A Python module that runs as a process of its own, and again when it has died.

    It ends with the thread that started it, however that ends (Linux), and has a session of its own:
    Ctrl-C in a terminal reaches the launcher, which ends its children in the right order.

    Args:
        name: what people call it.
        program: a module, as in `python -m`, and its arguments.
        environment: of the process.
        listener: is given every line that it writes.
        cores: the processor cores it may use; all if empty.
    """

    def __init__(
        self,
        name: str,
        program: Sequence[str],
        environment: Mapping[str, str],
        listener: Listener,
        cores: Collection[int] = (),
    ) -> None:
        self.name = name
        self._cores = cores
        self._command = [sys.executable, "-m", *program]
        # No folder that the user happens to be in shadows a package, and no line waits for the next ones.
        self._environment = {**environment, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        self._listener = listener
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._lives = Lives()
        self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def restart_if_dead(self) -> None:
        """Starts it again if it has ended, and says so.

        Raises:
            ProcessKeepsEnding: it has ended right after its start several times in a row.
        """
        code = self._process.poll()
        if code is None:
            return
        self._reader.join()
        if self._lives.end_once_too_often():
            raise self._ended(code)
        self._listener(self.name, f"{ending_in_words(code)}; starting again")
        self._start()

    def must_live(self) -> None:
        """Raises ProcessKeepsEnding if it has ended."""
        code = self._process.poll()
        if code is not None:
            self._reader.join()
            raise self._ended(code)

    def terminate(self) -> None:
        """Asks it to end."""
        self._process.terminate()

    def wait(self, grace_s: float) -> None:
        """Returns when it has ended; it is killed after `grace_s` seconds, or at a further Ctrl-C."""
        try:
            self._process.wait(grace_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _start(self) -> None:
        self._lives.begin()
        self._process = subprocess.Popen(
            [*tied_to_this_process(), *self._command],
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
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _listen(self, output: IO[str]) -> None:
        with output:
            for line in map(str.rstrip, output):
                if line:
                    self._last_words.append(line)
                    self._listener(self.name, line)

    def _ended(self, code: int) -> ProcessKeepsEnding:
        said = "\n".join(f"  {words}" for words in self._last_words) or "  (nothing)"
        return ProcessKeepsEnding(
            f"the {self.name} should keep running, but it {ending_in_words(code)}. It said:\n{said}"
        )


def stop(processes: Sequence[StackProcess], grace_s: float) -> None:
    """Ends processes side by side, each within `grace_s` seconds."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(grace_s)
