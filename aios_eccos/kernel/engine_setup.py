"""Opens the engine of a kernel, and swaps what a refresh changes."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from aios_eccos.errors import ConfigError, WorkloadError, escape_logs
from aios_eccos.kernel.aios_config import entries_of
from aios_eccos.kernel.repeats import said
from aios_eccos.locate import Config
from aios_eccos.serve.engine import Engine

log = logging.getLogger("aios_eccos.kernel.engine_setup")

#: Settings of what is opened at the start: stores, the embedder, the HTTP side's threads.
OPENED_ONCE = (
    "redis",
    "namespace",
    "lease_ttl_s",
    "history",
    "embedder",
    "store_text",
    "max_records",
    "max_age_days",
    "http_threads",
    "otel",
)


def of_adapter(config: Config, adapter: Any) -> Config:
    """The configuration of the models that AIOS could set up, those of Ollama included."""
    found = entries_of(config, adapter.llm_configs)
    lost = sorted({entry.name for entry in config.entries} - {entry.name for entry in found})
    if lost:
        log.warning("AIOS could not set up these models, so they serve no call: %s", lost)
    return replace(config, entries=found)


def open_engine(config: Config) -> Engine:
    """The engine of this process, started.

    On local limits where its Redis refuses us or is none, in a temporary folder where it can have
    no other: AIOS must start whatever there is.
    """
    escape_logs()
    local = replace(config, settings=config.settings.model_copy(update={"redis": "memory"}))
    try:
        engine = Engine(config, said=said)
    except (WorkloadError, ConfigError) as error:
        engine = Engine(local, said=said)
        engine.lacks.append(f"limits hold in this kernel only: {error}")
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="aios-eccos-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        location = replace(config.location, state_dir=folder)
        engine = Engine(replace(local, location=location), said=said)
        lacks = f"the state folder cannot be used: {error}; nothing is kept beyond this start"
        engine.lacks.append(lacks)
    for lacks in engine.lacks:
        log.error("%s", lacks)
    engine.start()
    return engine


def refresh(engine: Engine, config: Config) -> None:
    """Swap models, limits, floors and prices under a running engine.

    What names a store (Redis, history, embedder) is opened once and needs a restart.
    """
    before = engine.config.settings
    later = [key for key in OPENED_ONCE if getattr(before, key) != getattr(config.settings, key)]
    if later:
        log.warning("these settings take force with the next start: %s", ", ".join(later))
    engine.use(config)


def warm_up() -> None:
    """Import what the first calls would, which costs about a second."""
    importlib.import_module("scipy.optimize")
    importlib.import_module("httpx")
    set_aside()


def set_aside() -> None:
    """Take what the start has made out of the garbage collector's sight.

    AIOS's imports are more than a million objects: a full collection of them stopped every call
    for half a second.
    """
    gc.collect()
    gc.freeze()
