"""Figures of a comparison, as pure functions of means per call: success (0..1) and dollars.

"Cost at a success" is read off a strategy's non-dominated points, log cost interpolated between two
neighbors; a success that was not reached has no cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from aios_eccos.metrics import saved_share
from aios_eccos.values import FloatArray

#: Below this, costs count as this: free models have no logarithm.
LEAST_COST = 1e-9
#: Points of the way from the cheapest single model to the best one at which costs are compared.
TARGET_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over splits with its standard error; NaN where it cannot be said."""

    mean: float
    error: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error of the finite values; no error for fewer than two."""
    known = np.array([value for value in values if math.isfinite(value)])
    n = len(known)
    error = float(known.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Estimate(float(known.mean()) if n else math.nan, error, n)


@dataclass(frozen=True, slots=True)
class Frontier:
    """Non-dominated points, both rising: (k,) cost and success."""

    cost: FloatArray
    success: FloatArray

    @classmethod
    def of(cls, cost: ArrayLike, success: ArrayLike) -> Frontier:
        """The points that no other one beats in both."""
        spent = np.maximum(np.asarray(cost, dtype=float), LEAST_COST)
        got = np.asarray(success, dtype=float)
        order = np.lexsort((-got, spent))
        best = np.maximum.accumulate(got[order])
        keep = order[np.diff(best, prepend=-np.inf) > 0]
        return cls(spent[keep], got[keep])

    def cost_at(self, success: float) -> float:
        """Cost of reaching a success; the cheapest point's below all of them, NaN above."""
        if not len(self.success) or success > self.success[-1] + 1e-12:
            return math.nan
        return float(np.exp(np.interp(success, self.success, np.log(self.cost))))

    def success_at(self, cost: float) -> float:
        """Success that a cost buys; NaN below the cheapest point."""
        if not len(self.cost) or cost < self.cost[0] * (1 - 1e-9):
            return math.nan
        return float(np.interp(math.log(max(cost, LEAST_COST)), np.log(self.cost), self.success))


def mixture(cost: FloatArray, success: FloatArray, wanted: float) -> FloatArray | None:
    """(m,) probabilities of the cheapest random mixture of two models that reaches a success.

    Of (m,) means of single models; None where no model reaches it.
    """
    best, found = math.inf, None
    for i in np.flatnonzero(success >= wanted):
        for j in (int(i), *np.flatnonzero(success < wanted)):
            share = 1.0 if i == j else (wanted - success[j]) / (success[i] - success[j])
            price = float(share * cost[i] + (1 - share) * cost[j])
            if price < best:
                best, found = price, np.zeros(len(cost))
                found[j] = 1 - share
                found[i] += share
    return found


def hull_cost(cost: FloatArray, success: FloatArray, wanted: float) -> float:
    """Mean cost of that mixture; NaN where no model reaches the success."""
    mix = mixture(cost, success, wanted)
    return math.nan if mix is None else float(mix @ cost)


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Ratio of geometric means over the targets that both reach; NaN if there is none."""
    logs = [
        math.log(max(a, LEAST_COST) / max(b, LEAST_COST))
        for a, b in zip(mine, theirs, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def ratio_over_splits(ratios: Sequence[float]) -> Estimate:
    """Geometric mean of ratios and the standard error of their mean logarithm (about relative)."""
    known = [math.log(value) for value in ratios if math.isfinite(value) and value > 0]
    found = estimate(known)
    return Estimate(math.exp(found.mean), found.error, found.count)


def targets(cheapest: float, best: float) -> list[float]:
    return [cheapest + share * (best - cheapest) for share in TARGET_SHARES]


def gap_closed(own: float, hull: float, clairvoyant: float) -> float:
    """Share of the way from the hull's cost to the clairvoyant's; 1 = nothing left to win."""
    if not hull > clairvoyant:
        return math.nan
    return (hull - own) / (hull - clairvoyant)


def perf_gain(frontier: Frontier, best_single: float) -> float:
    """LLMRouterBench's (2601.07206): best success over the best single model's, relative."""
    return float(frontier.success[-1] / best_single - 1.0) if len(frontier.success) else math.nan


def cost_save(frontier: Frontier, best_success: float, best_cost: float) -> float:
    """LLMRouterBench's: share of the best single model's cost saved at its own success."""
    saved = saved_share(frontier.cost_at(best_success), best_cost)
    return math.nan if saved is None else saved


def pareto_distance(points: Sequence[tuple[float, float]], front: Frontier) -> float:
    """Mean distance of points (cost, success) to a front, each axis scaled to the front's range.

    After LLMRouterBench's ParetoDist; the cost axis is logarithmic, as everywhere here. A point on
    the front has distance 0, one beyond it too.
    """
    if not len(front.cost) or not points:
        return math.nan
    log_cost = np.log(front.cost)
    wide = max(float(np.ptp(log_cost)), 1e-9)
    tall = max(float(np.ptp(front.success)), 1e-9)
    grid = np.linspace(log_cost[0], log_cost[-1], 400)
    line = np.interp(grid, log_cost, front.success)
    cost, success = np.array(points).T
    at = np.log(np.maximum(cost, LEAST_COST))
    away = ((grid - at[:, None]) / wide) ** 2 + ((line - success[:, None]) / tall) ** 2
    short = success < np.interp(at, log_cost, front.success)
    return float((short * np.sqrt(away.min(axis=1))).mean())


def auc(p: FloatArray, y: FloatArray) -> float:
    """Chance that a good answer is forecast above a bad one, ties half; NaN with one class.

    (n,) forecasts and (n,) outcomes 0..1, NaN = missing.
    """
    from scipy.stats import rankdata

    seen = ~np.isnan(y)
    good = y[seen] >= 0.5
    if not good.any() or good.all():
        return math.nan
    ranks = rankdata(p[seen])
    n = int(good.sum())
    return float((ranks[good].sum() - n * (n + 1) / 2) / (n * (len(good) - n)))


def brier(p: FloatArray, y: FloatArray) -> float:
    """Mean squared distance of forecasts and outcomes (0..1, NaN = missing), of one shape."""
    return float(np.nanmean((p - y) ** 2))


def reliability(
    p: FloatArray, y: FloatArray, bins: int = 10
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean forecast, mean outcome and share, each (bins,), of equally filled bins.

    Of (n,) forecasts and (n,) outcomes 0..1, NaN = missing.
    """
    seen = ~np.isnan(y)
    p, y = p[seen], y[seen]
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, max(len(order), 1)))
    return (
        np.array([p[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
        np.array([len(part) / len(order) for part in parts]),
    )


def calibration_error(p: FloatArray, y: FloatArray) -> float:
    """Mean distance of forecast (n,) and outcome (n,) over equally filled bins."""
    said, had, share = reliability(p, y)
    return float((share * np.abs(said - had)).sum())
