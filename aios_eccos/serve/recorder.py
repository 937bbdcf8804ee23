"""The queue between calls and whoever keeps what became of them.

A call only puts what it has into a bounded queue; one background thread hands it on, so no agent
waits for Redis, the embedder or Chroma. What does not fit in the queue is counted as lost. Each
observer has one job (`observers`); what one of them raises keeps nothing from the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aios_eccos.errors import EccosError, WorkloadError, raised
from aios_eccos.observe.trace import Trace
from aios_eccos.values import CallResult

log = logging.getLogger("aios_eccos.serve.recorder")

#: Settled calls that may wait to be kept: two minutes at a hundred calls a second.
QUEUE_MOST = 12_000
#: Settled calls kept together.
BATCH = 64
#: Seconds between two looks of the observers at what changes without calls.
LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A settled call, and what is kept of it."""

    result: CallResult
    trace: Trace


class Observer(Protocol):
    """One job that is done with settled calls, on the recorder's thread."""

    def take(self, calls: Sequence[Kept]) -> None:
        """Take settled calls, in their order."""
        ...

    def look(self) -> None:
        """See to what changes without calls."""
        ...

    def due_s(self) -> float | None:
        """Seconds until `flush` has something to do; None = nothing waits."""
        ...

    def flush(self) -> None:
        """Do what was put off to be done together."""
        ...


class Recorder:
    """Takes settled calls, and hands them to observers. Records from `start` until `close`.

    Args:
        trace: makes what is kept of a settled call, on the call's own thread.
        control: moves prices by the traces of a batch, and returns them with what each has added.
        observers: take each batch in this order.

    Attributes:
        lost: settled calls that could not be kept.
    """

    def __init__(
        self,
        trace: Callable[[CallResult], Callable[[], Trace]],
        control: Callable[[Sequence[Trace]], list[Trace]],
        observers: Sequence[Observer],
        *,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self.lost = 0
        self._trace = trace
        self._control = control
        self._observers = tuple(observers)
        self._most = queue_most
        self._queue: deque[tuple[CallResult, Callable[[], Trace]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy = False
        self._hurry = False
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
        """Wait until everything queued is kept, by all observers; False on timeout."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: not (self._queue or self._busy or self._waits()), timeout_s
            )
            self._hurry = False
            return done

    def look(self) -> None:
        """Have the observers look now, on the caller's thread."""
        for observer in self._observers:
            self._guarded(observer.look)

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
                self._changed.wait_for(self._due, self._patience(look_at))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
                closing = self._closing and not self._queue
                self._busy = True
            if batch:
                self._hand_on(batch)
            for observer in self._observers:
                due = observer.due_s()
                if due is not None and (closing or self._hurry or due <= 0):
                    self._guarded(observer.flush)
            if time.monotonic() >= look_at and not closing:
                look_at = time.monotonic() + LOOK_S
                self.look()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if closing and not self._waits():
                    return

    def _waits(self) -> bool:
        return any(observer.due_s() is not None for observer in self._observers)

    def _due(self) -> bool:
        if self._queue or self._closing:
            return True
        dues = [observer.due_s() for observer in self._observers]
        return any(due is not None and (self._hurry or due <= 0) for due in dues)

    def _patience(self, look_at: float) -> float:
        dues = [due for observer in self._observers if (due := observer.due_s()) is not None]
        return max(min([look_at - time.monotonic(), *dues]), 0.0)

    def _hand_on(self, batch: Sequence[tuple[CallResult, Callable[[], Trace]]]) -> None:
        kept: list[Kept] = []

        def make() -> None:
            traces = self._control([trace() for _, trace in batch])
            results = (result for result, _ in batch)
            kept.extend(Kept(*pair) for pair in zip(results, traces, strict=True))

        self._guarded(make)
        for observer in self._observers if kept else ():
            self._guarded(lambda taker=observer: taker.take(kept))  # type: ignore[misc]

    def _guarded(self, work: Callable[[], None]) -> None:
        """An observer's fault is logged and forgotten: calls go on."""
        try:
            work()
        except NotKept as error:
            self.lost += error.count
            log.debug("not recorded: %s", error)
        except EccosError as error:
            log.debug("not recorded: %s", error)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever is raised
            log.error("recording failed: %s", raised(error))


class NotKept(WorkloadError):
    """Raised when decisions could not be kept; `count` of them."""

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count
