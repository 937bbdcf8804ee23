"""The one background thread of a shared store: heartbeat, ear for releases, probe when lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from aios_eccos.errors import WorkloadError, raised
from aios_eccos.workload.channel import WHO
from aios_eccos.workload.redis import RedisWorkload

log = logging.getLogger(__name__)

#: Seconds between two tries of a lost server; doubles up to the second number.
RETRY_S = (0.1, 2.0)
#: Longest wait for news, so that a doubt is looked into soon; and where others are waited for.
LOOK_S, SOON_S = 0.25, 0.05


class Heartbeat(threading.Thread):
    """Renews a store's leases each `period_s`, and hears of other kernels' releases.

    It tells `lost` each time that the server does not answer, `back` after each heartbeat that
    reached it; that answers False while it waits for other kernels.
    """

    def __init__(
        self,
        store: RedisWorkload,
        *,
        period_s: float,
        lost: Callable[[WorkloadError], None],
        back: Callable[[], bool],
    ) -> None:
        super().__init__(name="eccos-heartbeat", daemon=True)
        self._store, self._period_s = store, period_s
        self._lost, self._back = lost, back
        #: What is set wrong in the server, and what of that the log has said.
        self.warnings: list[str] = []
        self._said: set[str] = set()
        self._look_s = LOOK_S
        self._doubtful = threading.Event()
        self._stopping = threading.Event()

    def doubt(self) -> None:
        """Ask for a heartbeat soon: a call failed."""
        self._doubtful.set()

    def stop(self) -> None:
        """End the thread: at once if the server can be asked to wake it, else within `LOOK_S`."""
        self._stopping.set()
        with suppress(WorkloadError):
            self._store.channel.wake()
        self.join()

    def run(self) -> None:
        """Beat until it is stopped."""
        wait_s, longest_s = RETRY_S
        while not self._stopping.is_set():
            try:
                self._store.revive()
                self._store.mark()
                with self._store.channel.listen() as heard:
                    self._beat()
                    self._warn()
                    wait_s = RETRY_S[0]
                    self._attend(heard)
            except Exception as error:  # noqa: BLE001 - without this thread all leases would end
                if not self._stopping.is_set():
                    self.warnings = []
                    lost = error if isinstance(error, WorkloadError) else None
                    self._lost(lost or WorkloadError(raised(error)))
                    self._stopping.wait(wait_s)
                    wait_s = min(2 * wait_s, longest_s)

    def _attend(self, heard: Callable[[float], bytes]) -> None:
        # Doubts, which may come often, put off the next heartbeat, but not the next warning.
        due = look_at = time.monotonic() + self._period_s
        while not self._stopping.is_set():
            said = heard(min(self._look_s, max(0.0, due - time.monotonic())))
            if said.startswith(WHO):  # another kernel comes back, and asks who is there
                self.doubt()
            elif said:
                self._store.notifier.notify()
            if self._doubtful.is_set() or time.monotonic() >= due:
                self._beat()
                due = time.monotonic() + self._period_s
            if time.monotonic() >= look_at:
                self._warn()
                look_at = time.monotonic() + self._period_s

    def _warn(self) -> None:
        """Look for what is set wrong in the server, and say it once."""
        with suppress(WorkloadError):  # a server may refuse to tell of itself
            self.warnings = self._store.warnings()
        for text in self.warnings:
            if text not in self._said:
                log.warning("%s", text)
                self._said.add(text)

    def _beat(self) -> None:
        self._doubtful.clear()
        self._store.renew()
        self._look_s = LOOK_S if self._back() else SOON_S
