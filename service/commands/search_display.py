"""Searches for people's eyes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from worker.search import BestTrial, SearchProgress


def search_summary(search: SearchProgress) -> str:
    """How many trials have come to what, the best of them, and what stands in the way."""
    return "; ".join((_trials(search), *_best(search), *_note(search)))


def _trials(search: SearchProgress) -> str:
    counts = {"running": search.running, "pruned": search.pruned, "failed": search.failed}
    others = (f", {count} {what}" for what, count in counts.items() if count)
    return f"{search.complete} of {search.trials} trials complete{''.join(others)}"


def _best(search: SearchProgress) -> Iterator[str]:
    if search.best:
        yield f"best {search.metric} {search.best.value:.6g} with {_coordinates(search.best)}"


def _coordinates(best: BestTrial) -> str:
    there = {path: value for path, value in best.coordinates.items() if value is not None}
    return ", ".join(
        f"{path} {value if isinstance(value, str) else json.dumps(value)}" for path, value in there.items()
    )


def _note(search: SearchProgress) -> Iterator[str]:
    if search.note:
        yield search.note.message
