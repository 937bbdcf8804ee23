"""Whether AIOS and Cerebrum are as `points.yaml` lists them: names, parameters, fields.

`check` reads the sources (ast), so it needs no interpreter that can import AIOS, takes
milliseconds, and runs before anything is installed.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from aios_eccos.config.yaml_text import load

#: Where Cerebrum's own generation of the SDK is told by.
SDK = "cerebrum/llm/apis.py"


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that must be as we know it.

    Attributes:
        file: in AIOS's checkout, or in the package `cerebrum` when it begins with "cerebrum/".
        name: dotted name within the file; "" for the file's top level.
        kind: what `wanted` lists; see `points.yaml`.
        why: what breaks without it.
    """

    file: str
    name: str
    kind: str
    wanted: tuple[str, ...]
    why: str


@cache
def points() -> tuple[Point, ...]:
    """Everything that the plugin relies on."""
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

    Args:
        aios_home: AIOS's checkout.
        cerebrum_home: folder that holds the package `cerebrum`; None finds it on `sys.path`.
    """
    return [problem for point in points() for problem in _problems(point, aios_home, cerebrum_home)]


def _problems(point: Point, aios_home: Path, cerebrum_home: Path | None) -> Iterator[str]:
    path = _locate(point.file, aios_home, cerebrum_home)
    where = f"{point.file}: {point.name}".removesuffix(": ")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8")) if path is not None else None
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        yield f"{point.file}: cannot be read ({error})"
        return
    if tree is None:
        # The SDK may live where only the kernel's interpreter finds it.
        if not point.file.startswith("cerebrum/") or _locate(SDK, aios_home, cerebrum_home):
            yield f"{point.file}: no such file ({point.why})"
        return
    node = _find(tree, point.name)
    if node is None:
        yield f"{where}: is gone ({point.why})"
        return
    have = _FOUND[point.kind](node)
    if point.kind == "absent":
        clash = [value for value in point.wanted if value in have]
        yield from (f"{where}: has {value!r} of its own ({point.why})" for value in clash)
        return
    lost = [name for name in point.wanted if name not in have]
    if lost:
        yield f"{where}: lacks {', '.join(lost)} ({point.why})"


def _locate(file: str, aios_home: Path, cerebrum_home: Path | None) -> Path | None:
    if not file.startswith("cerebrum/"):
        path = aios_home / file
        return path if path.is_file() else None
    homes = [cerebrum_home] if cerebrum_home is not None else sdk_homes()
    return next((home / file for home in homes if (home / file).is_file()), None)


def sdk_homes() -> list[Path]:
    """Folders that hold a package `cerebrum`, on this interpreter's path."""
    spec = importlib.util.find_spec("cerebrum")
    return [Path(place).parent for place in (spec.submodule_search_locations or ())] if spec else []


def _find(tree: ast.Module, name: str) -> ast.AST | None:
    node: ast.AST | None = tree
    for part in filter(None, name.split(".")):
        body: Sequence[ast.stmt] = getattr(node, "body", ())
        node = next(
            (
                item
                for item in body
                if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and item.name == part
            ),
            None,
        )
    return node


def _parameters(node: ast.AST) -> set[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg for argument in every}


def _names(node: ast.AST) -> set[str]:
    """Everything that a scope defines, imports or assigns, and what a class sets on itself."""
    found: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(item.name)
        elif isinstance(item, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
            found.add(item.id)
        elif isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store):
            found.add(item.attr)
    return found


def _passed(node: ast.AST) -> set[str]:
    """Every keyword that a method is called with, as "method(keyword=)"."""
    return {
        f"{item.func.attr}({keyword.arg}=)"
        for item in ast.walk(node)
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute)
        for keyword in item.keywords
    }


def _used(node: ast.AST) -> set[str]:
    return {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}


def _values(node: ast.AST) -> set[str]:
    constants = (item.value for item in ast.walk(node) if isinstance(item, ast.Constant))
    return {value.lower() for value in constants if isinstance(value, str)}


_FOUND: dict[str, Callable[[ast.AST], set[str]]] = {
    "call": _parameters,
    "fields": _names,
    "names": _names,
    "uses": _used,
    "passes": _passed,
    "values": _values,
    "absent": _values,
}
