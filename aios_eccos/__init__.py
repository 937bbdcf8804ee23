"""aios-eccos: least-cost LLM routing under a quality floor, as a plugin for the AIOS kernel.

The names below are what other programs may use. Each is imported when it is first asked for, so
that importing the package costs nothing.
"""

from __future__ import annotations

import importlib

# `typing` takes 5 ms, which every interpreter with the hook would pay; mypy takes this for true.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aios_eccos.config import Settings
    from aios_eccos.errors import EccosError
    from aios_eccos.floor.floors import Floors
    from aios_eccos.locate import Config, load_config
    from aios_eccos.records import Outcome, Record
    from aios_eccos.serve.dispatch import Dispatcher
    from aios_eccos.serve.engine import Engine
    from aios_eccos.serve.router import Router
    from aios_eccos.values import Answer, CallResult, Decision, Failure, Model, Price, Query

__version__ = "0.1.0"

_HOMES = {
    "Answer": "values",
    "CallResult": "values",
    "Config": "locate",
    "Decision": "values",
    "Dispatcher": "serve.dispatch",
    "EccosError": "errors",
    "Engine": "serve.engine",
    "Failure": "values",
    "Floors": "floor.floors",
    "Model": "values",
    "Outcome": "records",
    "Price": "values",
    "Query": "values",
    "Record": "records",
    "Router": "serve.router",
    "Settings": "config",
    "load_config": "locate",
}
__all__ = [
    "Answer",
    "CallResult",
    "Config",
    "Decision",
    "Dispatcher",
    "EccosError",
    "Engine",
    "Failure",
    "Floors",
    "Model",
    "Outcome",
    "Price",
    "Query",
    "Record",
    "Router",
    "Settings",
    "__version__",
    "load_config",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
