"""Makes an assignment fit the limits, and whole assignments cheaper, by moving few rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from aios_eccos.decide.live.transport import moves
from aios_eccos.decide.whole.program import TOLERANCE, Program
from aios_eccos.values import BoolArray, FloatArray, IntArray

MOVES = 128
"""Candidate moves per round; pairs of them are compared, so time grows with the square."""

ROUNDS = 60
"""Exchanges at most."""

UNMET = 1e6
"""What a unit of unmet need counts, in the largest saving in sight."""


def fit(reduced: FloatArray, choice: IntArray, capacity: IntArray) -> IntArray:
    """Moves rows, each at little extra cost, until all limits hold.

    Along the cheapest chain from an overfull column to one with room as many rows move on, step by
    step, as it takes. The rows must fit (ask `servable` first).
    """
    choice, m = choice.copy(), len(capacity)
    while ((free := capacity - np.bincount(choice, minlength=m)) < 0).any():
        chain = _chain(np.maximum(moves(reduced, choice), 0.0), free)  # no cycles
        amount = min(int(-free[chain[0]]), int(free[chain[-1]]))
        steps = []
        for column, goal in pairwise(chain):
            rows = np.flatnonzero((choice == column) & np.isfinite(reduced[:, goal]))
            extra = reduced[rows, goal] - reduced[rows, column]
            steps.append((rows[np.argsort(extra, kind="stable")], goal))
            amount = min(amount, len(rows))
        for rows, goal in steps:
            choice[rows[:amount]] = goal
    return choice


def _chain(move: FloatArray, free: IntArray) -> list[int]:
    """Columns from an overfull one to one with room, at the least extra cost (Bellman-Ford)."""
    cost, came = np.where(free < 0, 0.0, np.inf), np.full(len(free), -1)
    for _ in free:
        through = cost[:, None] + move
        better = through.min(axis=0) < cost
        came[better] = np.argmin(through, axis=0)[better]
        cost = np.minimum(cost, through.min(axis=0))
    goal = int(np.argmin(np.where(free > 0, cost, np.inf)))
    if free[goal] <= 0 or not np.isfinite(cost[goal]):
        raise ValueError("the rows do not fit into their allowed slots")
    chain = [goal]
    while came[chain[0]] >= 0:
        chain.insert(0, int(came[chain[0]]))
    return chain


def exchange(program: Program, choice: IntArray, prices: FloatArray) -> IntArray:
    """Applies the best single move, swap or pair of moves until none makes `choice` cheaper.

    Needs that are missed come first; limits must hold. A better assignment uses no (row, column)
    whose reduced cost exceeds the row's least by more than the distance to the bound, so only
    moves within it are looked at, nearest first.
    """
    choice = choice.copy()
    reduced = program.reduced(prices)
    excess = reduced - reduced.min(axis=1, keepdims=True)
    bound = program.bound(prices)
    for _ in range(ROUNDS):
        distance = program.value(choice) - bound
        if not program.meets(choice):
            distance = np.inf
        elif distance <= 1e-12 * max(1.0, abs(bound)):
            break
        rows, targets = _moves(choice, excess, distance)
        pair = _best_pair(program, choice, rows, targets) if len(rows) else ()
        if not pair:
            break
        for row, column in pair:
            choice[row] = column
    return choice


def _moves(choice: IntArray, excess: FloatArray, distance: float) -> tuple[IntArray, IntArray]:
    """Rows and the columns that they may move to, the nearest ones."""
    rows, targets = np.nonzero((excess <= distance) & np.isfinite(excess))
    keep = targets != choice[rows]
    rows, targets = rows[keep], targets[keep]
    if len(rows) > MOVES:
        nearest = np.argpartition(excess[rows, targets], MOVES)[:MOVES]
        rows, targets = rows[nearest], targets[nearest]
    return rows, targets


def _best_pair(
    program: Program, choice: IntArray, rows: IntArray, targets: IntArray
) -> list[tuple[int, int]]:
    """Up to two moves (row, new column) that together save most and break nothing; [] = none."""
    sources = choice[rows]
    saved = program.objective[rows, sources] - program.objective[rows, targets]
    gain = program.gains[:, rows, targets] - program.gains[:, rows, sources]
    slack = program.gained(choice) - program.need + TOLERANCE * program.n
    unmet = UNMET * float(np.abs(saved).max() + 1.0)
    # one of the two has to help by itself
    first = np.flatnonzero((saved > 0) | (gain[slack < 0] > 0).any(axis=0))
    if not len(first):
        return []
    # the last candidate stands still: a column of its own, with room for everybody
    rows, sources, targets = (
        np.append(part, still)
        for part, still in ((rows, -1), (sources, program.m), (targets, program.m))
    )
    saved, gain = np.append(saved, 0.0), np.append(gain, np.zeros((len(gain), 1)), axis=1)
    total = saved[first][:, None] + saved[None, :]
    for own_gain, gains, room in zip(gain[:, first], gain, slack, strict=True):
        lack = np.add.outer(own_gain + room, gains)
        np.minimum(lack, 0.0, out=lack)
        lack *= unmet
        total += lack
    total -= unmet * float(np.minimum(slack, 0.0).sum())
    free = np.append(program.free(choice), program.n + 2)
    total[~_fits(rows, sources, targets, free, first)] = -np.inf
    best, second = np.unravel_index(int(np.argmax(total)), total.shape)
    if total[best, second] <= 1e-12:
        return []
    return [(int(rows[u]), int(targets[u])) for u in (first[best], second) if rows[u] >= 0]


def _fits(
    rows: IntArray, sources: IntArray, targets: IntArray, free: IntArray, first: IntArray
) -> BoolArray:
    """(f, c) whether limits hold after one of the `first` (f,) moves and another of all (c,)."""
    own, other = sources[first][:, None], targets[first][:, None]
    here = free[other] + (sources[None, :] == other) - (targets[None, :] == other) >= 1
    there = free[targets][None, :] + (own == targets[None, :]) - (other == targets[None, :]) >= 1
    return np.asarray(here & there & (rows[first][:, None] != rows[None, :]))
