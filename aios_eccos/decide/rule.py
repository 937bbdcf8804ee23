"""The one rule by which a model is chosen: least cost less the worth of its success.

    argmin_j  cost_ij - price_i * success_ij + slot_price_ij

This is the row minimum in the Lagrange dual of the assignment problem (ECCOS, arXiv 2502.20576,
section 3.2): at the dual price of the floor it keeps the floor at the least cost. Whatever decides,
calibrates a price, certifies it, or tells what would have been decided, calls `choose`.

Ties, up to rounding, go to the cheaper column, then to the better, then to the first. The cheaper
one, because a price at which two columns tie is the price at which a floor is just kept: the dearer
one would spend money that nobody asked for, and what calibration promises must not need it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from aios_eccos.values import BoolArray, Candidate, FloatArray, IntArray

#: Least worth of a success, in the dearest cost of its row: not zero, so that of columns that cost
#: the same the better serves. Highest, in the dearest cost of all rows: there the strongest column
#: serves, as it must where no price is known (infinite); a success then weighs the same in every
#: row, and sums of such values still carry costs.
LEAST, STRONGEST = 1e-9, 1e6
#: Relative difference of two values that counts as none.
ROUNDING = 1e-12


def success_weight(price: ArrayLike, dearest: FloatArray) -> FloatArray:
    """(n,) what a success weighs against cost: its price, within what arithmetic bears.

    Args:
        price: dollars per success, >= 0, one or (n,); infinite = the strongest at any cost.
        dearest: (n,) dollars, the highest cost in each row; 0 where all are free.
    """
    least = LEAST * np.where(dearest > 0, dearest, 1.0)
    most = STRONGEST * (float(dearest.max()) or 1.0)
    return np.asarray(np.clip(price, np.minimum(least, most), most), dtype=np.float64)


def net_cost(
    cost: FloatArray,
    success: FloatArray,
    price: ArrayLike,
    allowed: BoolArray | None = None,
    slot_prices: FloatArray | float = 0.0,
) -> FloatArray:
    """(n, m) what the rule minimizes, in dollars; infinite where a column cannot be chosen.

    Args:
        cost: (n, m) dollars; a column whose cost is not finite is never chosen.
        success: (n, m) probability of a good answer; a column whose is NaN is never chosen.
        price: dollars per success, one for all rows or (n,); infinite = the strongest.
        allowed: (n, m) bool, or (m,) for all rows; None = all.
        slot_prices: dollars, (m,) or (n, m).
    """
    able = np.isfinite(cost) & ~np.isnan(success)
    if allowed is not None:
        able &= allowed
    dearest = np.where(able, cost, 0.0).max(axis=1)
    worth = success_weight(price, dearest) if len(dearest) else dearest
    value: FloatArray = np.full(cost.shape, np.inf)
    np.subtract(cost + slot_prices, worth[:, None] * success, out=value, where=able)
    return value


def choose(
    cost: FloatArray,
    success: FloatArray,
    price: ArrayLike,
    allowed: BoolArray | None = None,
    slot_prices: FloatArray | float = 0.0,
) -> IntArray:
    """(n,) the column that the rule chooses in each row; -1 where none may be chosen.

    Arguments as in `net_cost`.
    """
    value = net_cost(cost, success, price, allowed, slot_prices)
    line = np.arange(len(value))
    choice: IntArray = value.argmin(axis=1).astype(np.int64)
    least = value[line, choice]
    none = np.isinf(least)
    least[none] = 0.0
    terms = np.where(none, 0.0, np.abs(cost[line, choice]))
    near = value <= (least + ROUNDING * (terms + np.abs(least)))[:, None]
    tied = np.flatnonzero(near.sum(axis=1) > 1)
    if len(tied):
        cheap = np.where(near[tied], cost[tied], np.inf)
        cheap = cheap == cheap.min(axis=1, keepdims=True)
        choice[tied] = np.where(cheap, success[tied], -np.inf).argmax(axis=1)
    choice[none] = -1
    return choice


def rule_of(candidates: Sequence[Candidate]) -> IntArray:
    """(n,) the column that serves each call if every slot is free; -1 if none may.

    The candidates' columns are the same.
    """
    cost, success, allowed = (
        np.stack([getattr(each, name) for each in candidates])
        for name in ("cost", "success", "allowed")
    )
    return choose(cost, success, np.array([each.price for each in candidates]), allowed)


def preferred(candidate: Candidate) -> int:
    """The same of one call."""
    return int(rule_of([candidate])[0])
