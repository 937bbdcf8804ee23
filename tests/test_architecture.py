"""The data path is one-directional: each part imports only what stands before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import aios_eccos

PACKAGE = Path(aios_eccos.__file__).parent

#: Part -> parts it may import, besides itself. `router` alone joins the stages.
MAY_IMPORT = {
    "values": set(),
    "errors": set(),
    "fairness": set(),
    "metrics": set(),
    "config": {"values", "errors"},
    "locate": {"config", "errors"},
    "manifest": {"config", "errors"},
    "history": {"values", "errors"},
    "predict": {"values", "errors", "history"},
    "optimize": {"values", "errors"},
    "workload": {"values", "errors"},
    "waiting": {"values"},
    "dispatch": {"values", "errors", "fairness", "waiting"},
    "policy": {"values", "config", "predict", "optimize"},
    "reason": {"values", "policy"},
    "shared_prices": {"values", "errors", "workload"},
    "assigning": {"values", "config", "policy", "optimize", "shared_prices", "workload"},
    "knowledge": {"predict"},
    "router": {
        "assigning",
        "knowledge",
        "shared_prices",
        "policy",
        "reason",
        "values",
        "errors",
        "config",
        "history",
        "predict",
        "optimize",
        "workload",
    },
}
MAY_IMPORT["study"] = {"values", "errors", "config", "history", "predict", "knowledge"}
STAGES = {*MAY_IMPORT, "engine"}
MAY_IMPORT["engine"] = set(MAY_IMPORT)
for top in ("observe", "evaluate", "collect", "kernel"):
    MAY_IMPORT[top] = STAGES | {"observe"}
MAY_IMPORT["collect"] |= {"evaluate"}
MAY_IMPORT["kernel"] |= {"collect"}
MAY_IMPORT["cli"] = set(MAY_IMPORT)

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


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


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


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_part_imports_only_what_stands_before_it(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    package = ["aios_eccos", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = {n.split(".")[1] for n in imported(tree, package) if n.startswith("aios_eccos.")}
    ours -= {"__version__", part}
    assert part in MAY_IMPORT, f"{part} has no place in the order of imports"
    assert ours <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = ast.Module(
        body=[n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    names = {name.split(".")[0] for name in imported(top, [])}
    assert not names & HEAVY
