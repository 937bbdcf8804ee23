"""Which waiting calls may start now: fairly between agents, about as many as there are slots."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice

from aios_eccos.serve.call import Call, Routes
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.pace import Pace
from aios_eccos.values import Slots

#: The models that a call would take, by call.
Wants = Mapping[Call, list[str]]


def startable(
    waiting: list[Call], slots: Slots, most: int, router: Routes, fair: FairShare, pace: Pace
) -> list[Call]:
    """The waiting calls that can have a slot now, fairest first; at most `most`."""
    now, spills = time.monotonic(), router.spills
    queues: dict[str, list[Call]] = {}
    wants: dict[Call, list[str]] = {}
    for call in sorted(waiting, key=lambda c: c.order):
        if call.not_before > now:
            continue
        wants[call] = call.usable(slots) if spills else call.best(slots, router)
        if any(slots.free[name] > 0 for name in wants[call]):
            queues.setdefault(call.query.agent, []).append(call)
    agents = {call.query.agent for call in waiting}
    ordered = fair.merge(queues, lambda c: pace.slot_seconds(c.candidate, wants[c]), agents)
    chosen = _spilling(ordered, wants, slots) if spills else _patient(ordered, wants, slots)
    return list(islice(chosen, max(most, 0)))


def _spilling(ordered: Iterator[Call], wants: Wants, slots: Slots) -> Iterator[Call]:
    """Calls that take any model they may: as many as slots, and enough for each model."""
    left = {name: free for name, free in slots.free.items() if free > 0}
    total = sum(left.values())
    for count, call in enumerate(ordered):
        if count >= total and not any(left.values()):
            return
        yield call
        for name in wants[call]:
            left[name] = max(left.get(name, 0) - 1, 0)


def _patient(ordered: Iterator[Call], wants: Wants, slots: Slots) -> Iterator[Call]:
    """Calls that wait for one model each: who waits for a full one leaves room for the others."""
    left = dict(slots.free)
    for call in ordered:
        if not any(free > 0 for free in left.values()):
            return
        if any(left[name] > 0 for name in wants[call]):
            yield call
            for name in wants[call]:
                left[name] -= 1
