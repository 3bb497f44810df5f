"""The part of a Redis or Valkey server that belongs to the store: keys, scripts, and one error for all its troubles."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import MasterDownError
from redis.retry import Retry

from worker.fitness import DISK_REMEDY, Durability, check_server

SCRIPTS = Path(__file__).parent / "scripts"
FIRST = ("keys", "waiting", "folding", "job")
"""What stands before all scripts."""
PRELUDES = dict.fromkeys(("forgotten", "take", "uncalled"), ("queues",))
"""What stands before some scripts, behind that."""
PATIENCE_S = 5.0
"""A server that has not answered for so long does not serve."""
CONNECTING_S = 2.0
DISK_PATIENCE_S = 2.0
"""For so long a change waits to be on the server's disk."""
ASK_AGAIN_S = 10.0
"""How old an answer may be about when a server writes to its disk, which an administrator may change."""
TROUBLE = (
    "OOM",
    "MISCONF",
    "LOADING",
    "BUSY",
    "NOREPLICAS",
    "MASTERDOWN",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
)
# Redis 6.2 begins with where in a script it happened: "ERR Error running script (call to f_...): @user_script:4:
# @user_script: 4: -READONLY You can't write against a read only replica." The client cuts "ERR " off.
_TROUBLED = re.compile(rf"(?:(?:ERR )?Error running script .*: -)?(?:{'|'.join(TROUBLE)})\b", re.DOTALL)

Argument: TypeAlias = str | int | float

logger = logging.getLogger(__name__)


class StoreUnavailable(Exception):
    """The server of the job store cannot be reached, or refuses to write; nothing was changed or lost."""


def tells_of_trouble(message: str) -> bool:
    """Whether an error of a server is about its own condition, which may pass, rather than about what it was asked."""
    return _TROUBLED.match(message) is not None


class Keyspace:
    """Keys under one prefix, and the Lua scripts of `worker/scripts`, each of which is one atomic change.

    Args:
        client: with `decode_responses=True`; safe to share between threads.
        prefix: what every key begins with.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self._scripts: dict[str, Script] = {}
        self._durability: Durability | None = None
        self._asked_at = 0.0

    @classmethod
    def connect(cls, url: str, prefix: str, patience_s: float = PATIENCE_S) -> Self:
        """A keyspace on the server at `url`, connected on first use; a command waits `patience_s` at most."""
        # No repetition: a script whose answer was lost may have done its work, and only the caller knows what then.
        client = redis.Redis.from_url(
            url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=min(CONNECTING_S, patience_s),
            socket_timeout=patience_s,
            socket_keepalive=True,
        )
        return cls(client, prefix)

    def close(self) -> None:
        """Ends the connections; the next command would make new ones."""
        self.client.close()

    def key(self, name: str) -> str:
        """The full name of a key."""
        return self.prefix + name

    def run(self, script: str, *arguments: Argument) -> Any:
        """What the script answers.

        Raises:
            StoreUnavailable: no server, or one that does not write.
        """
        with self._trouble():
            return self._script(script)(args=[self.prefix, *arguments])

    def run_to_disk(self, script: str, *arguments: Argument) -> Any:
        """What the script answers, once the server has on disk what this script and earlier ones changed.

        Raises:
            StoreUnavailable: as for `run`, or the disk takes longer than 2 s; then the change may hold or not.
        """
        must_wait = self._must_wait_for_disk()
        answer = self.run(script, *arguments)
        if must_wait:
            with self._trouble():
                self._wait_for_disk()
        return answer

    def ask(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The answers to commands that change nothing, in one round trip.

        Raises:
            StoreUnavailable: no server.
        """
        with self._trouble(), self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute()

    def names(self, beginning: str) -> tuple[str, ...]:
        """The names of all keys that begin so; this looks at every key of the server.

        Raises:
            StoreUnavailable: no server.
        """
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self.key(beginning)) + "*"
        with self._trouble():
            return tuple(key.removeprefix(self.prefix) for key in self.client.scan_iter(match=pattern, count=1000))

    def uptime_s(self) -> int:
        """For how many whole seconds the server has been up.

        Raises:
            StoreUnavailable: no server.
        """
        (facts,) = self.ask(("INFO", "server"))
        return int(facts["uptime_in_seconds"])

    def shortcomings(self) -> tuple[str, ...]:
        """What makes the server unfit to keep jobs, a sentence with the remedy each.

        Raises:
            StoreUnavailable: no server.
        """
        with self._trouble():
            return check_server(self.client)

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(_source(name))
        return self._scripts[name]

    def _must_wait_for_disk(self) -> bool:
        if self._durability is None or time.monotonic() > self._asked_at + ASK_AGAIN_S:
            before, self._asked_at = self._durability, time.monotonic()
            with self._trouble():
                self._durability = Durability.of(self.client)
            if self._durability.must_wait and self._durability != before:
                logger.warning("%s. %s", self._durability, DISK_REMEDY)
        return self._durability.must_wait

    def _wait_for_disk(self) -> None:
        # The server waits for all that was written before the last write of this connection. A script that has found
        # its work done has written nothing, although the one that did it may be waiting still: so something is written.
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(self.key("disk"), 1)
            pipeline.execute_command("WAITAOF", 1, 0, round(1000 * DISK_PATIENCE_S))  # type: ignore[no-untyped-call]
            _, (disks, _) = pipeline.execute()
        if not disks:
            raise redis.TimeoutError(f"its disk has not taken the change within {DISK_PATIENCE_S:.0f} s")

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (
            redis.ConnectionError,
            redis.TimeoutError,
            redis.OutOfMemoryError,
            redis.ReadOnlyError,
            MasterDownError,
        ) as error:
            raise self._unavailable(error) from error
        except redis.ResponseError as error:
            if tells_of_trouble(str(error)) or "WAITAOF" in str(error):
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        place = self.client.connection_pool.connection_kwargs
        where = place.get("path") or f"{place.get('host')}:{place.get('port')}"
        return StoreUnavailable(
            f"the job store at {where} does not serve: {str(error).rstrip('.')}. "
            f"See that the server runs, is reachable and may write, then try again"
        )


@cache
def _source(script: str) -> str:
    before = ("sweep",) if script.startswith("sweep_") else PRELUDES.get(script, ())
    return "\n".join((SCRIPTS / f"{name}.lua").read_text() for name in (*FIRST, *before, script))
