"""How a call of the kernel ends."""

from __future__ import annotations

import time
from typing import Any

from aios_eccos.kernel.aios_types import Syscall


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
