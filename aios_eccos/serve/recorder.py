"""The queue between calls and whoever keeps what became of them.

A call only puts what it has into a bounded queue; one background thread hands it on, so no agent
waits for Redis, the embedder or Chroma. What does not fit in the queue is counted as lost.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from aios_eccos.errors import EccosError, raised
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.observers import BATCH, Kept, NotKept
from aios_eccos.values import CallResult

log = logging.getLogger("aios_eccos.serve.recorder")

#: Settled calls that may wait to be kept: two minutes at a hundred calls a second.
QUEUE_MOST = 12_000
#: Seconds between two looks at what changes without calls.
LOOK_S = 5.0

#: Does one job with settled calls, in their order, on the recorder's thread.
Observer: TypeAlias = Callable[[Sequence[Kept]], None]


class Gathers(Protocol):
    """An observer that does its job for several batches together, on the recorder's thread."""

    @property
    def waits(self) -> bool:
        """Whether there is anything to do."""

    def due_s(self) -> float:
        """Seconds until it is to be done; inf where there is nothing."""

    def flush(self) -> None:
        """Do it, or a part of it."""


class Recorder:
    """Takes settled calls, and hands them to observers. Records from `start` until `close`.

    Args:
        trace: makes what is kept of a settled call, on the call's own thread.
        control: moves prices by the traces of a batch, and returns them with what each has added.
        observers: take each batch in this order; what one raises keeps nothing from the others.
        later: do what observers gave them to do, when it is due.
        looks: see to what changes without calls.

    Attributes:
        lost: settled calls that could not be kept, as those that settle after the end.
    """

    def __init__(
        self,
        trace: Callable[[CallResult], Callable[[], Trace]],
        control: Callable[[Sequence[Trace]], list[Trace]],
        observers: Sequence[Observer],
        later: Sequence[Gathers],
        looks: Sequence[Callable[[], None]],
        *,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self.lost = 0
        self._trace, self._control = trace, control
        self._observers, self._later, self._looks = observers, later, looks
        self._most = queue_most
        self._queue: deque[tuple[CallResult, Callable[[], Trace]]] = deque()
        self._changed = threading.Condition()
        self._closing = self._ended = self._busy = self._hurry = False
        self._thread: threading.Thread | None = None

    def __call__(self, result: CallResult) -> None:
        """Queue a settled call; takes microseconds."""
        if self._thread is None:
            return
        with self._changed:
            if self._ended or len(self._queue) >= self._most:
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
                lambda: not (self._queue or self._busy or self._waits()), timeout_s
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
                due_s = min((each.due_s() for each in self._later), default=math.inf)
                patience = min(look_at - time.monotonic(), due_s)
                self._changed.wait_for(self._due, max(patience, 0.0))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
                closing = self._closing and not self._queue
                self._busy = True
            if batch:
                self._hand_on(batch)
            for each in self._later:
                if each.waits and (closing or self._hurry or each.due_s() <= 0):
                    self._guarded(each.flush)
            if time.monotonic() >= look_at and not closing:
                look_at = time.monotonic() + LOOK_S
                self.look()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if closing and not self._queue and not self._waits():
                    self._ended = True
                    return

    def _due(self) -> bool:
        late = any(each.due_s() <= 0 for each in self._later)
        return bool(self._queue) or self._closing or late or (self._hurry and self._waits())

    def _waits(self) -> bool:
        return any(each.waits for each in self._later)

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
            with self._changed:
                self.lost += error.count
            log.debug("not recorded: %s", error)
        except EccosError as error:
            log.debug("not recorded: %s", error)
        except BaseException as error:  # noqa: BLE001 - the thread must outlive whatever is raised
            log.error("recording failed: %s", raised(error))
