"""Calls by what they do: they arrive, wait for a slot, and run; from anywhere they may leave."""

from __future__ import annotations

import threading
import time

from aios_eccos.serve.call import Call
from aios_eccos.values import Answer

#: How often to look for slots that another kernel freed without our hearing of it, seconds.
POLL_S = 0.05


class CallQueue:
    """The calls of one dispatcher. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Insertion-ordered sets.
        self._arrived: dict[Call, None] = {}
        self._waiting: dict[Call, None] = {}
        self._running: dict[Call, None] = {}
        self._woken = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether no more calls are taken."""
        return self._closed

    def put(self, call: Call) -> bool:
        """Take a call that has come; False if the queue is closed."""
        with self._changed:
            if not self._closed:
                self._arrived[call] = None
                self._changed.notify_all()
            return not self._closed

    def wake(self) -> None:
        """Something has changed that waiting calls may profit by."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more calls; `gather` returns."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Call]:
        """Remove all calls that do not run."""
        with self._changed:
            left = [*self._waiting, *self._arrived]
            self._waiting.clear()
            self._arrived.clear()
            return left

    def depth(self) -> tuple[int, int]:
        """How many calls wait and how many run."""
        with self._changed:
            return len(self._waiting) + len(self._arrived), len(self._running)

    def gather(self, window_s: float, most: int) -> list[Call]:
        """Wait for work, then a window more for company; take out what has run out of time."""
        with self._changed:
            if not (self._arrived or self._woken or self._closed):
                self._changed.wait(self._idle_s())
            if len(self._arrived) > 1 or (self._arrived and self._running):
                end = time.monotonic() + window_s
                while len(self._arrived) < most and not self._closed:
                    left = end - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            self._woken = False
            now = time.monotonic()
            late = [c for c in [*self._waiting, *self._arrived, *self._running] if c.expires <= now]
            for call in late:
                self._remove(call)
            return late

    def waiting(self) -> list[Call]:
        """All calls that wait."""
        with self._changed:
            self._waiting.update(self._arrived)
            self._arrived.clear()
            return [*self._waiting]

    def take(self, query_id: str) -> Call | None:
        """Remove a call that waits, by its query's id."""
        with self._changed:
            waiting = [*self._waiting, *self._arrived]
            call = next((each for each in waiting if each.query.id == query_id), None)
            if call is not None:
                self._remove(call)
            return call

    def take_out(self, call: Call) -> bool:
        """Remove a call from wherever it stands; False if it is gone already."""
        with self._changed:
            return self._remove(call)

    def run(self, call: Call) -> bool:
        """Let a call run from now on; False if it is gone already, or cancelled."""
        with self._changed:
            present = self._remove(call) and (
                call.attempts > 0 or call.future.set_running_or_notify_cancel()
            )
            if present:
                self._running[call] = None
            return present

    def over(self, call: Call, answer: Answer, ended: float, again: bool) -> bool:
        """A request has ended: note it, and let the call wait `again`; True if it is to be settled.

        Not if it was given up while it ran: then it is settled already.
        """
        with self._changed:
            if not self._remove(call):
                return False
            call.tried(answer, ended)
            # Nobody looks at what waits once the queue is closed.
            if again and not self._closed:
                self._waiting[call] = None
                return False
            return True

    def _remove(self, call: Call) -> bool:
        for group in (self._waiting, self._arrived, self._running):
            if call in group:
                del group[call]
                return True
        return False

    def _idle_s(self) -> float | None:
        """Seconds until something has to be looked at without being told; None = never."""
        now = time.monotonic()
        times = [c.expires - now for c in self._running]
        times += [min(c.expires - now, max(c.not_before - now, POLL_S)) for c in self._waiting]
        return min(max(min(times), 0.0), threading.TIMEOUT_MAX) if times else None
