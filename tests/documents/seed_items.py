"""What the pages of LangChain's documentation that this package began with use: classes, parameters, methods.

`seeds/*.py.txt` holds their programs without the prose, `seeds/features.txt` what their tables and texts name beside.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent / "seeds"
PYTHON = {*dir(builtins), *sys.stdlib_module_names}


def items() -> set[str]:
    """All of them."""
    programs = [ast.parse(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.py.txt")]
    return features().union(*map(items_of, programs))


def features() -> set[str]:
    """What is no code."""
    return set(FOLDER.joinpath("features.txt").read_text(encoding="utf-8").splitlines())


def items_of(program: ast.Module) -> Iterator[str]:
    """Each as the table writes it: `Class`, `Class(parameter)`, `Class(outer.inner)`, `name.method()`, `name.value`."""
    called = set()
    for node in ast.walk(program):  # a call comes before what is called
        match node:
            case ast.ImportFrom(names=names):
                yield from (alias.name for alias in names)
            case ast.Call(func=func, keywords=keywords) if (name := _name(func)) is not None:
                called.add(func)
                yield name if isinstance(func, ast.Name) else f"{name}()"
                yield from (f"{name}({parameter})" for keyword in keywords for parameter in _parameters(keyword))
            case ast.Attribute() if node not in called and (name := _name(node)) is not None:
                yield name


def _name(node: ast.expr) -> str | None:
    """A dotted name, unless it is Python's own."""
    match node:
        case ast.Name(id=name):
            return None if name in PYTHON else name
        case ast.Attribute(value=ast.Name() as value, attr=attribute):
            name = _name(value)
            return None if name is None else f"{name}.{attribute}"
    return None


def _parameters(keyword: ast.keyword) -> Iterator[str]:
    yield str(keyword.arg)
    match keyword.value:
        case ast.Call(func=ast.Name(id="dict"), keywords=inner):
            yield from (f"{keyword.arg}.{one.arg}" for one in inner)
        case ast.Dict(keys=keys):
            yield from (f"{keyword.arg}.{key.value}" for key in keys if isinstance(key, ast.Constant))
