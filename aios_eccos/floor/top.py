"""The top of a price curve with plans, where forecasts no longer tell columns apart.

Plans succeed nearly as often as each other and as the strongest model, so dearer prices choose
among them by the noise of their forecasts: that costs more and realises less. "Cannot be told
apart" is within one standard error of the best (Breiman et al. 1984), paired by record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.values import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Top:
    """How floors are served that no price keeps.

    Attributes:
        index: of the price that keeps the highest floor.
        success: by column, what it counts as on every call.
        cost: mean cost per call of the choices by that.
    """

    index: int
    success: Mapping[str, float]
    cost: float


def top_of(
    columns: Sequence[str],
    prices: FloatArray,
    realised: FloatArray,
    success: FloatArray,
    outcomes: FloatArray,
    cost: FloatArray,
    strongest: float,
) -> Top | None:
    """The top of a curve; None where no price reaches what the strongest model does.

    Below that nothing is taken to be equal: a short history can tell nothing apart.

    Args:
        prices, realised: (G,) of the curve.
        success, outcomes, cost: (N, columns), as in `price_curve`; success NaN where a column may
            not be chosen.
        strongest: mean success of the strongest model.
    """
    rows = np.flatnonzero(~np.isnan(success).all(axis=1))
    success, outcomes, cost = success[rows], outcomes[rows], cost[rows]
    had = np.array([outcomes[np.arange(len(rows)), choose(cost, success, p)] for p in prices])
    index = max(int(np.argmax(_equal(had))), int(np.searchsorted(realised, strongest)))
    if index >= len(prices):
        return None
    level = np.where(np.isnan(success).all(axis=0), np.nan, _means(outcomes.T))
    as_good = np.flatnonzero(level >= strongest)
    if not len(as_good):
        return None
    equal = as_good[_equal(outcomes.T[as_good])]
    chosen = equal[np.argmin(cost[:, equal].mean(axis=0))]
    level = np.minimum(level, level[chosen])
    alike = np.broadcast_to(level, success.shape)
    pick = choose(cost, alike, float(prices[-1]))
    counts = zip(columns, level.tolist(), strict=True)
    by_name = {name: value for name, value in counts if not np.isnan(value)}
    return Top(index, by_name, float(cost[np.arange(len(rows)), pick].mean()))


def _equal(had: FloatArray) -> BoolArray:
    """Which of k policies are within one standard error of the best, of (k, N) success had."""
    best = int(np.nanargmax(_means(had)))
    lost = had[best] - had
    count = np.maximum((~np.isnan(lost)).sum(axis=1), 1)
    mean = np.nansum(lost, axis=1) / count
    error = np.sqrt(np.maximum(np.nansum(lost**2, axis=1) / count - mean**2, 0.0) / count)
    return np.asarray(mean <= error)


def _means(values: FloatArray) -> FloatArray:
    """(k,) means of (k, N) over what is not NaN; NaN where fewer than half as many as most are."""
    count = (~np.isnan(values)).sum(axis=1)
    enough = 2 * count >= max(int(count.max()), 1)
    return np.where(enough, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)
