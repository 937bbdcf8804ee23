"""The finder that every Python of AIOS's environment has."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType

import pytest

from aios_eccos.kernel import boot, hook


class Plain:
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.ran = True  # type: ignore[attr-defined]


class Fixed(Plain):
    """As one that is written in C: it takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is read-only")


@pytest.mark.parametrize("kind", [Plain, Fixed])
def test_a_module_is_patched_once_whatever_loads_it(
    monkeypatch: pytest.MonkeyPatch, kind: type[Plain]
) -> None:
    loader, patched = kind(), list[str]()

    class Finds:
        def find_spec(self, name: str, path: object, target: object) -> ModuleSpec:
            return ModuleSpec(name, loader)  # type: ignore[arg-type]

    monkeypatch.setattr(hook, "patch", lambda module: patched.append(module.__name__))
    finder = boot.Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, Finds()])
    for name in sorted(boot.TARGETS):
        finder.find_spec(name)  # somebody only looks whether it is there
        spec = finder.find_spec(name)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.ran
    assert patched == sorted(boot.TARGETS)
    assert finder.find_spec("aios.other") is None
