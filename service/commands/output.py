"""What commands print: JSON for programs, tables and colours for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


WIDE: Final = 200


class CommandFailed(Exception):
    """A condition that the user can put right; the message says how."""


def console() -> Console:
    """Standard output: coloured and as wide as the terminal where it is one, else wide enough for any table."""
    from rich.console import Console

    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=WIDE)


def print_json(value: BaseModel) -> None:
    """One record as one line of JSON, written at once."""
    print(value.model_dump_json(), flush=True)


def print_json_array(values: Iterable[BaseModel]) -> None:
    """Records as one JSON array."""
    print(json.dumps([value.model_dump(mode="json") for value in values]), flush=True)
