"""The kernel's objects as this folder sees them; `points.yaml` lists what they must have."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

#: Modules under which AIOS's launcher runs: by itself, or imported by uvicorn.
LAUNCHERS = ("__main__", "runtime.launch")


class Syscall(Protocol):
    """A call of an agent that waits in one of the kernel's queues."""

    agent_name: str
    query: Any
    event: Any

    def set_status(self, status: str) -> None: ...
    def set_response(self, response: Any) -> None: ...
    def set_start_time(self, time: float) -> None: ...
    def set_end_time(self, time: float) -> None: ...
    def get_start_time(self) -> float | None: ...


def settle(syscall: Syscall, response: Any) -> None:
    """End a kernel's call: as `done`, whatever the response says, and the event last.

    Any other status makes AIOS submit the call again; an event that comes first lets the agent
    read a call that is half ended.
    """
    now = time.time()
    if syscall.get_start_time() is None:
        syscall.set_start_time(now)
    syscall.set_response(response)
    syscall.set_end_time(now)
    syscall.set_status("done")
    syscall.event.set()


def find_launch() -> Any:
    """AIOS's module `runtime/launch.py`, if this process runs it, else None."""
    for name in LAUNCHERS:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "app") and hasattr(module, "execute_request"):
            return module
    return None
