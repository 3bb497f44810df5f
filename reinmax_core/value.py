"""Immutable values whose fields are settings, found by the name of the file they live in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

V = TypeVar("V", bound="Value")


class Value(BaseModel):
    """A frozen record: equal when its fields are equal, and refusing fields it does not know.

    Subclasses add fields (settings) and methods (what the settings mean). Numbers must be finite.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="strings",
        protected_namespaces=(),
    )


@cache
def discover(base: type[V]) -> dict[str, type[V]]:
    """Every concrete subclass of `base` in its package, by its `name`, in alphabetical order.

    A class is registered by standing in a file of the package that `base` lives in; the file is
    called as the class's `name`. Nothing else has to be edited to add one.

    Raises:
        RuntimeError: a file defines a class under a name other than the file's.
    """
    package = importlib.import_module(base.__module__.rpartition(".")[0])
    found: dict[str, type[V]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for candidate in vars(module).values():
            if _is_concrete(candidate, base) and candidate.__module__ == module.__name__:
                name = name_of(candidate)
                if name != module_info.name:
                    raise RuntimeError(f"{candidate.__name__} is named {name!r} but stands in {module_info.name}.py")
                found[name] = candidate
    return dict(sorted(found.items()))


def name_of(value_class: type[Value]) -> str:
    """The word under which a value is written in a request: the default of its `name` field."""
    return str(value_class.model_fields["name"].default)


def one_of(base: type[Value]) -> Any:
    """A pydantic type: any discovered subclass of `base`, as an object with `name` or as the bare name.

    `"reinmax"` and `{"name": "reinmax"}` mean the same. An unknown name is refused with the names
    that exist.
    """
    return one_of_classes(tuple(discover(base).values()))


def one_of_classes(classes: tuple[type[Value], ...]) -> Any:
    """A pydantic type: one of `classes`, told apart by `name`, which alone may stand for the defaults."""
    names = tuple(name_of(value_class) for value_class in classes)
    if len(classes) == 1:
        full: Any = classes[0]
    else:
        full = Annotated[Union[classes], Field(discriminator="name")]  # noqa: UP007  (built from a tuple)
    short: Any = Literal[names]
    spelled_out = BeforeValidator(_spell_out, json_schema_input_type=Union[short, full])  # noqa: UP007
    return Annotated[full, spelled_out]


def _spell_out(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _is_concrete(candidate: object, base: type[Value]) -> bool:
    return inspect.isclass(candidate) and issubclass(candidate, base) and not inspect.isabstract(candidate)
