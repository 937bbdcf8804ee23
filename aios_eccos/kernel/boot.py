"""What a `.pth` line loads into every Python of AIOS's environment: one finder, nothing more.

It must stay cheap and mute, as pip, the terminal and AIOS's tool server run it too: it imports
nothing but `sys` and `os`. `AIOS_ECCOS=off` in the environment switches it off.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

#: The kernel's modules that `hook` patches, each right after its own code has run.
TARGETS = frozenset(
    {
        "aios.llm_core.adapter",
        "aios.scheduler.fifo_scheduler",
        "aios.scheduler.rr_scheduler",
        "aios.syscall.syscall",
        "aios.tool.manager",
    }
)


class Finder:
    """Finds the kernel's modules through the other finders, and wraps their loaders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real spec with our loader around its own, for `TARGETS`; None for all others."""
        if name not in TARGETS:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class Loader:
    """A module's own loader, which may serve others too and take no change; then the patch."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def exec_module(self, module: ModuleType) -> None:
        """A fault of ours costs one line, never the kernel's import."""
        self._inner.exec_module(module)
        try:
            from aios_eccos.kernel import hook

            hook.patch(module)
        except Exception as error:  # noqa: BLE001 - a broken plugin must not keep AIOS from starting
            sys.stderr.write(f"aios-eccos: not loaded: {type(error).__name__}: {error}\n")


def install() -> None:
    """Put the finder first, once, unless it is switched off."""
    present = any(isinstance(finder, Finder) for finder in sys.meta_path)
    if os.environ.get("AIOS_ECCOS", "").lower() != "off" and not present:
        sys.meta_path.insert(0, Finder())


install()
