"""Calls that arrive, take a slot of a model, and leave: who waits, and how long."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np

from aios_eccos.values import FloatArray, IntArray


def queue(
    arrival: FloatArray,
    duration: FloatArray,
    room: IntArray,
    decide: Callable[[int, IntArray], int],
    takes: IntArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Let n calls come to m models; whenever a slot comes free, those that wait are asked in order.

    Args:
        arrival: (n,) seconds, rising.
        duration: (n, m) seconds that a call keeps one of the (m,) slots of `room`.
        decide: the column of a call, from its number and the (m,) free slots; -1 = it waits.
        takes: (m, m) slots of each model that a call on a column keeps; default: one of its own.

    Returns:
        (n,) columns, -1 for calls that were never served, and (n,) seconds of their start.
    """
    free = room.copy()
    takes = np.eye(len(room), dtype=np.int64) if takes is None else takes
    choice = np.full(len(arrival), -1, dtype=np.int64)
    start = np.zeros(len(arrival))
    busy: list[tuple[float, int]] = []
    waiting: list[int] = []

    def take(i: int, now: float) -> bool:
        j = decide(i, free) if free.any() else -1
        if j < 0:
            return False
        free[:] -= takes[j]
        choice[i], start[i] = j, now
        heapq.heappush(busy, (now + float(duration[i, j]), j))
        return True

    def until(moment: float) -> None:
        while busy and busy[0][0] <= moment:
            now, j = heapq.heappop(busy)
            free[:] += takes[j]
            waiting[:] = [i for i in waiting if not take(i, now)]

    for i, now in enumerate(arrival):
        until(float(now))
        if not take(i, float(now)):
            waiting.append(i)
    until(math.inf)
    return choice, start
