"""Makes an assignment fit the limits, each row moved at little extra cost."""

from __future__ import annotations

import numpy as np

from aios_eccos.decide.live.transport import moves
from aios_eccos.values import FloatArray, IntArray


def fit(reduced: FloatArray, choice: IntArray, capacity: IntArray) -> IntArray:
    """Moves as many rows as needed, each at little extra cost, until all limits hold.

    Direct moves first, many at once; where the columns with room are closed to the rows of a full
    one, one chain of moves at a time. The rows must fit (ask `serve.servable` first).
    """
    m = len(capacity)
    choice = choice.copy()
    free = capacity - np.bincount(choice, minlength=m)
    while (free < 0).any():
        moved = False
        for column in np.flatnonzero(free < 0):
            rows = np.flatnonzero(choice == column)
            extra = reduced[rows] - reduced[rows, column][:, None]
            extra[:, free <= 0] = np.inf
            target = np.argmin(extra, axis=1)
            least = extra[np.arange(len(rows)), target]
            order = np.argsort(least, kind="stable")[: -free[column]]
            order = order[np.isfinite(least[order])]
            for goal in np.unique(target[order]):
                chosen = rows[order[target[order] == goal][: free[goal]]]
                choice[chosen] = goal
                free[goal] -= len(chosen)
                free[column] += len(chosen)
                moved = True
        if not moved:
            _chain(reduced, choice, free)
    return choice


def _chain(reduced: FloatArray, choice: IntArray, free: IntArray) -> None:
    """Moves one row out of an overfull column, another on from where it went, ..., in place."""
    m = len(free)
    move = np.maximum(moves(reduced, choice), 0.0)  # no cycles
    cost = np.where(free < 0, 0.0, np.inf)
    came = np.full(m, -1)
    for _ in range(m):
        through = cost[:, None] + move
        better = through.min(axis=0) < cost
        came[better] = np.argmin(through, axis=0)[better]
        cost = np.minimum(cost, through.min(axis=0))
    goal = int(np.argmin(np.where(free > 0, cost, np.inf)))
    if free[goal] <= 0 or not np.isfinite(cost[goal]):
        raise ValueError("the rows do not fit into their allowed slots")
    free[goal] -= 1
    while came[goal] >= 0:
        column = int(came[goal])
        rows = np.flatnonzero(choice == column)
        choice[rows[np.argmin(reduced[rows, goal] - reduced[rows, column])]] = goal
        goal = column
    free[goal] += 1
