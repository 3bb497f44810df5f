"""What stands on the axes of a grid, and how the best of some cells are chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, JsonValue, StrictFloat, StrictInt, Tag, model_validator

from reinmax_core.value import Value

MOST_VALUES: Final = 10_000
LARGEST: Final = 1e15
DIGITS: Final = 12
"""Between the ends of a range, values are rounded to so many: 1e-4 to 1e-2 in three has 0.001, not a number beside."""
SLACK: Final = 1e-9
"""By so much of a step the last value may lie beyond the end of a range."""

Number: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=-LARGEST, le=LARGEST)] | Annotated[StrictFloat, Field(ge=-LARGEST, le=LARGEST)],
    Field(),
]
Path: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]


class Range(Value):
    """Numbers at equal distances: `{"from": 1, "to": 9, "step": 2}`, `{"from": 1e-4, "to": 1e-2, "count": 3}`."""

    model_config = ConfigDict(validate_by_name=False, serialize_by_alias=True)

    first: Number = Field(alias="from", description="The first of them.")
    last: Number = Field(alias="to", description="The last of them; with a `step` none lies beyond it.")
    count: int | None = Field(default=None, ge=2, le=MOST_VALUES, description="How many; this or `step`.")
    step: Number | None = Field(default=None, description="The distance from one to the next; this or `count`.")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="`log`: each is the one before times the same number; goes with `count`."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.count is None) == (self.step is None):
            raise ValueError("a range has either a count or a step; give one of the two")
        if self.step is not None and (self.scale == "log" or self.step == 0 or not 0 <= self._steps < MOST_VALUES):
            raise ValueError(
                f"a step leads from `from` to `to` in fewer than {MOST_VALUES} steps, on a linear scale, but "
                f"{self.step} does not lead from {self.first} to {self.last} so; correct it, or give a count"
            )
        if self.scale == "log" and min(self.first, self.last) <= 0:
            raise ValueError("a log scale is for numbers above 0; raise from and to, or use a linear scale")
        return self

    @property
    def values(self) -> tuple[int | float, ...]:
        """The numbers, in order; whole ones if all that describes the range is whole and so are they."""
        return tuple(self._tidied(number) for number in self._numbers())

    @property
    def _steps(self) -> float:
        assert self.step
        steps = (self.last - self.first) / self.step + SLACK
        return math.floor(steps) if math.isfinite(steps) else steps

    def _numbers(self) -> Iterator[Fraction]:
        if self.step is not None:
            yield from (Fraction(self.first) + number * Fraction(self.step) for number in range(int(self._steps) + 1))
        elif self.count is not None:
            yield from (self._at(Fraction(number, self.count - 1)) for number in range(self.count))

    def _at(self, share: Fraction) -> Fraction:
        first, last = Fraction(self.first), Fraction(self.last)
        if self.scale == "log" and 0 < share < 1:
            return Fraction(self.first * (self.last / self.first) ** float(share))
        return first + share * (last - first)

    def _tidied(self, number: Fraction) -> int | float:
        """Whole numbers and the ends as they are."""
        is_whole = isinstance(self.first, int) and isinstance(self.last, int)
        if is_whole and number.denominator == 1:
            return int(number)
        end = next((end for end in (self.first, self.last) if self._is_at(number, end)), None)
        rounded = float(f"{float(number):.{DIGITS}g}") if end is None else end
        return int(rounded) if is_whole and float(rounded).is_integer() else float(rounded)

    def _is_at(self, number: Fraction, end: float) -> bool:
        return abs(number - Fraction(end)) <= abs(Fraction(self.step or 0)) * Fraction(SLACK)


class Choice(Value):
    """Which of the cells that differ along some axes only stands for them: the one with the best mean over the seeds.

    Nothing is left out of the sweep by it: tables show what was chosen.
    """

    over: Annotated[tuple[Path, ...], Field(min_length=1, max_length=32)]
    """Paths of the axes to choose from, such as `estimator.tau`."""
    metric: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Whose mean decides; by default that of the task's objective."""
    direction: Literal["min", "max"] | None = None
    """Whether the smallest or the largest is the best; by default as the task has it, and `min` for a loss."""


def _kind(values: Any) -> str:
    return "range" if isinstance(values, dict | Range) else "values"


Values: TypeAlias = Annotated[
    Annotated[list[JsonValue], Field(min_length=1, max_length=MOST_VALUES), Tag("values")]
    | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]
"""A list of values, or a range of numbers."""
