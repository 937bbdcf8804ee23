"""What is patched in AIOS, when, and on what condition. `boot` calls `patch` after each module.

Nothing is patched unless the strategy is `eccos` (or `aios-eccos run` asked for it) at that time,
so any other strategy leaves AIOS as it was. Later imports of the patched names see ours.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aios_eccos.kernel.aios_config import (
    STOCK_STRATEGY,
    ConfigView,
    aios_home,
    asked_for,
    faults,
    read_config,
    wanted,
)

if TYPE_CHECKING:
    from aios_eccos.kernel.scheduler import Process

log = logging.getLogger("aios_eccos.kernel.hook")


def patch(module: ModuleType) -> None:
    """Patch one of AIOS's modules, right after its code has run.

    With the plugin wanted but its settings not valid, or a module not as it is known, AIOS serves
    with its own strategy and one line on standard error says why. What was patched before then acts
    as AIOS's own.
    """
    if not asked_for():
        return
    if module.__name__ == "aios.llm_core.adapter":
        module.config = ConfigView(module.config)  # type: ignore[attr-defined]
    if not faults:
        try:
            _make_ready()
            _PATCHES[module.__name__](module)
        except Exception as error:  # noqa: BLE001 - a broken plugin must not keep AIOS from starting
            _give_up(error)


@cache
def _make_ready() -> None:
    """Look at the settings, and import all of it: half a plugin would be worse than none."""
    read_config()
    importlib.import_module("aios_eccos.kernel.http")


def _give_up(error: Exception) -> None:
    ours = type(error).__module__ == "aios_eccos.errors"
    found = str(error) if ours else f"{type(error).__name__}: {error}"
    faults.append(found)
    sys.stderr.write(
        f"aios-eccos: {found}\naios-eccos: not in force; AIOS serves with its own "
        f"strategy {STOCK_STRATEGY!r}, private agents too, until this is mended and the kernel "
        "restarted\n"
    )


@cache
def process() -> Process:
    """What of ours lives as long as this process."""
    from aios_eccos.kernel.scheduler import Process
    from aios_eccos.locate import state_dir_of

    return Process(state_dir_of(aios_home()))


def _patch_adapter(module: Any) -> None:
    from aios_eccos.kernel import adapter

    module.LLMAdapter = adapter.over(module.LLMAdapter, module.LLMResponse)


def _patch_scheduler(module: Any) -> None:
    from aios_eccos.kernel import http, scheduler

    fifo = importlib.import_module("aios.scheduler.fifo_scheduler").FIFOScheduler
    name = "RRScheduler" if module.__name__ == "aios.scheduler.rr_scheduler" else "FIFOScheduler"
    stock, base = getattr(module, name), getattr(fifo, "eccos_stock", fifo)
    setattr(module, name, scheduler.over(base, stock, process(), http.attach))


def _patch_executor(module: Any) -> None:
    from aios_eccos.kernel import executor

    stock = module.SyscallExecutor
    module.SyscallExecutor = executor.over(stock, process(), module.LLMResponse)


def _patch_tools(module: Any) -> None:
    stock = module.ToolManager
    start = stock._start_mcp_server

    def _start_mcp_server(self: Any) -> None:
        start(self)
        server = self.mcp_server_process
        if server is None or not wanted():
            return
        try:
            process().tool_servers.add(process().state_dir, server)
        except OSError as error:  # then a kill leaves it running, no more
            log.warning("AIOS's tool server could not be noted: %s", error)

    stock._start_mcp_server = _start_mcp_server


_PATCHES: dict[str, Callable[[Any], None]] = {
    "aios.llm_core.adapter": _patch_adapter,
    "aios.scheduler.fifo_scheduler": _patch_scheduler,
    "aios.scheduler.rr_scheduler": _patch_scheduler,
    "aios.syscall.syscall": _patch_executor,
    "aios.tool.manager": _patch_tools,
}
