"""Presets: every file is one, its published numbers belong to cells, and a wrong file is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reinmax_core.presets import InvalidPreset, presets, read

SMALL: dict[str, Any] = {
    "title": "A table",
    "summary": "What is trained.",
    "source": "Somebody, 2026.",
    "sweep": {
        "base": {"task": {"name": "polynomial", "p": 3}, "steps": 2000},
        "grid": {"estimator": ["reinmax", "straight_through"], "task.c": [0.45, "linear"]},
        "seeds": 10,
    },
    "layout": {"rows": ["estimator"], "columns": ["task.c"], "metrics": ["train_loss"]},
    "published": [
        {"at": {"estimator": "reinmax", "task.c": 0.45}, "metric": "train_loss", "mean": 0.1},
        {"at": {"estimator": "reinmax", "task.c": "linear"}, "metric": "train_loss", "mean": 0.2},
    ],
    "smoke": {"summary": "Less of it.", "base": {"task": {"latents": 8}, "steps": 20}, "grid": {"task.c": [0.45]}},
}


def write(folder: Path, name: str, **changes: Any) -> Path:
    (folder / f"{name}.json").write_text(json.dumps(SMALL | changes))
    return folder


def test_every_preset_has_a_smoke_form() -> None:
    whole = [name for name, preset in presets().items() if preset.of is None]
    assert whole == sorted(whole)
    assert list(presets()) == [name for known in whole for name in (known, f"{known}-smoke")]
    assert all(presets()[f"{name}-smoke"].of == name for name in whole)


def test_adding_a_file_adds_a_preset(tmp_path: Path) -> None:
    found = read(write(tmp_path, "table-9"))
    assert list(found) == ["table-9", "table-9-smoke"]
    assert found["table-9"].sweep.body == SMALL["sweep"]
    assert len(found["table-9"].published) == 2


def test_a_smoke_form_is_merged_into_the_whole(tmp_path: Path) -> None:
    smoke = read(write(tmp_path, "table-9"))["table-9-smoke"]
    assert smoke.sweep.body == {
        "base": {"task": {"name": "polynomial", "p": 3, "latents": 8}, "steps": 20},
        "grid": {"estimator": ["reinmax", "straight_through"], "task.c": [0.45]},
        "seeds": 2,
    }
    assert smoke.summary == "Less of it."
    assert [known.at["task.c"] for known in smoke.published] == [0.45], "of the cells that it has"


def at(place: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"at": place, "metric": "train_loss", "mean": 0.1} | changes


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"layout": SMALL["layout"] | {"columns": []}}, "'task.c' should be in rows or columns"),
        ({"layout": SMALL["layout"] | {"rows": ["task.c"]}}, "'task.c' should be in rows, in columns or chosen from"),
        ({"layout": SMALL["layout"] | {"rows": ["estimator", "tau"]}}, r"'tau', but the grid has \['estimator', "),
        ({"layout": SMALL["layout"] | {"metrics": []}}, r"layout\.metrics: .* at least 1 item"),
        ({"published": [at({"estimator": "rloo"})]}, r"published\.0, train_loss at .*'rloo'.* has none there"),
        ({"published": [at({"estimator.tau": 1})]}, "has none there"),
        ({"published": 2 * [at({"estimator": "reinmax"})]}, r"published\.1, .* twice"),
        ({"published": [at({}, spread_kind="standard error")]}, "but there is no spread"),
        ({"published": [at({}, mean="high")]}, r"published\.0\.mean: .* valid number"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"smoke": {}}, r"smoke\.summary: Field required"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidPreset, match=rf"presets/table-9\.json should hold a preset, but .*{found}"):
        read(write(tmp_path, "table-9", **changes))


def test_what_is_no_json_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "table-9.json").write_text("{")
    with pytest.raises(InvalidPreset, match=r"table-9\.json should hold a preset, but Expecting property name"):
        read(tmp_path)


def test_only_forms_for_trials_are_called_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidPreset, match="its name ends in -smoke"):
        read(write(tmp_path, "table-9-smoke"))


@pytest.mark.parametrize("name", ["table_9", "Table-9", "table-9.old"])
def test_a_file_is_named_as_presets_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidPreset, match="name: String should match pattern"):
        read(write(tmp_path, name))
