"""What lives as long as this process of AIOS, whatever a refresh replaces."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any, Protocol

from aios_eccos.kernel.engine_setup import open_engine
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.toolserver import ToolServers
from aios_eccos.kernel.workers import Broadcast


class Scheduler(Protocol):
    """As much of a scheduler of ours as its process uses."""

    llm: Any
    active: bool
    serves: bool

    def retire(self, successor: Any) -> None: ...


class Process:
    """Made once, by `hook`, and handed to everything of ours in the kernel.

    Args:
        state_dir: the checkout's state folder.

    Attributes:
        serving: serves the LLM calls.
        broadcast: how workers of one checkout hear of each other. Made before anything is read
            that another worker may have been told to read anew.
        tool_servers: AIOS's tool servers that this process has started.
        schedulers: those of ours that still exist; one of them is active.
        stock_schedulers: AIOS's own, made while another strategy was in force.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.serving = Serving(open_engine)
        self.broadcast = Broadcast(state_dir)
        self.tool_servers = ToolServers()
        self.schedulers: weakref.WeakSet[Any] = weakref.WeakSet()
        self.stock_schedulers: list[Any] = []
        self._scheduler: Scheduler | None = None
        self._switch = threading.Lock()

    @property
    def scheduler(self) -> Scheduler | None:
        """The scheduler in force; every refresh makes another."""
        return self._scheduler

    def take_over(self, scheduler: Scheduler) -> None:
        """Put a scheduler in force and end the one before."""
        with self._switch:
            before, self._scheduler = self._scheduler, scheduler
        if before is not None:
            before.retire(scheduler)

    def end(self) -> None:
        """End everything of ours, and the tool server, which AIOS leaves running."""
        self.serving.close()
        if self._scheduler is not None:
            self._scheduler.retire(None)
        self.tool_servers.end()
