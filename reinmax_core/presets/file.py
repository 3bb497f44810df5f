"""The content of a preset's file: the whole preset, and what its `-smoke` form does otherwise."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, JsonValue

from reinmax_core.presets.grid import Grid, changed
from reinmax_core.presets.preset import Choice, Layout, Preset, Published, PublishedSweep
from reinmax_core.value import Value

SMOKE: Final = "-smoke"


class InvalidPreset(ValueError):
    """A file among the presets is none."""

    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"presets/{name}.json should hold a preset, but {found}; correct the file or remove it")


class Smoke(Value):
    """What the `-smoke` form of a preset does otherwise."""

    summary: Annotated[str, Field(min_length=1)]
    """What is trained there."""
    base: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of the body of a job that are different, merged into those of the whole preset."""
    grid: Grid = Field(default_factory=dict)
    """Axes that are different, or a list of other grids."""
    seeds: int | tuple[int, ...] = 2
    """The seeds, or how many."""
    select: Choice | None = None
    """How cells are chosen, where that is different."""
    layout: Layout | None = None
    """How results are shown, where that is different."""


class PresetFile(Value):
    """What a file holds, whose name is the preset's."""

    title: str
    summary: str
    source: str
    sweep: PublishedSweep
    layout: Layout
    published: tuple[Published, ...] = ()
    smoke: Smoke

    def whole(self, name: str) -> Preset:
        """The preset as published."""
        return Preset(
            name=name,
            title=self.title,
            summary=self.summary,
            source=self.source,
            sweep=self.sweep,
            layout=self.layout,
            published=self.published,
        )

    def smoke_form(self, name: str) -> Preset:
        """The preset for a trial, with what was published of the cells that it has."""
        sweep = self._smoke_sweep()
        return Preset(
            name=f"{name}{SMOKE}",
            of=name,
            title=f"{self.title} (smoke)",
            summary=self.smoke.summary,
            source=self.source,
            sweep=sweep,
            layout=self.smoke.layout or self.layout,
            published=tuple(known for known in self.published if sweep.has(known.at)),
        )

    def _smoke_sweep(self) -> PublishedSweep:
        return PublishedSweep(
            base=_merged(self.sweep.base, self.smoke.base),
            grid=changed(self.sweep.grid, self.smoke.grid),
            seeds=self.smoke.seeds,
            select=self.smoke.select or self.sweep.select,
        )


def _merged(base: dict[str, JsonValue], over: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """`base` with the fields of `over`, of objects field by field."""
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
