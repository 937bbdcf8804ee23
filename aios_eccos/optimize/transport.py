"""Least cost under limits alone: a transportation problem, whose optimum is whole by itself."""

from __future__ import annotations

import numpy as np

from aios_eccos.values import FloatArray, IntArray


def transport(reduced: FloatArray, capacity: IntArray) -> IntArray:
    """(n,) column per row with the least sum of `reduced` (inf = not allowed) under the limits.

    Raises:
        ValueError: not all rows fit (ask `serve.servable` first).
    """
    n, m = reduced.shape
    choice: IntArray = np.argmin(reduced, axis=1).astype(np.int64)
    if (np.bincount(choice, minlength=m) <= capacity).all():
        return choice
    from scipy.optimize import linear_sum_assignment

    slots = np.repeat(np.arange(m), np.minimum(capacity, np.isfinite(reduced).sum(axis=0)))
    if len(slots) < n:
        raise ValueError(f"{n} rows do not fit into {len(slots)} slots")
    rows, taken = linear_sum_assignment(reduced[:, slots])
    choice[rows] = slots[taken]
    return choice


def slot_prices(reduced: FloatArray, choice: IntArray) -> FloatArray:
    """(m,) what one more slot would save, given an optimal `choice`.

    These are the least dual prices: u_b >= u_a - (cost of moving the best row from a to b), for
    all a, b; moves chain, hence m rounds (Bellman-Ford).
    """
    n, m = reduced.shape
    current = reduced[np.arange(n), choice]
    move = np.full((m, m), np.inf)
    for column in np.unique(choice):
        rows = choice == column
        move[column] = (reduced[rows] - current[rows, None]).min(axis=0)
    prices = np.zeros(m)
    for _ in range(m):
        better = np.maximum(prices, (prices[:, None] - move).max(axis=0))
        if np.array_equal(better, prices):
            break
        prices = better
    prices[prices <= 1e-12 * max(1e-300, float(np.abs(current).max(initial=0.0)))] = 0.0
    return prices
