"""What look-ups open, and close again: the configuration, the history, the workload store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aios_eccos.locate import Config, load_config, locate

if TYPE_CHECKING:
    from aios_eccos.history.embed.embedding import Embedder
    from aios_eccos.history.history import History
    from aios_eccos.workload.store import WorkloadStore


def located(config: Path | None, aios_home: Path | None) -> Config:
    """The configuration that the command line names.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    return load_config(locate(config, aios_home))


@contextlib.contextmanager
def history_of(
    config: Config, embedder: Embedder | None = None, **bounds: Any
) -> Iterator[History]:
    """The configured history.

    Args:
        embedder: None = the configured one.
        bounds: what `open_history` takes besides.

    Raises:
        HistoryOwned: another process has it open.
        HistoryError: it cannot be opened.
    """
    from aios_eccos.history.open import open_embedder, open_history

    embedder = open_embedder(config.settings.embedder) if embedder is None else embedder
    state_dir = config.location.state_dir
    with contextlib.closing(
        open_history(config.settings.history, state_dir, embedder, **bounds)
    ) as history:
        yield history


@contextlib.contextmanager
def workload_of(config: Config, **how: Any) -> Iterator[WorkloadStore]:
    """The configured workload store, as one who looks on: no kernel.

    Args:
        how: what `open_workload` takes besides.

    Raises:
        WorkloadError: it cannot be reached.
    """
    from aios_eccos.workload.connect import open_workload

    settings, state_dir = config.settings, config.location.state_dir
    how = {"member": False} | how
    with contextlib.closing(
        open_workload(settings.redis, state_dir=state_dir, namespace=settings.namespace, **how)
    ) as workload:
        yield workload


def redis_runs(config: Config) -> bool:
    """Whether anyone keeps a workload; an embedded server is not started to ask it."""
    import sys

    if config.settings.redis != "embedded":
        return config.settings.redis != "memory"
    if sys.platform == "win32":
        return False
    from aios_eccos.workload.embedded import embedded_runs

    return embedded_runs(config.location.state_dir)
