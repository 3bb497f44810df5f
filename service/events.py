"""News of jobs for all who wait for them: one reader of the store's stream of changes a process."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

from redis.asyncio import Redis
from redis.exceptions import RedisError

BLOCK_S = 10.0
SLACK_S = 2.0
"""What an answer may take on its way, before the connection counts as broken."""
PAUSE_S = 1.0
"""Between two attempts to reach a server that does not answer."""

logger = logging.getLogger(__name__)


@final
class Watch:
    """A look-out for changes of one job."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._is_over = False

    async def sees_change(self, deadline: float) -> bool:
        """Whether the job has changed since the last call, or does so before that time of the event loop's clock.

        False at once where the process is about to end.
        """
        if not self._is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
        seen = self._changed.is_set() and not self._is_over
        self._changed.clear()
        return seen

    def tell(self) -> None:
        """The job has changed."""
        self._changed.set()

    def end(self) -> None:
        """There is no more time to wait."""
        self._is_over = True
        self._changed.set()


@final
class Changes:
    """Wakes whoever watches a job when its record changes.

    Args:
        url: the store's server.
        stream: the key of its stream of changes, whose entries name a `job`.
        block_s: how long the server may hold an answer for want of news.
    """

    def __init__(self, url: str, stream: str, *, block_s: float = BLOCK_S) -> None:
        # Without a limit, a connection whose other end is gone without a word would be read for ever.
        self._redis: Redis = Redis.from_url(
            url, decode_responses=True, socket_connect_timeout=SLACK_S, socket_timeout=block_s + SLACK_S
        )
        self._block_ms = round(block_s * 1000)
        self._stream = stream
        self._watchers: defaultdict[str, set[Watch]] = defaultdict(set)

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """A look-out for changes of the job. Read the job after this, so that no change is missed."""
        watch = Watch()
        self._watchers[job_id].add(watch)
        try:
            yield watch
        finally:
            self._watchers[job_id].discard(watch)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def release(self) -> None:
        """Lets go of all who wait, because the process is about to end."""
        for watch in [watch for watchers in self._watchers.values() for watch in watchers]:
            watch.end()

    async def read(self) -> None:
        """Reads the stream until it is cancelled; a server that goes away and comes back is found again."""
        position: str | None = None
        try:
            while True:
                try:
                    position = await self._follow(position or await self._end())
                except (RedisError, OSError) as error:
                    if (task := asyncio.current_task()) and task.cancelling():
                        raise asyncio.CancelledError from error  # the client took it for a timeout
                    logger.warning("changes of jobs cannot be read: %s; trying again in %s s", error, PAUSE_S)
                    await asyncio.sleep(PAUSE_S)
        finally:
            await self._redis.aclose()

    async def _end(self) -> str:
        last = await self._redis.xrevrange(self._stream, count=1)
        return str(last[0][0]) if last else "0"

    async def _follow(self, position: str) -> str:
        """The position after the next entries, whose watchers it wakes."""
        answer: Any = await self._redis.xread({self._stream: position}, block=self._block_ms)
        entries = [entry for stream in dict(answer).values() for entry in stream]
        for _, fields in entries:
            self._wake(fields["job"])
        return str(entries[-1][0]) if entries else position

    def _wake(self, job_id: str) -> None:
        for watch in self._watchers.get(job_id, ()):
            watch.tell()
