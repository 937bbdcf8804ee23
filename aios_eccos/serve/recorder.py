"""The queue between calls and whoever keeps what became of them.

A call only puts what it has into a bounded queue; one background thread hands it on, so no agent
waits for Redis, the embedder or Chroma. What does not fit in the queue is counted as lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from aios_eccos.errors import EccosError, raised
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.observers import BATCH, Kept, NotKept, TeachesHistory
from aios_eccos.values import CallResult

log = logging.getLogger("aios_eccos.serve.recorder")

#: Settled calls that may wait to be kept: two minutes at a hundred calls a second.
QUEUE_MOST = 12_000
#: Seconds between two looks at what changes without calls.
LOOK_S = 5.0

#: Does one job with settled calls, in their order, on the recorder's thread.
Observer: TypeAlias = Callable[[Sequence[Kept]], None]


class Recorder:
    """Takes settled calls, and hands them to observers. Records from `start` until `close`.

    Args:
        trace: makes what is kept of a settled call, on the call's own thread.
        control: moves prices by the traces of a batch, and returns them with what each has added.
        observers: take each batch in this order; what one raises keeps nothing from the others.
        teaches: puts calls that an observer gave it into the history, when they are due.
        looks: see to what changes without calls.

    Attributes:
        lost: settled calls that could not be kept.
    """

    def __init__(
        self,
        trace: Callable[[CallResult], Callable[[], Trace]],
        control: Callable[[Sequence[Trace]], list[Trace]],
        observers: Sequence[Observer],
        teaches: TeachesHistory,
        looks: Sequence[Callable[[], None]],
        *,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self.lost = 0
        self._trace, self._control = trace, control
        self._observers, self._teaches, self._looks = observers, teaches, looks
        self._most = queue_most
        self._queue: deque[tuple[CallResult, Callable[[], Trace]]] = deque()
        self._changed = threading.Condition()
        self._closing = self._busy = self._hurry = False
        self._thread: threading.Thread | None = None

    def __call__(self, result: CallResult) -> None:
        """Queue a settled call; takes microseconds."""
        if self._thread is None:
            return
        with self._changed:
            if len(self._queue) >= self._most:
                self.lost += 1
                return
            self._queue.append((result, self._trace(result)))
            self._changed.notify()

    def start(self) -> None:
        """Hand calls on from now."""
        self._thread = threading.Thread(target=self._loop, name="eccos-recorder", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything queued is kept, by the history too; False on timeout."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: not (self._queue or self._busy or self._teaches.waits), timeout_s
            )
            self._hurry = False
            return done

    def look(self) -> None:
        """Look now, on the caller's thread, at what changes without calls."""
        for look in self._looks:
            self._guarded(look)

    def close(self, timeout_s: float = 10.0) -> None:
        """Keep what is queued, then end the thread; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    # The recorder's thread.

    def _loop(self) -> None:
        look_at = 0.0
        while True:
            with self._changed:
                patience = min(look_at - time.monotonic(), self._teaches.due_s())
                self._changed.wait_for(self._due, max(patience, 0.0))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
                closing = self._closing and not self._queue
                self._busy = True
            if batch:
                self._hand_on(batch)
            if closing or self._teaching_due():
                self._guarded(self._teaches.flush)
            if time.monotonic() >= look_at and not closing:
                look_at = time.monotonic() + LOOK_S
                self.look()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if closing and not self._teaches.waits:
                    return

    def _due(self) -> bool:
        return bool(self._queue) or self._closing or self._teaching_due()

    def _teaching_due(self) -> bool:
        return self._teaches.waits and (self._hurry or self._teaches.due_s() <= 0)

    def _hand_on(self, batch: Sequence[tuple[CallResult, Callable[[], Trace]]]) -> None:
        kept: list[Kept] = []

        def make() -> None:
            traces = self._control([trace() for _, trace in batch])
            results = (result for result, _ in batch)
            kept.extend(map(Kept, results, traces))

        self._guarded(make)
        for observer in self._observers if kept else ():
            self._guarded(lambda take=observer: take(kept))  # type: ignore[misc]

    def _guarded(self, work: Callable[[], None]) -> None:
        """An observer's fault is logged and forgotten: calls go on."""
        try:
            work()
        except NotKept as error:
            self.lost += error.count
            log.debug("not recorded: %s", error)
        except EccosError as error:
            log.debug("not recorded: %s", error)
        except BaseException as error:  # noqa: BLE001 - the thread must outlive whatever is raised
            log.error("recording failed: %s", raised(error))
