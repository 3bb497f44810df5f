"""Expressions of ListOps as sequences of numbers, as the published scripts read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Reading: TypeAlias = Literal["characters", "words"]

UNKNOWN: Final = 0
PAD: Final = 1
MOST_WORDS: Final = 100
"""Expressions of so many words and more are left out."""

OPERATORS: Final = ("MAX", "MED", "MIN", "SM")
ALPHABETS: Final[dict[Reading, tuple[str, ...]]] = {
    "characters": tuple(" 0123456789ADEIMNSX[]"),
    "words": (*"0123456789", *OPERATORS, "[", "]"),
}


def vocabulary(reading: Reading) -> tuple[str, ...]:
    """The tokens by their number, the unknown one and padding first."""
    return ("<unk>", "<pad>", *ALPHABETS[reading])


def plain(text: str) -> str:
    """An expression without binary brackets, each `[` a word of its own: `[ MAX 2 7 ]`."""
    return text.replace("( ", "").replace(" )", "").replace("[", "[ ")


def encoded(texts: Iterable[str], reading: Reading) -> tuple[NDArray[numpy.uint8], NDArray[numpy.int64]]:
    """Numbers of tokens [expressions, longest], padded, of plain expressions, and their lengths [expressions].

    "characters" has a token for each character, spaces included; "words" one for each word.
    """
    from numpy import arange, array, frombuffer, full, uint8

    lines = [_bytes(text, reading) for text in texts]
    lengths = array([len(line) for line in lines])
    table = full(256, UNKNOWN, uint8)
    for number, token in enumerate(ALPHABETS[reading], start=len((UNKNOWN, PAD))):
        table[ord(token[-1])] = number
    tokens = full((len(lines), lengths.max(initial=0)), PAD, uint8)
    tokens[arange(tokens.shape[1]) < lengths[:, None]] = table[frombuffer(b"".join(lines), uint8)]
    return tokens, lengths


def _bytes(text: str, reading: Reading) -> bytes:
    """A byte a token; words are known by their last characters."""
    tokens = text if reading == "characters" else "".join(word[-1] for word in text.split())
    return tokens.encode("ascii", "replace")
