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

    from aios_eccos.config import Settings as Settings
    from aios_eccos.errors import EccosError as EccosError
    from aios_eccos.floor.floors import Floors as Floors
    from aios_eccos.locate import Config as Config
    from aios_eccos.locate import load_config as load_config
    from aios_eccos.serve.dispatch import Dispatcher as Dispatcher
    from aios_eccos.serve.engine import Engine as Engine
    from aios_eccos.serve.router import Router as Router
    from aios_eccos.values import Answer as Answer
    from aios_eccos.values import CallResult as CallResult
    from aios_eccos.values import Decision as Decision
    from aios_eccos.values import Failure as Failure
    from aios_eccos.values import Model as Model
    from aios_eccos.values import Outcome as Outcome
    from aios_eccos.values import Price as Price
    from aios_eccos.values import Query as Query
    from aios_eccos.values import Record as Record

__version__ = "0.1.0"

_NAMES = {
    "config": ("Settings",),
    "errors": ("EccosError",),
    "floor.floors": ("Floors",),
    "locate": ("Config", "load_config"),
    "records": ("Outcome", "Record"),
    "serve.dispatch": ("Dispatcher",),
    "serve.engine": ("Engine",),
    "serve.router": ("Router",),
    "values": ("Answer", "CallResult", "Decision", "Failure", "Model", "Price", "Query"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
