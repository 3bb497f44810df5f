"""Text in the body of a request that is none: half of a character, which JSON can name and nothing can hold."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator

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
    mistakes = tuple(_mistakes_in(await request.json())) if await request.body() else ()
    if mistakes:
        several = f"There are {len(mistakes)} mistakes; `errors` lists them."
        listed = mistakes[:MOST_MISTAKES]
        raise Problem(Kind.INVALID_REQUEST, several if mistakes[1:] else mistakes[0].message, mistakes=listed)


def _mistakes_in(body: JsonValue) -> Iterator[Mistake]:
    # Without recursion, for a body may be as deep as it likes.
    left: deque[tuple[Place, JsonValue]] = deque([((), body)])
    while left:
        place, value = left.popleft()
        if isinstance(value, str) and not _is_text(value):
            yield _mistake(place, str(place[-1]) if place else "body", value)
        elif isinstance(value, list):
            left.extend(((*place, number), inner) for number, inner in enumerate(value))
        elif isinstance(value, dict):
            # No pointer could name a field that has no name.
            yield from (_mistake(place, "the name of a field", name) for name in value if not _is_text(name))
            left.extend(((*place, name), inner) for name, inner in value.items() if _is_text(name))


def _is_text(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _mistake(place: Place, subject: str, found: str) -> Mistake:
    message = (
        f"{subject} should be Unicode text, without surrogates that lack their other half; write the whole character, "
        f"or leave it out; found {json.dumps(found)[:LONGEST]}"
    )
    return Mistake(pointer=pointer_to(place), message=message)
