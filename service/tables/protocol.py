"""Whether a sweep trains what its preset says, as it has to where it is held against published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from reinmax_core.presets import Preset
from worker.sweep import Axis, Sweep

BESIDE_THE_RESULT: Final = frozenset(
    {"hardware", "labels", "max_attempts", "max_attempts_by_cause", "name", "packing", "priority", "timeout_s"}
)
"""Fields of a job that say where, when and under which name it runs, not what comes out."""


def changes(sweep: Sweep, preset: Preset) -> tuple[str, ...]:
    """The paths of all fields of a job that the sweep sets otherwise than its preset, in alphabetical order."""
    base = sweep.request.get("base")
    own = base if isinstance(base, dict) else {}
    axes = (axis.path for axis in sweep.axes if _is_changed(axis, preset))
    return tuple(sorted({*_differing(_of_the_result(own), _of_the_result(preset.sweep.base)), *axes}))


def _of_the_result(base: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in base.items() if name not in BESIDE_THE_RESULT}


def _differing(own: Mapping[str, JsonValue], preset: Mapping[str, JsonValue]) -> Iterator[str]:
    for name in own.keys() | preset.keys():
        mine, theirs = own.get(name), preset.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            yield from (f"{name}.{path}" for path in _differing(mine, theirs))
        elif mine != theirs:
            yield name


def _is_changed(axis: Axis, preset: Preset) -> bool:
    """Whether it is another axis than the preset's, of which published numbers do not say at which value they are."""
    if axis.path in BESIDE_THE_RESULT or any(axis.path in known.at for known in preset.published):
        return False
    known = preset.sweep.axes.get(axis.path)
    return known is None or (isinstance(known, list) and any(value not in known for value in axis.values))
