"""Answers that are held back until there is news (long polling)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final, Protocol, TypeAlias, TypeVar

from fastapi import Header, Query
from fastapi.concurrency import run_in_threadpool

from service.events import Changes
from service.protocol.conditional import matches

LONGEST_WAIT_S: Final = 60

Known: TypeAlias = Annotated[str | None, Header(description="Entity tags: answers 304 while it has one of them.")]
"""A route's parameter `if_none_match`."""

Wait: TypeAlias = Annotated[
    float,
    Query(
        ge=0,
        le=LONGEST_WAIT_S,
        description="Seconds to hold the answer until it differs from `If-None-Match`, or without that header from "
        "what it is now. What has ended is answered at once.",
    ),
]
"""A route's parameter `wait`."""


class Tagged(Protocol):
    """What has an entity tag."""

    @property
    def etag(self) -> str:
        """The tag of how it stands."""


T = TypeVar("T", bound=Tagged)


async def held(
    changes: Changes,
    name: str,
    read: Callable[[str], T],
    has_ended: Callable[[T], bool],
    known: str | None,
    wait_s: float,
) -> T:
    """What is read as it stands, or as soon as it changes.

    Args:
        changes: tells of changes.
        name: the id of what is watched.
        read: reads it from the store.
        has_ended: whether it changes no more.
        known: the `If-None-Match` header.
        wait_s: how long to wait for a change.
    """
    with changes.watch(name) as watch:
        found = await run_in_threadpool(read, name)
        known = known or found.etag
        deadline = asyncio.get_running_loop().time() + wait_s
        in_time = wait_s > 0
        while in_time and not has_ended(found) and matches(known, found.etag):
            in_time = await watch.sees_change(deadline)
            # At the deadline too: a place in a queue, say, moves without a change of the job.
            found = await run_in_threadpool(read, name)
    return found
