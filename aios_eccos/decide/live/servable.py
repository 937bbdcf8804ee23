"""Which rows can be served at all, where slots are too few for all of them.

The rows that a bipartite graph can match form a matroid, so taking rows in order whenever they
still fit serves as many as possible and, among those sets, the earliest rows.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from aios_eccos.values import BoolArray, IntArray


def servable(allowed: BoolArray, capacity: IntArray) -> tuple[BoolArray, BoolArray]:
    """(n,) the rows to serve, and (m,) the columns that are full for the rows left out.

    Rows with equal allowed columns (n, m) are one pattern; once one does not fit, none does again.
    """
    n, m = allowed.shape
    patterns, kind = _patterns(allowed)
    if len(patterns) == 1:  # as many as there are slots
        fitting = np.arange(n) < capacity[patterns[0]].sum()
        return fitting, np.asarray(patterns[0] & ~fitting.all())
    total = np.bincount(kind, minlength=len(patterns))
    if all(map(_Flow(patterns, capacity).send, range(len(patterns)), total.tolist())):
        return np.ones(n, dtype=bool), np.zeros(m, dtype=bool)
    flow, fits, served = _Flow(patterns, capacity), [True] * len(patterns), np.zeros(n, dtype=bool)
    for row, pattern in enumerate(kind.tolist()):
        if fits[pattern]:
            served[row] = fits[pattern] = flow.send(pattern, 1)
    full = np.asarray(patterns[np.unique(kind[~served])].any(axis=0))
    return served, full


def trim(choice: IntArray, capacity: IntArray) -> tuple[IntArray, BoolArray]:
    """Lets the last rows of every overfull column wait (-1); (n,) columns, (m,) those overfull."""
    m = len(capacity)
    late = (choice >= 0) & (_rank(choice + 1, m + 1) >= np.append(0, capacity)[choice + 1])
    return np.where(late, -1, choice), np.bincount(choice[late], minlength=m) > 0


def _patterns(allowed: BoolArray) -> tuple[BoolArray, IntArray]:
    """The distinct rows of `allowed`, and for each row which of them it is."""
    packed = np.packbits(allowed, axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    if len(keys) and (packed == packed[0]).all():
        return allowed[:1], np.zeros(len(keys), dtype=np.int64)
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    return allowed[first], kind.astype(np.int64)


def _rank(kind: IntArray, count: int) -> IntArray:
    """(n,) how many rows of its own kind stand before each row."""
    order = np.argsort(kind, kind="stable")
    sizes = np.bincount(kind, minlength=count)
    rank = np.empty(len(kind), dtype=np.int64)
    rank[order] = np.arange(len(kind)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


class _Flow:
    """Rows sent from patterns to columns, rerouted along augmenting paths.

    Own code, since scipy's maximum flow takes ten times as long for the few patterns of a batch.
    """

    def __init__(self, patterns: BoolArray, capacity: IntArray) -> None:
        self.columns = [np.flatnonzero(row).tolist() for row in patterns]
        self.sent = [[0] * len(capacity) for _ in patterns]
        self.free: list[int] = capacity.tolist()

    def send(self, pattern: int, want: int) -> bool:
        """Sends `want` rows of a pattern; False as soon as one does not fit."""
        while want:
            path = self._path(pattern)
            if path is None:
                return False
            end = path[-1][0]
            amount = min([want, self.free[end]] + [self.sent[p][c] for c, p in path[:-1]])
            self.sent[pattern][path[0][0]] += amount
            for (column, mover), (target, _) in pairwise(path):
                self.sent[mover][column] -= amount
                self.sent[mover][target] += amount
            self.free[end] -= amount
            want -= amount
        return True

    def _path(self, pattern: int) -> list[tuple[int, int]] | None:
        """Shortest way to a free slot: (column, pattern that moves on from it; -1 at the end)."""
        came: dict[int, tuple[int, int]] = dict.fromkeys(self.columns[pattern], (-1, -1))
        queue = list(came)
        for column in queue:
            if self.free[column] > 0:
                steps = [(column, -1)]
                while came[column][0] >= 0:
                    steps.append(came[column])
                    column = came[column][0]
                return steps[::-1]
            for mover in (p for p, sent in enumerate(self.sent) if sent[column]):
                for target in self.columns[mover]:
                    if target not in came:
                        came[target] = (column, mover)
                        queue.append(target)
        return None
