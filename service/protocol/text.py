"""Text in the body of a request that is none: half of a character, which JSON can name and nothing can hold."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from fastapi import Request
from pydantic import JsonValue

from service.mistakes import MOST_MISTAKES, Mistake
from service.protocol.problems import Kind, Problem
from service.sweep_mistakes import pointer_to
from worker.sweep_grid import Place

LONGEST = 80


async def require_text(request: Request) -> None:
    """Refuses a JSON body with a string that is not Unicode text (RFC 8259, section 8.2), wherever it stands.

    Raises:
        Problem: there is one, such as `"\\ud800"`; all that follows could neither store nor show it.
    """
    mistakes = tuple(islice(_mistakes_in(await request.json()), MOST_MISTAKES)) if await request.body() else ()
    if mistakes:
        several = f"There are {len(mistakes)} mistakes; `errors` lists them."
        raise Problem(Kind.INVALID_REQUEST, several if mistakes[1:] else mistakes[0].message, mistakes=mistakes)


class _Spot(NamedTuple):
    """A place by the one around it, for paths to all strings of a large and deep body would fill the memory."""

    outer: _Spot | None
    part: str | int

    @property
    def place(self) -> Place:
        parts, spot = [self.part], self.outer
        while spot:
            parts.append(spot.part)
            spot = spot.outer
        return tuple(reversed(parts))


def _mistakes_in(body: JsonValue) -> Iterator[Mistake]:
    # Without recursion, for a body may be as deep as it likes.
    left: deque[tuple[_Spot | None, JsonValue]] = deque([(None, body)])
    while left:
        spot, value = left.popleft()
        if isinstance(value, str) and not _is_text(value):
            yield _mistake(spot, str(spot.part) if spot else "body", value)
        elif isinstance(value, list):
            left.extend((_Spot(spot, number), inner) for number, inner in enumerate(value) if _may_hold(inner))
        elif isinstance(value, dict):
            # No pointer could name a field that has no name.
            yield from (_mistake(spot, "the name of a field", name) for name in value if not _is_text(name))
            left.extend((_Spot(spot, name), inner) for name, inner in value.items() if _is_text(name))


def _may_hold(value: JsonValue) -> bool:
    return not _is_text(value) if isinstance(value, str) else isinstance(value, (list, dict))


def _is_text(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mistake(spot: _Spot | None, subject: str, found: str) -> Mistake:
    message = (
        f"{subject} should be Unicode text, without surrogates that lack their other half; write the whole character, "
        f"or leave it out; found {json.dumps(found)[:LONGEST]}"
    )
    return Mistake(pointer=pointer_to(spot.place if spot else ()), message=message)
