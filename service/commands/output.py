"""What commands print: JSON for programs, tables and colours for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console


def console() -> Console:
    """Standard output, with colours where it is a terminal."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(value: BaseModel) -> None:
    """One record as one line of JSON, written at once."""
    print(value.model_dump_json(), flush=True)


def print_json_array(values: Iterable[BaseModel]) -> None:
    """Records as one JSON array."""
    print(json.dumps([value.model_dump(mode="json") for value in values]), flush=True)
