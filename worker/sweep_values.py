"""What stands on the axes of a grid, and how the best of some cells are chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, JsonValue, StrictFloat, StrictInt, Tag, model_validator

from reinmax_core.value import Value

MOST_VALUES: Final = 10_000
LARGEST: Final = 1e15
DIGITS: Final = 12
"""Values of a range are rounded to so many, so that 1e-4 to 1e-2 in three gives 0.001 and not a number beside it."""
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

    def _numbers(self) -> Iterator[float]:
        if self.step is not None:
            yield from (self.first + number * self.step for number in range(int(self._steps) + 1))
        elif self.count is not None:
            yield from (self._at(number / (self.count - 1)) for number in range(self.count))

    def _at(self, share: float) -> float:
        if self.scale == "log":
            return float(self.first * (self.last / self.first) ** share)
        return self.first + share * (self.last - self.first)

    def _tidied(self, number: float) -> int | float:
        rounded = float(f"{number:.{DIGITS}g}")
        is_whole = isinstance(self.first, int) and isinstance(self.last, int) and rounded.is_integer()
        return int(rounded) if is_whole else rounded


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
