"""Calls that arrive, take a slot of a model, and leave: who waits, and how long."""

from __future__ import annotations

import heapq
import math

import numpy as np

from aios_eccos.values import FloatArray, IntArray


def queue(
    arrival: FloatArray, duration: FloatArray, value: FloatArray, room: IntArray
) -> tuple[IntArray, FloatArray]:
    """Each call takes the model of least value that has a free slot, else it waits its turn.

    Args:
        arrival: (n,) seconds, rising.
        duration: (n, m) seconds that a call keeps a slot.
        value: (n, m), infinite where a model may not serve.
        room: (m,) slots.

    Returns:
        (n,) columns, -1 for calls that no model may serve, and (n,) seconds of their start.
    """
    free = room.copy()
    choice = np.full(len(value), -1, dtype=np.int64)
    start = np.zeros(len(value))
    busy: list[tuple[float, int]] = []
    waiting: list[int] = []

    def take(i: int, now: float) -> bool:
        open_to = np.where(free > 0, value[i], np.inf)
        j = int(np.argmin(open_to))
        if not math.isfinite(open_to[j]):
            return False
        free[j] -= 1
        choice[i], start[i] = j, now
        heapq.heappush(busy, (now + float(duration[i, j]), j))
        return True

    def until(moment: float) -> None:
        while busy and busy[0][0] <= moment:
            now, j = heapq.heappop(busy)
            free[j] += 1
            waiting[:] = [i for i in waiting if not take(i, now)]

    for i in np.flatnonzero(np.isfinite(value).any(axis=1)):
        now = float(arrival[i])
        until(now)
        if not take(int(i), now):
            waiting.append(int(i))
    until(math.inf)
    return choice, start
