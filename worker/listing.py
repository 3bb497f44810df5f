"""Pages of jobs, newest first, however many there are."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from reinmax_core.value import Value
from worker.jobs import Job, State
from worker.keyspace import Keyspace

SMALLEST_STRIDE, LARGEST_STRIDE = 64, 4096
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
    labels: dict[str, str] = Field(default_factory=dict)

    def indexes(self) -> list[str]:
        """Names of the indexes whose intersection is meant."""
        fields = {"status": self.status, "task": self.task, "estimator": self.estimator}
        labels = [f"index:label:{key}={value}" for key, value in sorted(self.labels.items())]
        return [f"index:{name}:{value}" for name, value in fields.items() if value is not None] + labels or ["jobs"]


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


def page_of_ids(keyspace: Keyspace, filters: Filters, limit: int, cursor: str | None) -> tuple[list[str], str | None]:
    """Ids of a page and the cursor of the next one.

    Raises:
        BadCursor: the cursor is of another list, or of none.
    """
    before = _position(filters, cursor) if cursor is not None else None
    found: list[str] = []
    for job_id in _newest_first(keyspace, filters, limit, before):
        if len(found) == limit:
            return found, _cursor(filters, found[-1])
        found.append(job_id)
    return found, None


def count_by_state(keyspace: Keyspace) -> dict[State, int]:
    """How many jobs are in each state."""
    sizes = keyspace.ask(*(("ZCARD", keyspace.key(f"index:status:{state.value}")) for state in State))
    return dict(zip(State, sizes, strict=True))


def _newest_first(keyspace: Keyspace, filters: Filters, limit: int, before: str | None) -> Iterator[str]:
    """Walks the smallest index and asks the others, in strides that grow while little is found."""
    smallest, *others = _by_size(keyspace, filters.indexes())
    stride = max(SMALLEST_STRIDE, limit + 1)
    while True:
        highest = f"({before}" if before else "+"
        walk = ("ZREVRANGEBYLEX", smallest, highest, "-", "LIMIT", 0, stride)
        (ids,) = keyspace.ask(walk)
        if ids:
            yield from _common(keyspace, ids, others)
        if len(ids) < stride:
            return
        before, stride = ids[-1], min(2 * stride, LARGEST_STRIDE)


def _by_size(keyspace: Keyspace, indexes: list[str]) -> list[str]:
    keys = [keyspace.key(name) for name in indexes]
    sizes = keyspace.ask(*(("ZCARD", key) for key in keys)) if len(keys) > 1 else [0]
    return [key for _, key in sorted(zip(sizes, keys, strict=True))]


def _common(keyspace: Keyspace, ids: list[str], indexes: list[str]) -> list[str]:
    columns = keyspace.ask(*(("ZMSCORE", index, *ids) for index in indexes)) if indexes else []
    return [job_id for job_id, *scores in zip(ids, *columns, strict=True) if None not in scores]


def _cursor(filters: Filters, job_id: str) -> str:
    digest = hashlib.sha256(f"{filters.model_dump_json()} {job_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:DIGEST_BYTES] + job_id.encode()).rstrip(b"=").decode()


def _position(filters: Filters, cursor: str) -> str:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        job_id = raw[DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):
        job_id = ""
    if cursor != _cursor(filters, job_id):
        raise BadCursor(
            f"cursor {cursor!r} was not handed out for these filters; use `next_cursor` of the page before, with "
            f"the same filters, or leave the cursor out to begin with the newest job"
        )
    return job_id
