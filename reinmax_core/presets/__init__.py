"""Sweeps that repeat published tables and figures, with the published numbers beside them.

A preset is a file of this folder. Adding `table-9.json` adds the preset `table-9` and, as every file says what is
left out for a trial run, `table-9-smoke`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from pydantic import ValidationError

from reinmax_core.presets.file import SMOKE, InvalidPreset, PresetFile
from reinmax_core.presets.preset import Layout, Preset, Published, PublishedSweep

SUFFIX = ".json"


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset that comes with the package, in alphabetical order, each before its `-smoke` form; by name."""
    return read(files(__package__))


def read(folder: Traversable) -> dict[str, Preset]:
    """The presets of the JSON files in a folder, in alphabetical order, each before its `-smoke` form; by name.

    Raises:
        InvalidPreset: a file is none; the message says which, and where.
    """
    stems = sorted(entry.name.removesuffix(SUFFIX) for entry in folder.iterdir() if entry.name.endswith(SUFFIX))
    both = (preset for stem in stems for preset in _forms(stem, folder / f"{stem}{SUFFIX}"))
    return {preset.name: preset for preset in both}


def _forms(name: str, file: Traversable) -> tuple[Preset, Preset]:
    if name.endswith(SMOKE):
        raise InvalidPreset(name, f"its name ends in {SMOKE}, as that of the form for trials of another preset does")
    try:
        content = PresetFile.model_validate(json.loads(file.read_text("utf-8")))
        return content.whole(name), content.smoke_form(name)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
        raise InvalidPreset(name, found) from error
    except ValueError as error:  # text that is not JSON, or not UTF-8
        raise InvalidPreset(name, str(error)) from error


__all__ = ["InvalidPreset", "Layout", "Preset", "Published", "PublishedSweep", "presets", "read"]
