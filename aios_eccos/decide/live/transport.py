"""Least cost under limits alone: a transportation problem, whose optimum is whole by itself."""

from __future__ import annotations

import numpy as np

from aios_eccos.values import FloatArray, IntArray


def transport(reduced: FloatArray, capacity: IntArray) -> IntArray:
    """(n,) column per row with the least sum of `reduced` (inf = not allowed) under the limits.

    Raises:
        ValueError: not all rows fit (ask `servable` first).
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


def moves(reduced: FloatArray, choice: IntArray) -> FloatArray:
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
    move = moves(reduced, choice)
    prices = np.zeros(len(move))
    for _ in prices:
        better = np.maximum(prices, (prices[:, None] - move).max(axis=0))
        if np.array_equal(better, prices):
            break
        prices = better
    scale = float(np.abs(reduced[np.isfinite(reduced)]).max(initial=0.0))
    prices[prices <= 1e-12 * scale] = 0.0  # rounding
    return prices
