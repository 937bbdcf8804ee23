"""What it costs that calls arrive a few at a time instead of all together.

Two rules are replayed in order of arrival, batch by batch: `floor` puts the (selection-aware) floor
on every batch by itself, `price` takes the argmin at the price at which history realises the floor.
Both are compared with the one-batch assignment of the same forecasts at equal realised success, so
that a rule cannot look cheap by missing the floor. `decide.assign.WHOLE_BATCH` was chosen by the
same replay on history alone (one half prices, the other is replayed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import one_floor
from aios_eccos.decide.whole.solve import solve
from aios_eccos.floor.curve import PriceCurve, price_curve
from aios_eccos.lab.problem import Problem
from aios_eccos.values import FloatArray, IntArray

#: One-batch assignments that make the frontier.
FRONTIER_POINTS = 80
#: Rows that come together; beside them all at once is measured.
BATCHES = (1, 4, 16, 64, 128, 256, 512)


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
        batch: rows that come together; None = all.
        success, cost: realised, means per call.
        ratio: cost / that of one batch at the same realised success; NaN outside its range.
    """

    rule: str
    batch: int | None
    floor: float
    success: float
    cost: float
    ratio: float


def stream_rows(
    curve: PriceCurve, test: Replay, floors: Sequence[float], batches: Sequence[int] = BATCHES
) -> list[StreamRow]:
    """Both rules at every floor and batch size.

    Args:
        curve: of the history, whose forecasts must not have seen their own rows.
        batches: rows per batch, beside all at once.
    """
    one_batch, n = frontier(test), len(test.cost)
    rows = []
    for batch in (*(size for size in batches if size < n), None):
        for floor in floors:
            for rule, decide in (("floor", _by_floor), ("price", _by_price)):
                success, cost = _replay(test, batch or n, decide(curve, floor, test))
                ratio = cost / cost_at(one_batch, success)
                rows.append(StreamRow(rule, batch, floor, success, cost, ratio))
    return rows


@dataclass(frozen=True, slots=True)
class Streams:
    """`ratios` of one split: of the test rows, and of a half of the history priced by the other."""

    split: int
    test: dict[tuple[str, int | None], float]
    history: dict[tuple[str, int | None], float]


def streams(problem: Problem, split: int, floors: Sequence[float]) -> Streams:
    """The test rows in their order of arrival; and history alone, whose costs are forecasts."""
    test = Replay(problem.success, problem.cost, problem.outcomes, problem.spent)
    success, outcomes = problem.past_success, problem.past_outcomes
    cost = problem.past_forecast_cost
    whole = np.flatnonzero(~(np.isnan(outcomes) | np.isnan(success)).any(axis=1))
    mixed = np.random.default_rng(problem.seed).permutation(whole)
    known, new = np.array_split(mixed, 2)
    curve = price_curve(success[known], outcomes[known], cost[known])
    past = Replay(success[new], cost[new], outcomes[new], cost[new])
    return Streams(
        split,
        ratios(stream_rows(problem.curve, test, floors)),
        ratios(stream_rows(curve, past, floors)),
    )


def ratios(rows: Sequence[StreamRow]) -> dict[tuple[str, int | None], float]:
    """Geometric mean ratio over the floors, by rule and batch size."""
    found: dict[tuple[str, int | None], list[float]] = {}
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
    return frontier_of(np.array(points))


def frontier_of(points: FloatArray) -> FloatArray:
    """(2, k) the (success, cost) points (n, 2) that none is better and cheaper than, rising."""
    best: list[tuple[float, float]] = []
    for success, cost in sorted(points.tolist(), key=lambda point: (point[1], -point[0])):
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
