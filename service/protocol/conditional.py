"""Conditional and partial answers: entity tags and byte ranges (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

from service.protocol.problems import Kind, Problem

BYTES = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
"""No file has more bytes than 18 digits can count, and Python refuses to read numbers of thousands of digits."""


def matches(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names the tag, by weak comparison."""
    if header is None:
        return False
    tags = {candidate.strip().removeprefix("W/") for candidate in header.split(",")}
    return tag in tags or tags == {"*"}


class Span(NamedTuple):
    """Bytes of a file, from `start` up to but without `stop`."""

    start: int
    stop: int


def requested_span(header: str | None, size: int) -> Span | None:
    """The one range that a Range header asks for; None where the whole file is the answer.

    Headers that ask for several ranges or make no sense count as absent, as the standard allows.

    Raises:
        Problem: the range lies outside the file.
    """
    wanted = BYTES.fullmatch(header.replace(" ", "")) if header else None
    if wanted is None or size == 0:
        return None
    first, last = wanted.groups()
    if first:
        span = Span(int(first), min(int(last) + 1, size) if last else size)
    elif last:
        span = Span(max(0, size - int(last)), size)
    else:
        return None
    if last and first and int(last) < int(first):
        return None
    if span.start >= size or span.start == span.stop:
        raise Problem(
            Kind.RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes, numbered from 0; {header!r} asks for none of them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return span
