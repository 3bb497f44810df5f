"""An artefact as an HTTP answer: whole or in part, with its checksum."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

from fastapi.responses import Response, StreamingResponse

from service.protocol.conditional import Span, matches, requested_span
from worker.jobs import Artifact

Read: TypeAlias = Callable[[int, int], Iterator[bytes]]
"""Gives the bytes of a file from a position up to another one, piece by piece."""


class Wish(NamedTuple):
    """How the client wants a file, by its request headers; None where it did not say."""

    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None
    without_body: bool = False

    def span(self, tag: str, size: int) -> Span | None:
        """The range that is to be sent of the file with that tag, None for all of it."""
        return requested_span(self.range, size) if self.if_range in (None, tag) else None


def file_answer(artifact: Artifact, read: Read, wish: Wish) -> Response:
    """The bytes of the file that the client has a use for.

    Raises:
        Problem: the range lies outside the file.
        Exception: what reading the first piece raises.
    """
    headers = _headers(artifact)
    if matches(wish.if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    span = wish.span(headers["ETag"], artifact.bytes)
    if span:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{artifact.bytes}"
    start, stop = span or Span(0, artifact.bytes)
    headers["Content-Length"] = str(stop - start)
    status = 206 if span else 200
    if wish.without_body:
        return Response(status_code=status, headers=headers)
    pieces = read(start, stop)
    # Once the headers are sent, it is too late to say that the file cannot be read.
    first = next(pieces, b"")
    return StreamingResponse(chain([first], pieces), status, headers)


def _headers(artifact: Artifact) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(artifact.sha256)).decode()
    file_name = quote(artifact.name.rpartition("/")[2])
    return {
        "ETag": f'"{artifact.sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename=\"{file_name}\"; filename*=UTF-8''{file_name}",
    }
