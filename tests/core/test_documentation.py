"""What `help` shows is enough to begin with, and true: settings are those of the class, examples run."""

from __future__ import annotations

import doctest
import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import reinmax_core
from reinmax_core.estimators import Estimator
from reinmax_core.value import discover

ESTIMATORS = discover(Estimator)
FOLDER = Path(str(reinmax_core.__file__)).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in sorted(FOLDER.rglob("*.py"))
    if ">>> " in path.read_text()
]
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def paragraph(name: str, heading: str) -> list[str]:
    """The lines of the paragraph of an estimator's docstring that has this heading."""
    paragraphs = str(inspect.getdoc(ESTIMATORS[name])).split("\n\n")
    found = [lines for lines in map(str.splitlines, paragraphs) if lines[0] == heading]
    assert len(found) == 1, f"the docstring of {ESTIMATORS[name].__name__} should have one paragraph '{heading}'"
    return found[0][1:]


def told_settings(name: str) -> dict[str, str]:
    """What the docstring tells about each setting: type, default, bounds and meaning."""
    entries = re.split(r"^    (?=\w)", "\n".join(paragraph(name, "Settings:")), flags=re.MULTILINE)[1:]
    told = [re.fullmatch(r"(\w+) (\(.+?\): \S.*\.)", " ".join(entry.split())) for entry in entries]
    assert all(told), f"each entry should read 'field (type, default ..., bounds): meaning.', found {entries}"
    return {found[1]: found[2] for found in told if found}


def written(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def facts(setting: dict[str, Any]) -> list[str]:
    """What must be told of a setting, read off its JSON Schema: bounds and words, of each alternative.

    A bound is told by its size, so that a range about 0 may be.
    """
    kinds = [setting, *setting.get("anyOf", [])]
    bounds = [repr(abs(kind[bound])).removesuffix(".0") for kind in kinds for bound in BOUNDS if bound in kind]
    return bounds + [written(word) for kind in kinds for word in (*kind.get("enum", []), kind.get("const")) if word]


def tells(text: str, fact: str) -> bool:
    """Whether the fact is said, not merely as a part of a longer word or number."""
    return re.search(rf"(?<![\w.]){re.escape(fact)}(?![\w]|\.\d)", text) is not None


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if len(ESTIMATORS[name].model_fields) > 1])
def test_every_setting_is_told_with_its_default_and_bounds(name: str) -> None:
    told, schema = told_settings(name), ESTIMATORS[name].model_json_schema()["properties"]
    assert list(told) == [field for field in schema if field != "name"]
    for field, text in told.items():
        default = f"default {written(ESTIMATORS[name].model_fields[field].default)}"
        for fact in (default, *facts(schema[field])):
            assert tells(text, fact), f"{field} should tell '{fact}', but tells '{text}'"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_has_an_example_that_shows_what_comes_out(name: str) -> None:
    example = "\n".join(paragraph(name, "Example:"))
    assert f"import {ESTIMATORS[name].__name__}\n" in example
    (parsed,) = doctest.DocTestFinder(recurse=False).find(ESTIMATORS[name], name)
    assert any(step.want for step in parsed.examples)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module: str) -> None:
    failed, attempted = doctest.testmod(import_module(module))
    assert attempted > 0
    assert failed == 0, "see the captured output"
