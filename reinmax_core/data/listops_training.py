"""The published training file of ListOps, no checksum of which is known: judged by what is in it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from reinmax_core.data.file import DataCorrupt
from reinmax_core.data.listops import GZIP, Expressions
from reinmax_core.data.listops_values import values

LINES: Final = 90_000
"""Lines of the published file."""

DIGITS: Final = frozenset("0123456789")
SHOWN: Final = 60
REMEDY: Final = "put the published file there, or remove this one, and the training set is drawn anew"


def training_expressions(path: Path, valid: Expressions, test: Expressions, lines: int = LINES) -> Expressions:
    """The expressions of a training file in its order, without those that are held out for validation.

    Published results take 1,000 lines of the training file for validation, those of `valid.tsv`.

    Args:
        path: the file, compressed or not: a line `label<TAB>expression` each.
        valid: the expressions for validation; they may be in the file, and are left out.
        test: the expressions for tests, of which the file has none.
        lines: how many the file has.

    Raises:
        DataCorrupt: there are more or fewer lines, or one is no fully bracketed expression after its value,
            is a test expression or repeats another.
    """
    found = [line.partition("\t") for line in _lines(path)]
    if len(found) != lines:
        raise DataCorrupt(f"{path} should have {lines:,} lines, but has {len(found):,}; {REMEDY}")
    labels, texts = [label for label, _, _ in found], [text for _, _, text in found]
    for number, mistake in _mistakes(labels, texts, test):
        raise DataCorrupt(f"line {number} of {path} should {mistake}; {REMEDY}")
    held_out = frozenset(valid.texts)
    kept = [(int(label), text) for label, text in zip(labels, texts, strict=True) if text not in held_out]
    return Expressions(tuple(label for label, _ in kept), tuple(text for _, text in kept))


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    try:
        return (gzip.decompress(content) if content.startswith(GZIP) else content).decode().splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{path} should be text, or whole gzipped text, but cannot be read: {error}; {REMEDY}") from (
            error
        )


def _mistakes(labels: Sequence[str], texts: Sequence[str], test: Expressions) -> Iterator[tuple[int, str]]:
    """Numbers of lines that are not as they should be, from 1 on, and what they should be and are instead."""
    tested, first = frozenset(test.texts), dict[str, int]()
    for number, (label, text, value) in enumerate(zip(labels, texts, values(texts), strict=True), start=1):
        if value not in DIGITS:
            form = "be a label, a tab and a fully bracketed expression such as '( ( ( [MAX 2 ) 7 ) ] )'"
            yield number, f"{form}, but has {text[:SHOWN]!r} after {label[:SHOWN]!r}"
        elif label != value:
            yield number, f"have the label '{value}', the value of its expression, but has {label[:SHOWN]!r}"
        elif text in tested:
            yield number, f"be no test expression, but is one: {text[:SHOWN]!r}"
        elif (earlier := first.setdefault(text, number)) != number:
            yield number, f"have an expression of its own, but repeats that of line {earlier}"
