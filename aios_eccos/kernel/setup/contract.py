"""Whether AIOS and Cerebrum are as `points.yaml` lists them: names, parameters, fields.

`check` reads the sources (ast), so it needs no interpreter that can import AIOS.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from aios_eccos.config.yaml_text import load

#: Where Cerebrum's own generation of the SDK is told by.
SDK = "cerebrum/llm/apis.py"
_SCOPES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that must be as we know it; see `points.yaml`.

    The file is in AIOS's checkout, or in the package `cerebrum` when it begins with "cerebrum/".
    """

    file: str
    name: str
    kind: str
    wanted: tuple[str, ...]
    why: str


@cache
def points() -> tuple[Point, ...]:
    text = files("aios_eccos.kernel.setup").joinpath("points.yaml").read_text(encoding="utf-8")
    return tuple(
        Point(file, point.get("in", ""), kind, tuple(point[kind]), point["why"])
        for file, listed in load(text, "points.yaml").items()
        for point in listed
        for kind in _FOUND
        if kind in point
    )


def check(aios_home: Path, cerebrum_home: Path | None = None) -> list[str]:
    """What moved: one line per point that is not as we know it; empty when all hold.

    `cerebrum_home` holds the package `cerebrum`; None finds it on `sys.path`.
    """
    sdks = [cerebrum_home] if cerebrum_home is not None else sdk_homes()
    return [problem for point in points() for problem in _problems(point, aios_home, sdks)]


def _problems(point: Point, aios_home: Path, sdks: Sequence[Path]) -> Iterator[str]:
    where = f"{point.file}: {point.name}".removesuffix(": ")
    of_sdk = point.file.startswith("cerebrum/")
    places = [home / point.file for home in (sdks if of_sdk else [aios_home])]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        # The SDK may live where only the kernel's interpreter finds it.
        if not of_sdk or any((home / SDK).is_file() for home in sdks):
            yield f"{point.file}: no such file ({point.why})"
        return
    try:
        node = _find(ast.parse(path.read_text(encoding="utf-8")), point.name)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        yield f"{point.file}: cannot be read ({error})"
        return
    if node is None:
        yield f"{where}: is gone ({point.why})"
        return
    have = _FOUND[point.kind](node)
    if point.kind == "absent":
        clash = [value for value in point.wanted if value in have]
        yield from (f"{where}: has {value!r} of its own ({point.why})" for value in clash)
    elif lost := [name for name in point.wanted if name not in have]:
        yield f"{where}: lacks {', '.join(lost)} ({point.why})"


def sdk_homes() -> list[Path]:
    """Folders that hold a package `cerebrum`, on this interpreter's path."""
    spec = importlib.util.find_spec("cerebrum")
    return [Path(place).parent for place in (spec.submodule_search_locations or ())] if spec else []


def _find(node: Any, name: str) -> Any:
    """What has a dotted name in a module; None where there is no such class or function."""
    for part in filter(None, name.split(".")):
        named = (item for item in getattr(node, "body", ()) if isinstance(item, _SCOPES))
        node = next((item for item in named if item.name == part), None)
    return node


def _parameters(node: Any) -> set[str]:
    arguments = ast.walk(node.args) if hasattr(node, "args") else ()
    return {each.arg for each in arguments if isinstance(each, ast.arg)}


def _names(node: Any) -> set[str]:
    """Everything that a scope defines, imports or assigns, and what a class sets on itself."""
    found: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, _SCOPES):
            found.add(item.name)
        elif isinstance(item, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
            found.add(item.id)
        elif isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
            found.add(item.attr)
    return found


def _passed(node: Any) -> set[str]:
    """Every keyword that a method is called with, as "method(keyword=)"."""
    return {
        f"{item.func.attr}({keyword.arg}=)"
        for item in ast.walk(node)
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute)
        for keyword in item.keywords
    }


def _used(node: Any) -> set[str]:
    return {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}


def _values(node: Any) -> set[str]:
    constants = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
    return {value.lower() for value in constants if isinstance(value, str)}


_FOUND: dict[str, Callable[[Any], set[str]]] = {
    "call": _parameters,
    "names": _names,
    "uses": _used,
    "passes": _passed,
    "values": _values,
    "absent": _values,
}
