"""How settings name images: a published data set, or a user's file below the data folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reinmax_core.data.base import DataSet
from reinmax_core.data.image_file import LONGEST_NAME
from reinmax_core.value import discover


def known_among(data_sets: type[DataSet], checked_name: Callable[[str], str]) -> Callable[[str], str]:
    """A check that gives back the name of one of these data sets, or a file's name that `checked_name` takes.

    It raises ValueError for others; the message lists the data sets, or says what file names look like.
    """

    def known(name: str) -> str:
        names = tuple(discover(data_sets))
        if name in names:
            return name
        if name.isidentifier() or not name:
            raise ValueError(
                f"there is no data set {name!r}; those that exist are: {', '.join(names)}; "
                f"images of your own are named by their file below the data folder, such as 'own/letters.npz'"
            )
        return checked_name(name)

    return known


def schema_of_names(data_sets: type[DataSet], pattern: str) -> dict[str, Any]:
    """The JSON schema of such names, where those of files have that pattern."""
    return {
        "anyOf": [
            {"type": "string", "enum": list(discover(data_sets))},
            {"type": "string", "pattern": pattern, "maxLength": LONGEST_NAME},
        ]
    }
