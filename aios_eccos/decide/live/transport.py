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

    # Columns that cannot fill up are one private place per row: its best among them.
    roomy = capacity >= np.isfinite(reduced).sum(axis=0)
    private = np.where(roomy, reduced, np.inf)
    aside = np.argmin(private, axis=1)
    slots = np.repeat(np.flatnonzero(~roomy), capacity[~roomy])
    places = reduced[:, slots]
    if roomy.any():
        own = np.full((n, n), np.inf)
        np.fill_diagonal(own, private[np.arange(n), aside])
        places = np.concatenate([places, own], axis=1)
    try:
        _, taken = linear_sum_assignment(places)
    except ValueError as error:  # scipy names no reason
        raise ValueError(f"{n} rows do not fit into their allowed slots") from error
    limited = taken < len(slots)
    choice[limited] = slots[taken[limited]]
    choice[~limited] = aside[~limited]
    return choice


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
    move = np.maximum(_moves(reduced, choice), 0.0)  # no cycles
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


def _moves(reduced: FloatArray, choice: IntArray) -> FloatArray:
    """(m, m) least extra cost of moving one row from a column to another."""
    move = np.full((reduced.shape[1],) * 2, np.inf)
    for column in np.unique(choice):
        rows = choice == column
        move[column] = (reduced[rows] - reduced[rows, column][:, None]).min(axis=0)
    return move


def slot_prices(reduced: FloatArray, choice: IntArray) -> FloatArray:
    """(m,) what one more slot would save, given an optimal `choice`.

    These are the least dual prices: u_b >= u_a - (cost of moving the best row from a to b), for
    all a, b; moves chain, hence m rounds (Bellman-Ford).
    """
    move = _moves(reduced, choice)
    prices = np.zeros(len(move))
    for _ in prices:
        better = np.maximum(prices, (prices[:, None] - move).max(axis=0))
        if np.array_equal(better, prices):
            break
        prices = better
    scale = float(np.abs(reduced[np.isfinite(reduced)]).max(initial=0.0))
    prices[prices <= 1e-12 * scale] = 0.0  # rounding
    return prices
