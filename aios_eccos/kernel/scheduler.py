"""AIOS's scheduler, as a subclass: LLM calls go to `Serving`, each other one is an `Operation`.

And `Process`: what of ours lives as long as this process of AIOS, whatever a refresh replaces.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import Empty
from typing import Any

from aios_eccos.errors import raised
from aios_eccos.kernel.aios_config import wanted
from aios_eccos.kernel.calls import Syscall, fault_of, settle
from aios_eccos.kernel.engine_setup import open_engine
from aios_eccos.kernel.operations import Operation
from aios_eccos.kernel.serving import ENDING, Serving
from aios_eccos.kernel.toolserver import ToolServers
from aios_eccos.kernel.workers import Broadcast
from aios_eccos.values import Failure

log = logging.getLogger("aios_eccos.kernel.scheduler")

#: Seconds that a superseded scheduler's threads get to notice; they look ten times a second.
HANDOVER_S = 2.0
CLEANED = Failure("the kernel was cleaned up; POST /core/refresh starts it again", 503, False)
_Stock: Any = object


class Process:
    """Made once, by `hook`, and handed to everything of ours in the kernel.

    Attributes:
        scheduler: the one in force; every refresh makes another.
        schedulers: those of ours that still exist; one of them is active.
        stock_schedulers: AIOS's own, made while another strategy was in force.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.serving = Serving(open_engine)
        self.broadcast = Broadcast(state_dir)
        self.tool_servers = ToolServers()
        self.scheduler: EccosScheduler | None = None
        self.schedulers: weakref.WeakSet[EccosScheduler] = weakref.WeakSet()
        self.stock_schedulers: list[Any] = []
        self._switch = threading.Lock()

    def take_over(self, scheduler: EccosScheduler) -> None:
        """Put a scheduler in force and end the one before."""
        with self._switch:
            before, self.scheduler = self.scheduler, scheduler
        if before is not None:
            before.retire(scheduler)

    def end(self) -> None:
        """End everything of ours, and the tool server, which AIOS leaves running."""
        try:
            self.serving.close()
            if self.scheduler is not None:
                self.scheduler.retire(None)
        finally:
            self.tool_servers.end()


class EccosScheduler(_Stock):  # type: ignore[misc]
    """Mixed into AIOS's FIFOScheduler by `over`, which is put in the place of both schedulers."""

    #: What outlives this scheduler; set by `over`.
    eccos: Process

    def __init__(self, *args: Any, time_slice: float | None = None, **kwargs: Any) -> None:
        # time_slice is the round-robin scheduler's; calls are not interrupted here.
        super().__init__(*args, **kwargs)
        #: Whether calls are served; after a clean-up they are refused.
        self.serves = False
        self.eccos.schedulers.add(self)

    def start(self) -> None:
        """Take over from the scheduler before, if any, and serve."""
        self.eccos.serving.use(self.llm, self.llm.eccos_config)
        # Before the other steps back: a call in between must find one that serves.
        self.active = self.serves = True
        self.eccos.take_over(self)
        while self.eccos.stock_schedulers:
            # AIOS leaves it on the queues, where it would take every other call.
            own = self.eccos.stock_schedulers.pop()
            own.active = False
            # It sleeps a second before it looks at that, then takes whatever waits.
            own.get_llm_syscall = _nothing
            threading.Thread(target=_clean, args=(own, self), daemon=True).start()
        self.eccos.tool_servers.keep(getattr(self.tool_manager, "mcp_server_process", None))
        for work in (
            self.process_llm_requests,
            self.process_memory_requests,
            self.process_storage_requests,
            self.process_tool_requests,
        ):
            thread = threading.Thread(target=work, name=f"eccos-{work.__name__}", daemon=True)
            thread.start()  # first: who retires this scheduler meanwhile joins those that run
            self.processing_threads[work.__name__] = thread

    def stop(self) -> None:
        """Refuse calls from now on. The queues stay read: nobody may wait in them for ever."""
        self.serves = False

    def retire(self, successor: EccosScheduler | None) -> None:
        """End the threads; the successor's are reading already or about to."""
        self.serves = False
        self.active = False
        end = time.monotonic() + HANDOVER_S
        for thread in [*self.processing_threads.values()]:
            thread.join(max(end - time.monotonic(), 0.0))
        self.processing_threads.clear()
        threading.Thread(target=_clean, args=(self, successor), daemon=True).start()

    def process_llm_requests(self) -> None:
        """Hand every LLM call to `Serving` as it comes."""
        while self.active:
            try:
                syscall: Syscall = self.get_llm_syscall()
            except Empty:
                continue
            try:
                if self._open():
                    self.eccos.serving.serve(syscall)
                else:
                    self.eccos.serving.refuse(syscall, CLEANED)
            except Exception as error:  # noqa: BLE001 - one call's fault must not reach the calls behind it
                log.error("an LLM call could not be taken up: %s", raised(error))
                self.eccos.serving.refuse(syscall, fault_of(error))

    def _execute_syscall(
        self, syscall: Syscall, executor: Callable[[Syscall], Any], syscall_type: str
    ) -> None:
        """Run a memory, storage or tool call beside the others, with an end."""
        error = partial(_error, syscall_type)
        ended = self.eccos.serving.engine is None
        if self._open() and not ended:
            Operation(syscall_type, syscall, executor, error, self.eccos.serving).start()
        else:
            settle(syscall, error((ENDING if ended else CLEANED).reason, 503))

    def _open(self) -> bool:
        """Whether calls are served: by this scheduler, or by the one that has taken over."""
        current = self.eccos.scheduler
        return self.serves or (current is not None and current.serves)


def over(fifo: Any, stock: Any, process: Process, attach: Callable[[Process, Any], None]) -> Any:
    """Our scheduler over AIOS's FIFO, in the place of `stock`; `attach` follows each start."""

    class EccosAIOSScheduler(EccosScheduler, fifo):  # type: ignore[misc]
        eccos = process
        eccos_stock = fifo

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if wanted():
                return object.__new__(cls)
            if process.scheduler is not None:
                process.scheduler.retire(None)
            own = stock(*args, **kwargs)
            process.stock_schedulers.append(own)
            return own

        def start(self) -> None:
            super().start()
            attach(process, self)

    return EccosAIOSScheduler


def _error(syscall_type: str, text: str, status: int) -> Any:
    # Each response class of the SDK takes what it knows of these and ignores the rest.
    module = import_module(f"cerebrum.{syscall_type.lower()}.apis")
    make = getattr(module, f"{syscall_type}Response")
    return make(error=text, finished=True, success=False, status_code=status)


def _nothing() -> Any:
    """In the place of a queue's getter: nothing waits."""
    raise Empty


def _clean(before: Any, successor: Any) -> None:
    """End what AIOS leaves running at every refresh: its tool server, its folder's watcher."""
    tools, files = before.tool_manager, before.storage_manager
    watcher = getattr(getattr(files, "filesystem", None), "observer", None)
    try:
        if tools is not getattr(successor, "tool_manager", None):
            tools.cleanup()
        if watcher is not None and files is not getattr(successor, "storage_manager", None):
            watcher.stop()
    except Exception as error:  # noqa: BLE001 - AIOS's; a failure leaves a process
        log.error("what AIOS had before the refresh was not cleaned up: %s", raised(error))
