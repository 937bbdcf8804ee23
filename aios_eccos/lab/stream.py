"""What it costs that calls arrive a few at a time instead of all together.

`floor` puts the (selection-aware) floor on every batch by itself, `price` takes the argmin at the
price at which history realises it. Both are compared with the one-batch assignment of the same
forecasts at equal realised success. `decide.assign.WHOLE_BATCH` was chosen so, on history alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.problem import one_floor
from aios_eccos.decide.whole.solve import solve
from aios_eccos.floor.curve import PriceCurve, price_curve
from aios_eccos.lab.metrics import Frontier, ratio
from aios_eccos.lab.problem import Calls, Problem
from aios_eccos.values import IntArray

#: One-batch assignments that make the frontier.
FRONTIER_POINTS = 80
#: Rows that come together; beside them all at once is measured.
BATCHES = (1, 4, 16, 64, 128, 256, 512)
#: Rule and batch size (None = all) -> cost beside one batch's at equal success.
Ratios = dict[tuple[str, int | None], float]


@dataclass(frozen=True, slots=True)
class Streams:
    """Ratios of a split's test rows, and of half of the history priced by the other half."""

    split: int
    test: Ratios
    history: Ratios


def streams(problem: Problem, split: int, floors: Sequence[float]) -> Streams:
    past = problem.past_calls
    whole = np.flatnonzero(~(np.isnan(past.outcomes) | np.isnan(past.success)).any(axis=1))
    mixed = np.random.default_rng(problem.plan.seed).permutation(whole)
    known, new = (past.rows(half) for half in np.array_split(mixed, 2))
    curve = price_curve(known.success, known.outcomes, known.cost)
    return Streams(split, ratios(problem.curve, problem.calls, floors), ratios(curve, new, floors))


def ratios(
    curve: PriceCurve, calls: Calls, floors: Sequence[float], batches: Sequence[int] = BATCHES
) -> Ratios:
    """Both rules at every batch size: geometric mean over the floors.

    Args:
        curve: of the history, whose forecasts must not have seen their own rows.
        batches: rows per batch, beside all at once.
    """
    one_batch, n = frontier(calls), len(calls)
    found = {}
    for batch in (*(size for size in batches if size < n), None):
        for rule in ("floor", "price"):
            choices = (_replay(rule, curve, floor, calls, batch or n) for floor in floors)
            points = [calls.came_to(choice) for choice in choices]
            equal = [one_batch.cost_at(success) for success, _ in points]
            value = ratio([cost for _, cost in points], equal)
            if math.isfinite(value):
                found[rule, batch] = value
    return found


def frontier(calls: Calls) -> Frontier:
    low, high = (solve(one_floor(calls.cost, calls.success, floor)).success for floor in (0.0, 1.0))
    points = [
        calls.came_to(solve(one_floor(calls.cost, calls.success, float(floor))).choice)
        for floor in np.linspace(low, high, FRONTIER_POINTS)
    ]
    return Frontier.of([cost for _, cost in points], [success for success, _ in points])


def _replay(rule: str, curve: PriceCurve, floor: float, calls: Calls, batch: int) -> IntArray:
    if rule == "price":  # one call's choice does not hang on the others'
        return calls.choose(curve.price_for(floor))
    internal = curve.internal_floor(floor)
    parts = np.split(np.arange(len(calls)), range(batch, len(calls), batch))
    return np.concatenate(
        [solve(one_floor(calls.cost[p], calls.success[p], internal)).choice for p in parts]
    )
