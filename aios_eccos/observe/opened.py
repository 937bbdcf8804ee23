"""What look-ups open, and close again: the configuration, the history, the workload store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aios_eccos.errors import HistoryError, HistoryOwned
from aios_eccos.locate import Config, load_config, locate

if TYPE_CHECKING:
    from aios_eccos.history.embed.embedding import Embedder
    from aios_eccos.history.history import History
    from aios_eccos.workload.store import WorkloadStore


def located(config: Path | None, aios_home: Path | None) -> Config:
    """The configuration that the command line names; `ConfigError` where it is wrong."""
    return load_config(locate(config, aios_home))


@contextlib.contextmanager
def history_of(
    config: Config, embedder: Embedder | None = None, **bounds: Any
) -> Iterator[History]:
    """The configured history, of the configured embedder if none is given.

    Raises:
        HistoryOwned: another process has it open.
        HistoryError: it cannot be opened.
    """
    from aios_eccos.history.open import EMBEDDED, FOLDER, open_embedder, open_history

    settings, state_dir = config.settings, config.location.state_dir
    embedder = open_embedder(settings.embedder) if embedder is None else embedder
    try:
        with contextlib.closing(
            open_history(settings.history, state_dir, embedder, **bounds)
        ) as history:
            yield history
    except HistoryError as error:
        place = str(state_dir / FOLDER)
        owned = isinstance(error, HistoryOwned)  # who catches it goes on without the history
        if owned or settings.history != EMBEDDED or place in str(error):
            raise
        raise HistoryError(f"{error}; it lies in {place}") from error


@contextlib.contextmanager
def workload_of(config: Config, member: bool = False, **how: Any) -> Iterator[WorkloadStore]:
    """The configured workload store; `WorkloadError` where it cannot be reached.

    Args:
        member: whether this process declares limits, as a kernel does; else it looks on.
    """
    from aios_eccos.workload.connect import open_workload

    settings, folder = config.settings, config.location.state_dir
    workload = open_workload(
        settings.redis, state_dir=folder, namespace=settings.namespace, member=member, **how
    )
    with contextlib.closing(workload):
        yield workload


def redis_runs(config: Config) -> bool:
    """Whether anyone keeps a workload; an embedded server is not started to ask it."""
    if config.settings.redis != "embedded":
        return config.settings.redis != "memory"
    if sys.platform == "win32":
        return False
    from aios_eccos.workload.embedded import embedded_runs

    return embedded_runs(config.location.state_dir)
