"""The data path has one direction: a module imports only what stands before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import aios_eccos

PACKAGE = Path(aios_eccos.__file__).parent

#: Parts in the order of the data path: a module imports its own part and those before it. A folder
#: or a module inside a part may have a place of its own.
ORDER = (
    "errors",
    "records",
    "values",
    "files",
    "metrics",
    "config",
    "manifest",
    "locate",
    "workload",
    "history",
    "providers",
    "decide.rule",
    "forecast",
    "observe.trace",
    "floor",
    "decide",
    "observe.sums",
    "collect.extract",
    "collect.numbers",
    "collect.choices",
    "collect.maths",
    "verdicts",
    "serve",
    "observe",
    "collect",
    "kernel",
    "lab",
    "cli",
    "lab.commands",
)
#: Imports against that order, each to be ended by the change that moves what is asked for.
AGAINST: set[tuple[str, str]] = set()
#: Modules that import each other in a circle as yet.
CIRCLES: set[tuple[str, ...]] = set()

#: Libraries that cost more than 50 ms to import; a command that needs none of them stays fast.
HEAVY = {
    "chromadb",
    "litellm",
    "matplotlib",
    "safetensors",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST, package: list[str]) -> set[str]:
    """Absolute dotted names of everything that a module imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{prefix}.{alias.name}" for alias in node.names}
    return names


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, wherever it does so, TYPE_CHECKING included."""
    names = {name_of(path): path for path in modules() if path.stem != "__init__"}
    edges: dict[str, set[str]] = {}
    for name, path in names.items():
        package = ["aios_eccos", *path.relative_to(PACKAGE).parts[:-1]]
        found = imported(ast.parse(path.read_text(encoding="utf-8")), package)
        ours = {n.removeprefix("aios_eccos.") for n in found if n.startswith("aios_eccos.")}
        ours |= {n.rpartition(".")[0] for n in ours}
        edges[name] = (ours & set(names)) - {name}
    return edges


EDGES = graph()


def place(name: str) -> int:
    """Where the module stands in ORDER: by the longest part that it lies in."""
    parts = [part for part in ORDER if f"{name}.".startswith(f"{part}.")]
    assert parts, f"{name} has no place in the order of imports"
    return ORDER.index(max(parts, key=len))


@pytest.mark.parametrize("name", sorted(EDGES))
def test_a_module_imports_only_what_stands_before_it(name: str) -> None:
    against = {other for other in EDGES[name] if place(other) > place(name)}
    assert against == {other for mine, other in AGAINST if mine == name}


def test_no_modules_import_each_other_in_a_circle() -> None:
    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [*EDGES[start]]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += EDGES[name]
        return seen

    reach = {name: reached(name) for name in EDGES}
    circles = {
        tuple(sorted(other for other in EDGES if other in reach[name] and name in reach[other]))
        for name in EDGES
        if name in reach[name]
    }
    assert circles == CIRCLES


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = ast.Module(
        body=[n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    names = {name.split(".")[0] for name in imported(top, [])}
    assert not names & HEAVY
