"""Patches one module of AIOS right after its import, for the comparison alone.

The folders `opponent` and `smart` go first on one kernel's PYTHONPATH; their `sitecustomize` calls
this.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Finder(importlib.abc.MetaPathFinder):
    """Finds `target` through the other finders, and has `patch` run after its own code."""

    def __init__(self, target: str, patch: Callable[[Any], None]) -> None:
        self._target, self._patch = target, patch

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real spec with `patch` behind its loader; None for all other modules."""
        if name != self._target:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def after_import(target: str, patch: Callable[[Any], None]) -> None:
    """Run `patch` on the module `target` when it has been imported."""
    sys.meta_path.insert(0, Finder(target, patch))
