"""The floor's price: what lambda keeps, on realised success, the floor that was asked for.

A decision is argmin_j c_ij - lambda p_ij. It picks what looks cheap and good, so it picks the
forecasts' errors too (the winner's curse), and success that was promised is not had. Therefore the
very decision is replayed over the history, for a grid of lambdas, with forecasts that have not seen
the record; the gap between promised and realised success, smoothed, corrects every later look-up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.floor.top import Top, top_of
from aios_eccos.values import BoolArray, FloatArray

#: Chance that a model is taken to be stronger than it is, where the strongest is sought.
SURE = 0.1
#: Lambdas replayed, geometric between prices that no query pays and that every query pays.
GRID = 97
#: Points, even in promised success, through which the gap is smoothed.
GAP_POINTS = 24
#: Rows replayed at most; beyond them the curve's error is below .004.
MAX_ROWS = 8000
#: Share of the range of promised success below which a price counts as idle. Chosen on history:
#: without it a shift leaves twice the shortfall; quiet streams are the same within .0002.
IDLE = 0.05
#: A price is idle too at this share of the last one at which cost exceeds the least by at most this
#: share: forecasts of calls are not quite those of history, and an idle price must waste nothing.
IDLE_PRICE, IDLE_COST = 0.5, 0.01
#: Verdicts below which there is no curve, and a router leans to the strongest model.
MIN_VERDICTS = 30


@dataclass(frozen=True)
class PriceCurve:
    """What each lambda promises, realises and costs on the history.

    Attributes:
        prices: (G,) lambdas, rising from 0, in cost per unit of success.
        promised: (G,) mean forecast success of the choices, never falling.
        realised: (G,) success had, smoothed, never falling.
        cost: (G,) mean cost per call.
        verdicts: judged choices at the dearest price, the evidence behind the curve.
        top: how floors are served that no price keeps; None = at the dearest price.
    """

    prices: FloatArray
    promised: FloatArray
    realised: FloatArray
    cost: FloatArray
    verdicts: int
    top: Top | None = None

    @property
    def reachable(self) -> float:
        """The highest floor that the curve says can be kept."""
        return float(self.realised[self._last])

    @property
    def _last(self) -> int:
        return len(self.realised) - 1 if self.top is None else self.top.index

    @functools.cached_property
    def ends(self) -> tuple[float, float]:
        """The range of prices in which choices change: where control moves a price.

        Below the least hardly a choice changes, so nearly nothing is saved there; a price that
        waits down there would only have to come back when calls become harder.
        """
        reach = self.promised[-1] - self.promised[0]
        first = int(np.argmax(self.promised >= self.promised[0] + IDLE * reach))
        spent = np.maximum.accumulate(self.cost)
        cheap = int(np.flatnonzero(spent <= (1 + IDLE_COST) * spent[0])[-1])
        least = min(float(self.prices[max(first, 1)]), IDLE_PRICE * float(self.prices[cheap]))
        return max(least, float(self.prices[1])), float(self.prices[-1])

    @functools.cached_property
    def saturated(self) -> float:
        """The least price at which nearly all is spent that can be: dearer ones change little."""
        spent = np.maximum.accumulate(self.cost)
        reach = spent[-1] - spent[0]
        return float(self.prices[int(np.argmax(spent >= spent[-1] - IDLE * reach))])

    def price_for(self, floor: float) -> float:
        """Least lambda that realises the floor; the top one where none does."""
        return float(np.exp(self._at(floor, self._log_prices)))

    def internal_floor(self, floor: float) -> float:
        """The promised success at which `floor` is realised (the selection-aware floor).

        For a batch that is solved whole at history's own price, as in the evaluation's streams.
        """
        shift = self._at(floor, self.promised - self.realised)
        return float(np.clip(floor + shift, 0.0, 1.0))

    def cost_for(self, floor: float) -> float:
        """Mean cost per call of keeping the floor, or of what serves it where no price does."""
        if self.top is not None and floor > self.reachable:
            return self.top.cost
        return self._at(floor, self.cost)

    def floor_for(self, price: float) -> float:
        """Success that a lambda realises: a floor, kept at a price that control has moved."""
        return float(np.interp(price, self.prices, self.realised))

    def optimism(self, price: float) -> float:
        """By how much promised success exceeds realised success at a lambda."""
        return float(np.interp(price, self.prices, self.promised - self.realised))

    def price_for_cost(self, budget: float) -> float:
        """Greatest lambda whose mean cost per call is within `budget`; the least if none is."""
        spent = np.maximum.accumulate(self.cost)
        return float(np.exp(np.interp(budget, spent, self._log_prices)))

    @functools.cached_property
    def _log_prices(self) -> FloatArray:
        logs: FloatArray = np.log(np.maximum(self.prices, self.prices[1] / 10))
        return logs

    def _at(self, floor: float, values: FloatArray) -> float:
        """A (G,) row where the floor is first realised; at the top where it never is."""
        right = int(np.searchsorted(self.realised[: self._last + 1], floor, side="left"))
        if right == 0 or right > self._last:
            return float(values[min(right, self._last)])
        low, high = self.realised[right - 1], self.realised[right]
        share = (floor - low) / (high - low)
        return float(values[right - 1] + share * (values[right] - values[right - 1]))


def price_curve(
    success: FloatArray,
    outcomes: FloatArray,
    cost: FloatArray,
    *,
    allowed: BoolArray | None = None,
    weights: FloatArray | None = None,
) -> PriceCurve:
    """Replay the history at every lambda of the grid.

    Args:
        success: (N, m) forecasts that have not seen their own record, NaN = none.
        outcomes: (N, m) correctness, NaN = missing: then the choice counts as promised only.
        cost: (N, m) expected cost.
        allowed: (N, m) or (m,), columns that may be chosen.
        weights: (N,) importance of each record, for histories whose verdicts are not a fair draw.

    Raises:
        ValueError: there is no record, or no column may be chosen.
    """
    if allowed is not None:
        success = np.where(np.broadcast_to(allowed, success.shape), success, np.nan)
    usable = ~np.isnan(success).all(axis=1)
    if not usable.any():
        raise ValueError("a price curve needs records with at least one allowed forecast")
    rows = np.flatnonzero(usable)
    if len(rows) > MAX_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_ROWS).astype(int)]
    success, outcomes, cost = success[rows], outcomes[rows], cost[rows]
    weight = np.ones(len(rows)) if weights is None else weights[rows]
    prices = _grid(cost)
    line = np.arange(len(rows))
    promised, gap, spent = np.empty(len(prices)), np.empty(len(prices)), np.empty(len(prices))
    judged = np.zeros(len(rows), dtype=bool)
    for g, price in enumerate(prices):
        pick = choose(cost, success, price)
        hope, got = success[line, pick], outcomes[line, pick]
        promised[g] = hope.mean()
        spent[g] = cost[line, pick].mean()
        judged = ~np.isnan(got)
        share = weight * judged
        miss = np.nan_to_num(got) - hope
        gap[g] = (share * miss).sum() / share.sum() if share.sum() else 0.0
    promised = np.maximum.accumulate(promised)
    realised = np.clip(promised + _smooth(promised, gap), 0.0, 1.0)
    return PriceCurve(
        prices, promised, np.maximum.accumulate(realised), spent, verdicts=int(judged.sum())
    )


def _grid(cost: FloatArray) -> FloatArray:
    """0, then geometric: from a thousandth of the usual cost to a thousand times the dearest."""
    positive = cost[cost > 0]
    if not len(positive):
        return np.array([0.0, 1.0])
    low, high = 1e-2 * float(np.median(positive)), 1e3 * float(positive.max())
    return np.concatenate([[0.0], np.geomspace(low, max(high, 10 * low), GRID - 1)])


def _smooth(promised: FloatArray, gap: FloatArray) -> FloatArray:
    """The gap as a quadratic in promised success, fitted evenly over the range of the latter."""
    low, high = promised[0], promised[-1]
    if high - low < 1e-6:
        return np.full(len(gap), gap.mean())
    x = np.linspace(low, high, GAP_POINTS)
    first = np.diff(promised, prepend=-np.inf) > 0
    y = np.interp(x, promised[first], gap[first])
    middle, half = (low + high) / 2, (high - low) / 2
    fit = np.polynomial.polynomial.polyfit((x - middle) / half, y, 2)
    return np.asarray(np.polynomial.polynomial.polyval((promised - middle) / half, fit))


def strongest_of(successes: FloatArray, judged: FloatArray, names: Sequence[str]) -> int | None:
    """Index of the model whose success is surely highest; None where nobody judged any.

    The lower confidence bound decides (Clopper and Pearson 1934, one-sided, `SURE`), so that one
    right answer makes no model the strongest. Ties go by name.

    Args:
        successes: (m,) sums of correctness. judged: (m,) verdicts. names: m names.
    """
    from scipy.special import betaincinv

    had, told = np.asarray(successes, dtype=float), np.asarray(judged, dtype=float)
    if not (told > 0).any():
        return None
    bound = np.where(told > 0, 0.0, -1.0)
    some = (told > 0) & (had > 0)
    bound[some] = betaincinv(had[some], told[some] - had[some] + 1.0, SURE)
    return min(range(len(names)), key=lambda j: (-bound[j], names[j]))


class PriceBook:
    """The history replayed under today's prices: one curve per set of allowed models.

    Curves are made at first use. Of N rows: unseen forecasts, correctness and costs, (N, m + k)
    with columns named by the m `models`, then by k `plans`.
    """

    def __init__(
        self,
        models: Sequence[str],
        success: FloatArray,
        outcomes: FloatArray,
        cost: FloatArray,
        plans: Sequence[str] = (),
    ) -> None:
        self.models = tuple(models)
        self.columns = (*self.models, *plans)
        self._success, self._outcomes, self._cost = success, outcomes, cost
        self._curves: dict[frozenset[str], PriceCurve | None] = {}
        self._strongest: dict[frozenset[str], tuple[str, float] | None] = {}

    def curve(self, allowed: Sequence[str] | None = None) -> PriceCurve | None:
        """The curve over the allowed columns; None with fewer than `MIN_VERDICTS` verdicts."""
        key = frozenset(self.columns if allowed is None else allowed) & frozenset(self.columns)
        if key not in self._curves:  # two who ask at once both make it, and none waits for another
            self._curves[key] = self._build(key)
        return self._curves[key]

    def strongest(self, allowed: Sequence[str] | None = None) -> tuple[str, float] | None:
        """Name and mean success of the strongest allowed model on history (`strongest_of`)."""
        key = frozenset(self.models if allowed is None else allowed)
        if key not in self._strongest:
            self._strongest[key] = self._find_strongest(key)
        return self._strongest[key]

    def _find_strongest(self, among: frozenset[str]) -> tuple[str, float] | None:
        names = [name for name in self.models if name in among]
        outcomes = self._outcomes[:, [self.models.index(name) for name in names]]
        judged = (~np.isnan(outcomes)).sum(axis=0)
        had = np.nansum(outcomes, axis=0)
        best = strongest_of(had, judged, names)
        return None if best is None else (names[best], float(had[best] / judged[best]))

    def alone(self) -> list[tuple[str, float, float]]:
        """Name, mean success and mean cost of each judged model, over its judged records."""
        found = []
        for column, name in enumerate(self.models):
            outcomes, cost = self._outcomes[:, column], self._cost[:, column]
            judged = ~(np.isnan(outcomes) | np.isnan(cost))
            if judged.any():
                found.append((name, float(outcomes[judged].mean()), float(cost[judged].mean())))
        return found

    def _build(self, key: frozenset[str]) -> PriceCurve | None:
        mask = np.array([name in key for name in self.columns], dtype=bool)
        judged = (~np.isnan(self._outcomes[:, mask])).any(axis=1)
        if int(judged.sum()) < MIN_VERDICTS or np.isnan(self._success[:, mask]).all():
            return None
        curve = price_curve(self._success, self._outcomes, self._cost, allowed=mask)
        if not mask[len(self.models) :].any():
            return curve
        _, least = self.strongest([*key]) or ("", math.inf)
        success = np.where(mask, self._success, np.nan)
        rows = success, self._outcomes, self._cost
        top = top_of(self.columns, curve.prices, curve.realised, *rows, least)
        return replace(curve, top=top)
