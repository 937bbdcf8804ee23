"""AIOS as this process has it: its launcher, its configuration, and our settings in that.

`hook` reads it in every AIOS process, so the libraries that validate it are imported when used.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aios_eccos.config import ModelEntry
    from aios_eccos.locate import Config

STRATEGY = "eccos"
#: What AIOS's base class is told in place of ours; its router then serves as the fallback.
STOCK_STRATEGY = "sequential"
STOCK_STRATEGIES = (STOCK_STRATEGY, "smart")
#: What AIOS takes for mappings as it reads them, and fails on where they are none.
SECTIONS = frozenset(
    ("api_keys", "llms", "memory", "storage", "tool", "scheduler", "agent_factory", "server")
)
#: Why the plugin cannot serve in this process, if it cannot; AIOS then serves by its own strategy.
faults: list[str] = []
#: Modules under which AIOS's launcher runs: by itself, or imported by uvicorn.
LAUNCHERS = ("__main__", "runtime.launch")


def find_launch() -> Any:
    """AIOS's module `runtime/launch.py`, if this process runs it, else None."""
    for name in LAUNCHERS:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "app") and hasattr(module, "execute_request"):
            return module
    return None


def wanted() -> bool:
    """Whether the plugin is asked for now, and can serve."""
    return not faults and asked_for()


def asked_for() -> bool:
    """Whether AIOS's configuration (or `aios-eccos run`) asks for the plugin now."""
    return forced() or router_config().get("strategy") == STRATEGY


def forced() -> bool:
    """Whether `aios-eccos run` started this process, which needs no strategy in the file."""
    return os.environ.get("AIOS_ECCOS", "").lower() == "run"


def config_path() -> str:
    return str(manager().config_path)


def aios_home() -> Path:
    """AIOS's checkout; the file in it may be a link to somewhere else."""
    return Path(config_path()).parent.resolve().parents[1]


def read_config(llm_configs: list[dict[str, Any]] | None = None) -> Config:
    """The configuration in force in this process, validated; see `config.parse_settings`.

    `llm_configs` are the models as AIOS hands them to its adapter; None reads its configuration.
    """
    from aios_eccos.config import parse_config
    from aios_eccos.locate import Config, Location, state_dir_of

    home, path = aios_home(), Path(config_path())
    models = manager().get_llms_config().get("models") if llm_configs is None else llm_configs
    settings, entries = parse_config(router_config().get("eccos"), models)
    location = Location(home, path, state_dir_of(home), "the running kernel")
    config = Config(location, settings, entries, STRATEGY)
    _check_caps(config)
    return config


def check_file() -> None:
    """Validate the configuration file before AIOS takes anything down for it."""
    from aios_eccos.config import parse_config
    from aios_eccos.config.checks import shown
    from aios_eccos.errors import ConfigError
    from aios_eccos.locate import Config, Location, mapping_of, read_yaml, state_dir_of

    home, path = aios_home(), Path(config_path())
    raw = read_yaml(path)
    if not raw:
        raise ConfigError(f"{path}: it is empty")
    for name in SECTIONS & raw.keys():
        if not isinstance(raw[name], Mapping):
            raise ConfigError(f"{name}: wanted a mapping, found {type(raw[name]).__name__}")
    llms = mapping_of(raw.get("llms"), "llms")
    router = mapping_of(llms.get("router"), "llms.router")
    strategy = STRATEGY if forced() else router.get("strategy", STOCK_STRATEGY)
    if strategy not in (STRATEGY, *STOCK_STRATEGIES):
        found, known = shown(strategy), " and ".join(STOCK_STRATEGIES)
        raise ConfigError(f"llms.router.strategy = {found}: allowed: {STRATEGY}, or AIOS's {known}")
    if not llms.get("models"):
        raise ConfigError("llms.models: wanted a list with at least one model")
    if strategy == STRATEGY:
        settings, entries = parse_config(router.get("eccos"), llms.get("models"))
        location = Location(home, path, state_dir_of(home), "the file")
        _check_caps(Config(location, settings, entries, STRATEGY))


def _check_caps(config: Config) -> None:
    """Refuse caps on money that models count against whose price is not known."""
    if not config.settings.all_caps(0.0):
        return
    from aios_eccos.errors import ConfigError
    from aios_eccos.floor.configured import unpriced_cap
    from aios_eccos.forecast.pricing import configured_models

    fault = unpriced_cap(config.settings, configured_models(config))
    if fault is not None:
        raise ConfigError(fault)


def entries_of(config: Config, llm_configs: Sequence[Any]) -> tuple[ModelEntry, ...]:
    """The entries of the models that an adapter has set up, those of Ollama that it found included.

    `config` is what it was made with; `llm_configs` its models, as AIOS keeps them.
    """
    from aios_eccos.config import ModelEntry

    by_name = {entry.name: entry for entry in config.entries}
    return tuple(
        by_name.get(model.name)
        or ModelEntry(name=model.name, backend=model.backend or "", hostname=model.hostname)
        for model in llm_configs
    )


class ConfigView:
    """AIOS's configuration as its LLMAdapter sees it: with a strategy that it knows."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_router_config(self) -> dict[str, Any]:
        """AIOS's settings of its router, with a strategy of its own where ours is set."""
        router = dict(self._real.get_router_config() or {})
        if asked_for():
            router["strategy"] = STOCK_STRATEGY
        return router


def manager() -> Any:
    """Whatever reads AIOS's configuration file: its `config` is what it has read last."""
    return importlib.import_module("aios.config.config_manager").config


def router_config() -> dict[str, Any]:
    """AIOS's settings of its router, as this process has them."""
    return manager().get_router_config() or {}
