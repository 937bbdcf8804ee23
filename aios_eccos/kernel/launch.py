"""AIOS's launcher, which may be the program itself, so it is looked for where it was loaded."""

from __future__ import annotations

import sys
from typing import Any

from aios_eccos.kernel.aios_types import LaunchModule

#: Modules under which AIOS's launcher runs: by itself, or imported by uvicorn.
LAUNCHERS = ("__main__", "runtime.launch")


def find_launch() -> LaunchModule | None:
    """AIOS's launcher, if this process runs it."""
    for name in LAUNCHERS:
        module: Any = sys.modules.get(name)
        if module is not None and hasattr(module, "app") and hasattr(module, "execute_request"):
            found: LaunchModule = module
            return found
    return None
