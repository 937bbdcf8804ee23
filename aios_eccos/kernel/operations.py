"""Memory, storage and tool calls, which stay with AIOS's managers, and get an end.

Each runs on threads that can be left behind: one that never returns is settled with an error
`call_timeout_s` after it came, and those that came later do not wait for it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aios_eccos.kernel.calls import Syscall, settle
from aios_eccos.kernel.serving import ENDING, Serving
from aios_eccos.providers.wire import clean

log = logging.getLogger("aios_eccos.kernel.operations")

#: How long a call keeps the next of its kind waiting, seconds. AIOS's managers are used to one at a
#: time, so quick ones still come so.
TURN_S = 0.1
#: How long it waits for its turn at most, behind however many, seconds.
TURNS_S = 1.0
#: How often a call under way is checked for the process's end, seconds.
LOOK_S = 0.25
_TURNS = {kind: threading.Lock() for kind in ("Memory", "Storage", "Tool")}


@dataclass(eq=False)
class Operation:
    """One memory, storage or tool call; settles it exactly once, whatever its manager does.

    `execute` is the manager, `error` makes a response of the kind from a text and a status.
    """

    kind: str
    syscall: Syscall
    execute: Callable[[Syscall], Any]
    error: Callable[[str, int], Any]
    serving: Serving

    def __post_init__(self) -> None:
        config = self.serving.config
        limit_s = config.settings.call_timeout_s if config is not None else math.inf
        self._until = time.monotonic() + limit_s
        self._over = threading.Event()
        self._once = threading.Lock()

    def start(self) -> None:
        self._thread(self._attend)

    def _thread(self, work: Callable[[], None]) -> None:
        try:
            threading.Thread(target=work, name=f"eccos-{self.kind}", daemon=True).start()
        except RuntimeError as error:  # the process may have no more threads
            log.error("a %s call could not be started: %s", self.kind, error)
            self._fail("no thread", 503)

    def _attend(self) -> None:
        """Start the call when it is its turn, and settle it when its time is over."""
        turn = _TURNS[self.kind]
        mine = turn.acquire(timeout=min(TURNS_S, self._left()))
        try:
            if self._left():
                self.syscall.set_status("executing")
                self.syscall.set_start_time(time.time())
                self._thread(self._work)
                if mine:
                    self._over.wait(TURN_S)
        finally:
            if mine:
                turn.release()
        while not self._over.wait(min(LOOK_S, self._left())):
            if not self._left():
                ending = self._until > self.serving.ends_at
                reason, status = (ENDING.reason, 503) if ending else ("timeout", 504)
                log.warning("a %s call was given up: %s", self.kind, reason)
                self._fail(reason, status)

    def _work(self) -> None:
        try:
            response = self.execute(self.syscall)
        except BaseException as error:  # noqa: BLE001 - of a tool's sys.exit(), too
            log.warning("a %s call failed: %s", self.kind, type(error).__name__)
            self._fail(clean(f"{type(error).__name__}: {error}"), 500)
            return
        if response is None:  # as of a tool that has failed before, until a refresh
            self._fail("AIOS gave no answer; POST /core/refresh may help", 500)
        else:
            self._end(response)

    def _left(self) -> float:
        return max(min(self._until, self.serving.ends_at) - time.monotonic(), 0.0)

    def _fail(self, reason: str, status: int) -> None:
        self._end(self.error(f"{self.kind} error: {reason}", status))

    def _end(self, response: Any) -> None:
        if self._once.acquire(blocking=False):
            settle(self.syscall, response)
        self._over.set()
