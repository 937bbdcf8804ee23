"""The calls of a dispatcher: where each stands, and which of those that wait may start next.

Priority, then age decides within an agent, and `FairShare` between agents, so that one agent's loop
starves nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import islice

from aios_eccos.serve.attempt import Pace
from aios_eccos.serve.call import Call
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.routes import Routes
from aios_eccos.values import Answer, Slots

#: The models of which a call wants a slot, by call.
Wants = Mapping[Call, list[str]]


class CallQueue:
    """Calls by what they do: they arrive, wait, run. Safe to use from any thread.

    Attributes:
        closed: whether no more calls are taken.
    """

    def __init__(self) -> None:
        self.closed = False
        self._changed = threading.Condition()
        # Insertion-ordered sets.
        self._arrived: dict[Call, None] = {}
        self._waiting: dict[Call, None] = {}
        self._running: dict[Call, None] = {}
        self._woken = False

    def put(self, call: Call) -> bool:
        """Take a call that has come; False if the queue is closed."""
        with self._changed:
            if not self.closed:
                self._arrived[call] = None
                self._changed.notify_all()
            return not self.closed

    def wake(self) -> None:
        """Something has changed that waiting calls may profit by."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more calls; `gather` returns."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def depth(self) -> tuple[int, int]:
        """How many calls wait and how many run."""
        with self._changed:
            return len(self._waiting) + len(self._arrived), len(self._running)

    def held_up(self, after_s: float) -> int:
        """How many calls have waited for longer than it takes to decide where they go."""
        now = time.monotonic()
        with self._changed:
            calls = [*self._waiting, *self._arrived]
        return sum(max(call.query.arrived, call.not_before) < now - after_s for call in calls)

    def gather(self, window_s: float, most: int) -> list[Call]:
        """Wait for work, then a window more for company; take out what has run out of time."""
        with self._changed:
            if not (self._arrived or self._woken or self.closed):
                self._changed.wait(self._idle_s())
            if len(self._arrived) > 1 or (self._arrived and self._running):
                end = time.monotonic() + window_s
                while len(self._arrived) < most and not self.closed:
                    left = end - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            self._woken = False
            now = time.monotonic()
            late = [c for c in [*self._waiting, *self._arrived, *self._running] if c.expires <= now]
            for call in late:
                self.remove(call)
            return late

    def waiting(self) -> list[Call]:
        """All calls that wait."""
        with self._changed:
            self._waiting.update(self._arrived)
            self._arrived.clear()
            return [*self._waiting]

    def take(self, query_id: str | None = None) -> list[Call]:
        """Remove the calls that wait: all, or that of one query, which if it runs is its last."""
        with self._changed:
            for call in self._running:
                call.dropped = call.dropped or call.query.id == query_id
            waiting = [*self._waiting, *self._arrived]
            found = [call for call in waiting if query_id in (None, call.query.id)]
            for call in found:
                self.remove(call)
            return found

    def remove(self, call: Call) -> bool:
        """Remove a call from wherever it stands; False if it is gone already."""
        with self._changed:
            for group in (self._waiting, self._arrived, self._running):
                if call in group:
                    del group[call]
                    return True
            return False

    def run(self, call: Call) -> bool:
        """Let a call run from now on; False if it is gone already, or cancelled."""
        with self._changed:
            if not self.remove(call):
                return False
            if not call.made and not call.future.set_running_or_notify_cancel():
                return False
            self._running[call] = None
            return True

    def ended(self, call: Call, model: str, answer: Answer, ended: float) -> bool:
        """Note what a request has come to; True if it was the last of those under way.

        Not if the call was given up meanwhile: then it is settled already.
        """
        with self._changed:
            if call not in self._running:
                return False
            call.tried(model, answer, ended)
            return not call.asking

    def over(self, call: Call) -> bool:
        """All requests under way have ended: let the call wait again; True if it is to be settled.

        Not if it was given up meanwhile.
        """
        with self._changed:
            if not self.remove(call):
                return False
            # Nobody looks at what waits once the queue is closed.
            if self.closed or not call.tries_again():
                return True
            self._waiting[call] = None
            return False

    def _idle_s(self) -> float | None:
        """Seconds until something has to be looked at without being told; None = never."""
        now = time.monotonic()
        times = [c.expires - now for c in self._running]
        times += [
            min(c.expires - now, max(c.not_before - now, c.look_s(now))) for c in self._waiting
        ]
        return min(max(min(times), 0.0), threading.TIMEOUT_MAX) if times else None


def startable(
    waiting: list[Call], slots: Slots, most: int, router: Routes, fair: FairShare, pace: Pace
) -> list[Call]:
    """The waiting calls that can have a slot now, fairest first; at most `most`."""
    now, spills = time.monotonic(), router.spills
    queues: dict[str, list[Call]] = {}
    wants: dict[Call, list[str]] = {}
    for call in sorted(waiting, key=lambda c: (-c.query.priority, c.query.arrived)):
        if call.not_before > now:
            continue
        columns = call.usable(slots) if spills else call.best(slots, router)
        wants[call] = call.models_of(columns)
        if any(call.room(name, slots) for name in columns):
            queues.setdefault(call.query.agent, []).append(call)
    agents = {call.query.agent for call in waiting}
    ordered = fair.merge(queues, lambda c: pace.slot_seconds(c.candidate, wants[c]), agents)
    chosen = _spilling(ordered, wants, slots) if spills else _patient(ordered, wants, slots)
    return list(islice(chosen, max(most, 0)))


def _spilling(ordered: Iterator[Call], wants: Wants, slots: Slots) -> Iterator[Call]:
    """Calls that take any model they may: as many as slots, and enough for each model."""
    left = {name: free for name, free in slots.free.items() if free > 0}
    total = sum(left.values())
    for started, call in enumerate(ordered):
        if started >= total and not any(left.values()):
            return
        yield call
        for name in wants[call]:
            left[name] = max(left.get(name, 0) - 1, 0)


def _patient(ordered: Iterator[Call], wants: Wants, slots: Slots) -> Iterator[Call]:
    """Calls that wait for their best: who waits for a full model leaves room for the others."""
    left = dict(slots.free)
    for call in ordered:
        if not any(free > 0 for free in left.values()):
            return
        if all(left[name] > 0 for name in wants[call]):
            yield call
            for name in wants[call]:
                left[name] -= 1
