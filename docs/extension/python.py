"""The Python API: what `mmcl.__all__` names, with signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import mmcl

from .tables import code, table


def python_markdown() -> str:
    """A section a function, then one a class."""
    found = [(name, getattr(mmcl, name)) for name in mmcl.__all__]
    functions = [_function(name, made) for name, made in found if not inspect.isclass(made)]
    return "\n\n".join([*functions, *(_class(name, made) for name, made in found if inspect.isclass(made))])


def _function(name: str, made: Any) -> str:
    parameters = inspect.signature(made).parameters.values()
    result = inspect.signature(made).return_annotation
    lines = "".join(f"    {text},\n" for text in _written(parameters))
    return f"## mmcl.{name}\n\n```python\n{name}(\n{lines}) -> {result}\n```\n\n{inspect.getdoc(made)}"


def _written(parameters: Any) -> Iterator[str]:
    """Each parameter as in the source; a star before those that are given by name."""
    named = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            named = True
            yield "*"
        yield str(parameter).replace("'", "")


def _class(name: str, made: type) -> str:
    rows = [(code(member), said) for member, said in sorted(_members(made)) if not member.startswith("_")]
    return f"## mmcl.{name}\n\n{inspect.getdoc(made)}\n\n{table(('member', ''), rows)}"


def _members(made: type) -> Iterator[tuple[str, str]]:
    """Fields with their types; properties and methods with the first line of what they say."""
    own = [cls for cls in made.__mro__ if cls.__module__.startswith("mmcl")]
    fields = {field: kind for cls in own for field, kind in getattr(cls, "__annotations__", {}).items()}
    for field, kind in fields.items():
        yield field, code(getattr(kind, "__forward_arg__", str(kind)))
    methods = {member: found for cls in reversed(own) for member, found in vars(cls).items() if member not in fields}
    for member, found in methods.items():
        if not member.startswith("_"):
            yield member, (inspect.getdoc(found) or "").partition("\n")[0]
