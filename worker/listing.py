"""Pages of jobs, newest first, however many there are."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from reinmax_core.value import Value
from worker.jobs import Job, State
from worker.keyspace import Keyspace

DIGEST_BYTES = 9


class BadCursor(ValueError):
    """A cursor is not one that was handed out for these filters."""


class Filters(Value):
    """What the jobs of a list have in common; None and empty mean any."""

    status: str | None = None
    task: str | None = None
    """Name of the task."""
    estimator: str | None = None
    """Name of the estimator."""
    sweep: str | None = None
    """Id of the sweep that they are part of."""
    labels: dict[str, str] = Field(default_factory=dict)

    def indexes(self) -> list[str]:
        """Names of the indexes whose intersection is meant."""
        fields = {"status": self.status, "task": self.task, "estimator": self.estimator, "sweep": self.sweep}
        labels = [f"index:label:{key}={value}" for key, value in sorted(self.labels.items())]
        return [f"index:{name}:{value}" for name, value in fields.items() if value is not None] + labels or ["jobs"]


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


def page_of_records(
    keyspace: Keyspace, filters: Filters, limit: int, cursor: str | None
) -> tuple[list[Any], str | None]:
    """Records of a page and the living workers, as scripts show them, and the cursor of the next page.

    Raises:
        BadCursor: the cursor is of another list, or of none.
    """
    position = position_in(filters, cursor) if cursor is not None else ""
    ids: list[str] = []
    records: list[Any] = []
    living: list[Any] = []
    # One more than fits tells whether there is another page.
    while len(ids) <= limit:
        found, position, (shown, workers) = keyspace.run("list", limit + 1 - len(ids), position, *filters.indexes())
        ids, records, living = ids + found, records + shown, living or workers
        if not position:
            break
    next_cursor = cursor_behind(filters, ids[limit - 1]) if len(ids) > limit else None
    on_page = set(ids[:limit])
    return [[shown for shown in records if shown[0] in on_page], living], next_cursor


def count_by_state(keyspace: Keyspace) -> dict[State, int]:
    """How many jobs are in each state."""
    sizes = keyspace.ask(*(("ZCARD", keyspace.key(f"index:status:{state.value}")) for state in State))
    return dict(zip(State, sizes, strict=True))


def cursor_behind(filters: Value, item_id: str) -> str:
    """What stands for the items behind that one, in a list with these filters."""
    digest = hashlib.sha256(f"{filters.model_dump_json()} {item_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:DIGEST_BYTES] + item_id.encode()).rstrip(b"=").decode()


def position_in(filters: Value, cursor: str) -> str:
    """The item behind which to begin.

    Raises:
        BadCursor: the cursor is of another list, or of none.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        item_id = raw[DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):
        item_id = ""
    if cursor != cursor_behind(filters, item_id):
        raise BadCursor(
            f"cursor {cursor!r} was not handed out for these filters; use `next_cursor` of the page before, with "
            f"the same filters, or leave the cursor out to begin with the newest"
        )
    return item_id
