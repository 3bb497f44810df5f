"""Expressions of ListOps drawn anew from the published process, always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from random import Random
from typing import Final

OPERATOR_PROBABILITY: Final = 0.25
MOST_ARGUMENTS: Final = 5
MOST_LEVELS: Final = 20
SEED: Final = 20180417
ORDER_SEED: Final = 1


def _median(values: list[int]) -> int:
    """The mean of the middle two, or twice the middle one, rounded down."""
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) // 2


OPERATORS: Final[dict[str, Callable[[list[int]], int]]] = {
    "MIN": min,
    "MAX": max,
    "MED": _median,
    "SM": lambda values: sum(values) % 10,
}


class Generator:
    """Draws labelled expressions, each in binary brackets as ListOps writes them.

    Source: Nangia and Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning", 2018,
    https://arxiv.org/abs/1804.06028.

    Args:
        seed: of Python's `random.Random`.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def draw(self, level: int = 1) -> tuple[int, str]:
        """The value of an expression, and the expression."""
        random = self._random
        if level == MOST_LEVELS or random.random() >= OPERATOR_PROBABILITY:
            digit = random.randrange(10)
            return digit, str(digit)
        arguments = [self.draw(level + 1) for _ in range(random.randint(2, MOST_ARGUMENTS))]
        operator = random.choice(tuple(OPERATORS))
        text = f"[{operator}"
        for _, argument in arguments:
            text = f"( {text} {argument} )"
        return OPERATORS[operator]([value for value, _ in arguments]), f"( {text} ] )"


def regenerated(held_out: Collection[str], total: int) -> str:
    """Lines `label<TAB>expression` of different expressions that make `total` together with those held out."""
    held_out = frozenset(held_out)
    labels = dict(_until(total - len(held_out), (text for text in _drawn() if text[1] not in held_out)))
    lines = [f"{label}\t{expression}\n" for expression, label in labels.items()]
    Random(ORDER_SEED).shuffle(lines)
    return "".join(lines)


def _drawn() -> Iterator[tuple[int, str]]:
    generator = Generator(SEED)
    while True:
        yield generator.draw()


def _until(count: int, drawn: Iterable[tuple[int, str]]) -> Iterator[tuple[str, int]]:
    """The first so many different expressions with their labels."""
    seen: set[str] = set()
    for label, expression in drawn:
        if len(seen) == count:
            return
        if expression not in seen:
            seen.add(expression)
            yield expression, label
