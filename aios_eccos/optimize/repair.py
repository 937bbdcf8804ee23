"""Makes whole assignments cheaper: exchanges of up to two rows at a time, then exact search."""

from __future__ import annotations

import numpy as np

from ..values import FloatArray, IntArray
from .program import TOLERANCE, Prices, Program

MOVES = 256
"""Candidate moves per round; pairs of them are compared, so time grows with the square."""
ROUNDS = 60


def exchange(
    program: Program, choice: IntArray, prices: Prices, *, rounds: int = ROUNDS
) -> IntArray:
    """Applies the best single move, swap or pair of moves until none makes `choice` cheaper.

    A better assignment uses no (row, column) whose reduced cost exceeds the row's least by more
    than the distance to the bound, so only moves within it are looked at, nearest first.
    """
    choice = choice.copy()
    reduced = program.reduced(prices)
    excess = reduced - reduced.min(axis=1, keepdims=True)
    bound = program.bound(prices)
    for _ in range(rounds):
        distance = program.value(choice) - bound
        if distance <= 1e-12 * max(1.0, abs(bound)):
            break
        pair = _best_pair(program, choice, excess, distance)
        if pair is None:
            break
        for row, column in pair:
            choice[row] = column
    return choice


def _best_pair(
    program: Program, choice: IntArray, excess: FloatArray, distance: float
) -> list[tuple[int, int]] | None:
    """Up to two moves (row, new column) that together save most and break nothing."""
    rows, targets = np.nonzero(excess <= distance)
    keep = targets != choice[rows]
    rows, targets = rows[keep], targets[keep]
    if len(rows) > MOVES:
        nearest = np.argpartition(excess[rows, targets], MOVES)[:MOVES]
        rows, targets = rows[nearest], targets[nearest]
    if not len(rows):
        return None
    sources = choice[rows]
    saved = program.objective[rows, sources] - program.objective[rows, targets]
    gain = program.gains[:, rows, targets] - program.gains[:, rows, sources]
    # the last candidate stands still: a column of its own, with room for everybody
    rows, sources, targets = np.r_[rows, -1], np.r_[sources, program.m], np.r_[targets, program.m]
    saved, gain = np.r_[saved, 0.0], np.c_[gain, np.zeros(len(gain))]
    free = np.r_[program.free(choice), program.n + 2]
    room = free[targets][:, None] + (sources[None, :] == targets[:, None])
    room = room - (targets[None, :] == targets[:, None])
    fits = (room >= 1) & (room.T >= 1) & (rows[:, None] != rows[None, :])
    slack = program.gained(choice) - program.need + TOLERANCE * program.n
    for k in range(len(gain)):
        fits &= gain[k][:, None] + gain[k][None, :] >= -slack[k]
    total = np.where(fits, saved[:, None] + saved[None, :], -np.inf)
    first, second = np.unravel_index(int(np.argmax(total)), total.shape)
    if total[first, second] <= 1e-12:
        return None
    return [(int(rows[u]), int(targets[u])) for u in (first, second) if rows[u] >= 0]
