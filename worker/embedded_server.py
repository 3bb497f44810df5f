"""A Valkey or Redis of our own on this machine, for when REINMAX_REDIS_URL names none."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.retry import Retry

from worker.server_folder import ServerFolder
from worker.server_program import OLDEST_VERSION, ServerProgram, find_server_program


class ServerNotStarted(Exception):
    """The embedded server did not come up, or the one that should be there does not answer."""


class EmbeddedServer:
    """A server process with its data under a state folder, reachable at `url` inside a `with` block.

    Who enters first owns the server: starts it, and stops it at the end of the block. Who enters the
    same folder while the owner lives, in whatever process, attaches: gets the same `url`, stops nothing.

    The server never outlives its owner. Where the owner is killed, the system ends the server (Linux);
    where the system cannot, the next to enter stops the orphan. Either way the next to enter owns a new
    server on the same data, which an append-only file keeps: at most the last second is lost, and that
    only with the machine.

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
                self._process = self._start(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server if this block owns it, after it has written everything to disk."""
        self._resources.close()
        self._process = None

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

    def _start(self, resources: ExitStack) -> subprocess.Popen[bytes]:
        if threading.current_thread() is not threading.main_thread():
            raise ServerNotStarted(
                "The embedded server has to be started from the main thread, not from "
                f"{threading.current_thread().name!r}: it would end with that thread. Enter it before starting threads."
            )
        program = find_server_program()
        # Our copy of the lock is closed after the start; the server keeps its own.
        with self._locked_after_orphan() as server_lock:
            return self._launch(program, server_lock, resources)

    def _locked_after_orphan(self) -> IO[str]:
        waiting = _Patience(self._patience_s)
        while (lock := self._folder.try_lock("server")) is None:
            if waiting.is_over:
                raise self._not_started("A server that nobody owns holds the data and does not stop. Kill it")
            with suppress(RedisError, ValueError), closing(_client(self._folder.url())) as orphan:
                orphan.shutdown()
            time.sleep(0.01)
        return lock

    def _launch(self, program: ServerProgram, lock: IO[str], resources: ExitStack) -> subprocess.Popen[bytes]:
        # A second attempt follows a port that was taken meanwhile, a third a file that had to be repaired.
        for _ in range(3):
            self._url = self._folder.configure()
            with ExitStack() as attempt:
                process = program.start(self._folder.config, self._folder.log, lock)
                attempt.callback(_stop, process, self._patience_s)
                attempt.callback(self._folder.forget_url)
                if self._comes_up(process):
                    resources.enter_context(attempt.pop_all())
                    return process
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

    def _not_started(self, finding: str) -> ServerNotStarted:
        last_lines = self._folder.last_words().splitlines()[-15:] or ["(nothing)"]
        return ServerNotStarted(
            f"An embedded server is needed in {self._folder.path}. {finding}, or set REINMAX_STATE_DIR to another "
            "folder, or REINMAX_REDIS_URL to a running server. The server said:\n" + "\n".join(last_lines)
        )


def check_server(client: Redis) -> tuple[str, ...]:
    """What makes a server unfit to keep jobs, embedded or not: a sentence with the remedy each, or nothing.

    `INFO` is asked and not `CONFIG GET`, which managed servers forbid.
    """
    try:
        return server_problems(client.info())
    except ResponseError as refusal:
        return (f"The server must answer INFO, but says: {refusal}. Grant it: ACL SETUSER <user> +info.",)


def server_problems(info: Mapping[str, object]) -> tuple[str, ...]:
    """`check_server` for an answer to `INFO` that is already there, as asynchronous clients have it."""
    version, policy = str(info["redis_version"]), info.get("maxmemory_policy")
    oldest = ".".join(map(str, OLDEST_VERSION))
    problems = {
        f"The server must be version {oldest} or newer, but is {version}. Upgrade it, or use Valkey.": (
            tuple(map(int, version.split(".")[:2])) < OLDEST_VERSION
        ),
        "The server must keep an append-only file, or jobs are lost when it restarts, but appendonly is no. "
        "Run: CONFIG SET appendonly yes, and put 'appendonly yes' into its configuration.": not info.get("aof_enabled"),
        f"The server must never evict keys, or jobs vanish, but maxmemory-policy is {policy}. "
        "Run: CONFIG SET maxmemory-policy noeviction, and put it into its configuration.": policy != "noeviction",
    }
    return tuple(sentence for sentence, holds in problems.items() if holds)


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


def _stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
