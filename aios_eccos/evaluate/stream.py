"""What it costs that calls arrive a few at a time instead of all together.

Two rules are replayed over the test rows in order of arrival, batch by batch: `floor` puts the
(selection-aware) floor on every batch by itself, `price` takes the argmin at the price at which
history realises the floor. Both are compared with the one-batch assignment of the same forecasts
at equal realised success, so that a rule cannot look cheap by missing the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..optimize.problem import one_floor
from ..optimize.solve import solve, solve_at_price
from ..predict.floor import PriceCurve, price_curve
from ..values import FloatArray, IntArray

#: One-batch assignments that make the frontier.
FRONTIER_POINTS = 80


@dataclass(frozen=True)
class Replay:
    """Forecasts and what really happened, rows in order of arrival.

    Attributes:
        success, cost: (n, m) forecasts; cost in dollars.
        outcomes, spent: (n, m) recorded correctness and dollars.
    """

    success: FloatArray
    cost: FloatArray
    outcomes: FloatArray
    spent: FloatArray


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One rule at one floor and batch size.

    Attributes:
        success, cost: realised, means per call.
        ratio: cost / that of one batch at the same realised success; NaN outside its range.
    """

    rule: str
    batch: int
    floor: float
    success: float
    cost: float
    ratio: float


def stream_rows(
    history: Replay, test: Replay, floors: Sequence[float], batches: Sequence[int]
) -> list[StreamRow]:
    """Both rules at every floor and batch size.

    Args:
        history: its forecasts must not have seen their own rows.
        batches: rows per batch; a size above the number of rows is one batch.
    """
    curve = price_curve(history.success, history.outcomes, history.cost)
    one_batch = frontier(test)
    rows = []
    for batch in sorted({min(size, len(test.cost)) for size in batches}):
        for floor in floors:
            for rule, decide in (("floor", _by_floor), ("price", _by_price)):
                success, cost = _replay(test, batch, decide(curve, floor, test))
                ratio = cost / cost_at(one_batch, success)
                rows.append(StreamRow(rule, batch, floor, success, cost, ratio))
    return rows


def ratios(rows: Sequence[StreamRow]) -> dict[tuple[str, int], float]:
    """Geometric mean ratio over the floors, by rule and batch size."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if np.isfinite(row.ratio):
            found.setdefault((row.rule, row.batch), []).append(np.log(row.ratio))
    return {key: float(np.exp(np.mean(logs))) for key, logs in found.items()}


def frontier(test: Replay) -> FloatArray:
    """(2, k) realised success and cost of one-batch assignments that no other one beats."""
    low, high = (solve(one_floor(test.cost, test.success, floor)).success for floor in (0.0, 1.0))
    points = []
    for floor in np.linspace(low, high, FRONTIER_POINTS):
        choice = solve(one_floor(test.cost, test.success, float(floor))).choice
        points.append(_realised(test, choice))
    points.sort(key=lambda point: (point[1], -point[0]))
    best: list[tuple[float, float]] = []
    for success, cost in points:
        if not best or success > best[-1][0]:
            best.append((success, cost))
    return np.array([[s for s, _ in best], [c for _, c in best]], dtype=np.float64)


def cost_at(points: FloatArray, success: float) -> float:
    """Cost of a success on the frontier, log-linear between its points; NaN beyond its best."""
    if success > points[0, -1]:
        return float("nan")
    return float(np.exp(np.interp(success, points[0], np.log(np.maximum(points[1], 1e-300)))))


Decide = Callable[[IntArray], IntArray]


def _by_floor(curve: PriceCurve, floor: float, test: Replay) -> Decide:
    internal = curve.internal_floor(floor)
    return lambda rows: solve(one_floor(test.cost[rows], test.success[rows], internal)).choice


def _by_price(curve: PriceCurve, floor: float, test: Replay) -> Decide:
    price = curve.price_for(floor)
    return lambda rows: (
        solve_at_price(one_floor(test.cost[rows], test.success[rows], floor), price).choice
    )


def _replay(test: Replay, batch: int, decide: Decide) -> tuple[float, float]:
    n = len(test.cost)
    parts = [decide(np.arange(at, min(at + batch, n))) for at in range(0, n, batch)]
    return _realised(test, np.concatenate(parts))


def _realised(test: Replay, choice: IntArray) -> tuple[float, float]:
    line = np.arange(len(choice))
    return float(test.outcomes[line, choice].mean()), float(test.spent[line, choice].mean())
