"""The fair opponent: stock AIOS with a 10 ms interval and a thread for each call."""

from __future__ import annotations

import threading
from typing import Any

from integration.after_import import after_import

INTERVAL_S = 0.01


def patch(module: Any) -> None:
    scheduler = module.FIFOScheduler
    stock = scheduler.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        self.batch_interval = INTERVAL_S

    def execute(self: Any, batch: Any, executor: Any, syscall_type: str) -> None:
        for syscall in batch:
            threading.Thread(target=executor, args=([syscall],), daemon=True).start()

    scheduler.__init__ = init
    scheduler._execute_batch_syscalls = execute


after_import("aios.scheduler.fifo_scheduler", patch)
