"""Values, and how they are found and read."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import TypeAdapter, ValidationError

from reinmax_core.estimators import Estimator, Exact, ReinMax
from reinmax_core.value import Value, discover, name_of, one_of, one_of_classes


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Value]:
    """The base of a package of two values, written for this test."""
    package = tmp_path / "shapes"
    package.mkdir()
    sources = {
        "__init__": "",
        "base": """
            from abc import ABC, abstractmethod
            from reinmax_core.value import Value

            class Shape(Value, ABC):
                name: str

                @abstractmethod
                def area(self) -> float: ...
            """,
        "square": """
            from typing import Literal
            from shapes.base import Shape

            class Square(Shape):
                name: Literal["square"] = "square"
                side: float = 1.0

                def area(self) -> float:
                    return self.side**2
            """,
        "circle": """
            from typing import Literal
            from shapes.base import Shape
            from shapes.square import Square

            class Circle(Shape):
                name: Literal["circle"] = "circle"

                def area(self) -> float:
                    return 3.14 * Square().area()
            """,
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "shapes"]:
        monkeypatch.delitem(sys.modules, name)
    from shapes.base import Shape  # type: ignore[import-not-found]

    return Shape  # type: ignore[no-any-return]


def test_a_file_is_all_it_takes(shapes: type[Value]) -> None:
    assert list(discover(shapes)) == ["circle", "square"]
    assert discover(shapes)["square"].__name__ == "Square"


def test_a_file_of_another_name_is_refused(shapes: type[Value], tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    (folder / "oval.py").write_text((folder / "square.py").read_text())
    with pytest.raises(RuntimeError, match=r"'square' but stands in oval\.py"):
        discover(shapes)


def test_names_are_those_of_the_files() -> None:
    folder = Path(str(sys.modules[Estimator.__module__].__file__)).parent
    assert set(discover(Estimator)) == {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "from_costs"}
    assert all(name_of(found) == name for name, found in discover(Estimator).items())


@pytest.mark.parametrize("written", ["reinmax", {"name": "reinmax"}, ReinMax()])
def test_a_bare_name_stands_for_the_defaults(written: object) -> None:
    assert TypeAdapter(one_of(Estimator)).validate_python(written) == ReinMax()


def test_the_full_form_carries_settings() -> None:
    assert TypeAdapter(one_of(Estimator)).validate_python({"name": "reinmax", "tau": 1.3}) == ReinMax(tau=1.3)


@pytest.mark.parametrize("written", ["relaxed", {"name": "relaxed"}, {"tau": 1.0}, 3, None])
def test_an_unknown_name_is_refused_with_those_that_exist(written: object) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(one_of(Estimator)).validate_python(written)
    if isinstance(written, str) or (isinstance(written, dict) and "name" in written):
        assert all(name in str(refused.value) for name in discover(Estimator))


@pytest.mark.parametrize("written", ["exact", {"name": "exact"}, {}])
def test_one_class_is_a_choice_too(written: object) -> None:
    assert TypeAdapter(one_of_classes((Exact,))).validate_python(written) == Exact()


def test_the_schema_offers_both_forms() -> None:
    schema = str(TypeAdapter(one_of(Estimator)).json_schema(mode="validation"))
    assert "'enum'" in schema
    assert "discriminator" in schema
    assert "Temperature of the shifted distribution" in schema


def test_values_cannot_be_changed() -> None:
    estimator = ReinMax(tau=1.2)
    with pytest.raises(ValidationError, match="frozen"):
        estimator.tau = 1.3  # type: ignore[misc]
    assert hash(estimator) == hash(ReinMax(tau=1.2))
    assert estimator != ReinMax()


def test_unknown_fields_and_other_words_are_refused() -> None:
    for wrong in ({"temperature": 1.0}, {"name": "exact"}, {"tau": "warm"}):
        with pytest.raises(ValidationError):
            ReinMax.model_validate(wrong)


@pytest.mark.parametrize("name", discover(Estimator))
def test_every_setting_is_described_and_every_class_sourced(name: str) -> None:
    estimator_class = discover(Estimator)[name]
    for field, info in estimator_class.model_fields.items():
        assert field == "name" or info.description, f"{name}.{field} has no description"
    documentation = str(estimator_class.__doc__)
    assert "Source: " in documentation
    assert "Not " in documentation
