"""A Valkey or Redis of our own on this machine, for when REINMAX_REDIS_URL names none."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from worker.lives import Lives, ending_in_words
from worker.server_folder import ServerFolder
from worker.server_program import ServerProgram, find_server_program


class ServerNotStarted(Exception):
    """The embedded server did not come up, or the one that should be there does not answer."""


class ServerKeepsEnding(Exception):
    """The embedded server ends as often as it is started."""


class EmbeddedServer:
    """A server process with its data under a state folder, reachable at `url` inside a `with` block.

    Who enters first owns the server: starts it, and stops it at the end of the block. Who enters the
    same folder while the owner lives, in whatever process, attaches: gets the same `url`, stops nothing.

    The server never outlives its owner. Where the owner is killed, the system ends the server (Linux);
    where the system cannot, the next to enter stops the orphan. Either way the next to enter owns a new
    server on the same data. What the server has confirmed is on disk, and lost with neither it nor the machine.

    The owner has to enter from the main thread, because the system ends the server together with the
    *thread* that started it.

    Two file locks carry all of this: one is held by the owner, one by the server process itself. No
    process ids are kept that could go stale.
    """

    def __init__(self, state_dir: Path, *, patience_s: float = 10.0) -> None:
        """Nothing is started yet.

        Args:
            state_dir: the state folder, made if missing.
            patience_s: seconds without a sign of progress after which waiting ends in an error.
        """
        self._folder = ServerFolder(state_dir)
        self._patience_s = patience_s
        self._url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lives = Lives()
        self._resources = ExitStack()

    @property
    def url(self) -> str:
        """The address with its password, `redis://:password@127.0.0.1:port/0`, for redis-py and Celery alike."""
        return self._url

    @property
    def is_owner(self) -> bool:
        """Whether the server ends with this block."""
        return self._process is not None

    def __enter__(self) -> Self:
        """Starts the server or attaches to it; either way it answers afterwards.

        Raises:
            StateFolderUnusable: the folder cannot be written to.
            NoServerProgram: there is no server program to start.
            ServerNotStarted: the server ended at once or does not answer; the message holds its last words.
        """
        self._folder.prepare()
        with ExitStack() as resources:
            owner_lock = self._own_or_attach()
            if owner_lock is not None:
                resources.enter_context(owner_lock)
                self._start(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server if this block owns it, after it has written everything to disk."""
        self._resources.close()

    def restart_if_dead(self) -> str | None:
        """Starts the server again, with its data, port and password, if this block owns it and it has ended.

        Does not wait until the server answers, as whoever uses it has to try again anyway. To be called now and
        then, from the main thread.

        Returns:
            How it ended, in words; None if there was nothing to do.

        Raises:
            ServerKeepsEnding: it has ended right after its start several times in a row.
        """
        if self._process is None or (code := self._process.poll()) is None:
            return None
        # Held for a moment longer where the server has left a child of its own, which was compacting the file.
        lock = self._folder.try_lock("server")
        if lock is None:
            return None
        with lock:
            self._start_again(ending_in_words(code), lock)
        return ending_in_words(code)

    def _start_again(self, ending: str, lock: IO[str]) -> None:
        _must_be_in_main_thread()
        if self._lives.end_once_too_often():
            raise ServerKeepsEnding(
                f"The embedded server in {self._folder.path} should keep running, but it {ending}, again and again. "
                "Correct what it complains about, or set REINMAX_REDIS_URL to a running server. "
                f"The server said:\n{self._last_lines()}"
            )
        program = find_server_program()
        program.cut_damaged_tail(self._folder.data, self._folder.last_words())
        self._process = program.start(self._folder.config, self._folder.log, lock)
        self._lives.begin()

    def _own_or_attach(self) -> IO[str] | None:
        waiting = _Patience(self._patience_s)
        while (lock := self._folder.try_lock("owner")) is None:
            self._url = self._folder.url()
            if waiting.sees_ready(self._url):
                break
            if waiting.is_over:
                raise self._not_started("Another process owns the server, which does not answer. End that process")
            time.sleep(0.01)
        return lock

    def _start(self, resources: ExitStack) -> None:
        _must_be_in_main_thread()
        program = find_server_program()
        # Our copy of the lock is closed after the start; the server keeps its own.
        with self._locked_after_orphan() as server_lock:
            self._launch(program, server_lock, resources)

    def _locked_after_orphan(self) -> IO[str]:
        waiting = _Patience(self._patience_s)
        while (lock := self._folder.try_lock("server")) is None:
            if waiting.is_over:
                raise self._not_started("A server that nobody owns holds the data and does not stop. Kill it")
            with suppress(RedisError, ValueError), closing(_client(self._folder.url())) as orphan:
                orphan.shutdown()
            time.sleep(0.01)
        return lock

    def _launch(self, program: ServerProgram, lock: IO[str], resources: ExitStack) -> None:
        # A second attempt follows a port that was taken meanwhile, a third a file that had to be repaired.
        for _ in range(3):
            self._url = self._folder.configure()
            with ExitStack() as attempt:
                self._lives.begin()
                self._process = program.start(self._folder.config, self._folder.log, lock)
                attempt.callback(self._stop)
                attempt.callback(self._folder.forget_url)
                if self._comes_up(self._process):
                    resources.enter_context(attempt.pop_all())
                    return
            said = self._folder.last_words()
            if "already in use" not in said and not program.cut_damaged_tail(self._folder.data, said):
                break
        raise self._not_started(f"{program.path} ended at once. Correct what it complains about")

    def _comes_up(self, process: subprocess.Popen[bytes]) -> bool:
        waiting = _Patience(self._patience_s)
        while process.poll() is None:
            if waiting.sees_ready(self._url):
                return True
            if waiting.is_over:
                raise self._not_started(f"The one started did not answer for {self._patience_s} s. Start again")
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        return False

    def _stop(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        try:
            process.wait(self._patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _not_started(self, finding: str) -> ServerNotStarted:
        return ServerNotStarted(
            f"An embedded server is needed in {self._folder.path}. {finding}, or set REINMAX_STATE_DIR to another "
            f"folder, or REINMAX_REDIS_URL to a running server. The server said:\n{self._last_lines()}"
        )

    def _last_lines(self) -> str:
        return "\n".join(self._folder.last_words().splitlines()[-15:]) or "(nothing)"


def _must_be_in_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise ServerNotStarted(
            "The embedded server has to be started from the main thread, not from "
            f"{threading.current_thread().name!r}: it would end with that thread. Enter it before starting threads."
        )


class _Patience:
    """Waiting that lasts as long as there is progress: reading a large file back is no reason to give up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end

    def sees_ready(self, url: str) -> bool:
        answer = _ask(url)
        if answer == "loading":
            self._end = time.monotonic() + self._seconds
        return answer == "ready"


def _ask(url: str) -> Literal["ready", "loading", "nothing"]:
    # Answering to the password, it is the server that the address was written for, whoever has the port now.
    if not url:
        return "nothing"
    with closing(_client(url)) as client:
        try:
            client.ping()
        except BusyLoadingError:
            return "loading"
        except RedisError:
            return "nothing"
    return "ready"


def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0))
