"""The settings that make a strategy's frontier: floors, budgets, lambdas, thresholds, weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aios_eccos.lab.neighbors import AIOS_NEIGHBORS
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.strategy import Setting
from aios_eccos.values import FloatArray

#: AIOS's SmartRouting: success from which a model qualifies.
AIOS_THRESHOLD = 0.7


def nothing(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """One point, no setting."""
    return [Setting()]


def floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The floors asked for, steps of .02, and those that history's prices realise.

    Costs rise steeply where success hardly does, so a frontier needs floors that are even in price
    as well; per-query rivals are swept over the same number of prices.
    """
    by_price = [problem.curve.floor_for(price) for price in price_sweep(problem)]
    mine = {s.value for s in even_floors(problem, asked) if s.value is not None}
    grid = {round(float(value), 6) for value in by_price if 0 <= value <= 1}
    return [Setting("floor", value) for value in sorted(mine | grid)]


def even_floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The floors asked for, and steps of .02."""
    mine = {s.value for s in asked if s.name == "floor" and s.value is not None}
    success, cost = problem.past_means()
    low, high = float(success[np.argmin(cost)]), float(success.max())
    even = np.arange(np.floor(low * 50), np.ceil(min(high + 0.03, 1.0) * 50) + 1) / 50
    grid = {round(float(value), 6) for value in even if 0 <= value <= 1}
    return [Setting("floor", value) for value in sorted(mine | grid)]


def price_sweep(problem: Problem) -> FloatArray:
    """Dollars per success, from where cost decides everything to where success does."""
    curve = problem.curve
    low = float(np.interp(1e-3, curve.promised - curve.promised[0], curve.prices))
    return np.asarray(np.geomspace(max(curve.prices[1], low * 0.3), curve.prices[-1], 48))


def floors_and_budgets(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The same, and the budgets asked for; fewer floors in a stream, where each takes its time."""
    swept = even_floors if problem.stream else floors
    return [*swept(problem, asked), *(s for s in asked if s.name == "budget")]


def budgets(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The budgets asked for, and a grid between the cheapest and the strongest model's cost."""
    mine = {s.value for s in asked if s.name == "budget" and s.value is not None}
    success, cost = problem.past_means()
    ends = float(cost.min()), float(cost[np.argmax(success)])
    grid = np.geomspace(max(min(ends), 1e-12), max(*ends, 1e-12), 48)
    return [Setting("budget", value) for value in sorted(mine | {float(b) for b in grid})]


def budgets_and_floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The same, and the floors asked for."""
    return [*budgets(problem, asked), *(s for s in asked if s.name == "floor")]


def lambdas(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """Success per dollar, from where cost does not matter to where nothing else does."""
    return [Setting("lambda", float(1.0 / price)) for price in price_sweep(problem)[::-1]]


def thresholds(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """AIOS's own, and every step that 16 neighbors can tell apart."""
    steps = np.arange(1, AIOS_NEIGHBORS + 1) / AIOS_NEIGHBORS
    return [Setting("threshold", float(t)) for t in sorted({AIOS_THRESHOLD, *steps})]


def value_of(setting: Setting) -> float:
    """The setting's number."""
    return 0.0 if setting.value is None else setting.value


def weights(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """Weights of scaled cost beside scaled success, 0 to 1."""
    return [Setting("lambda", float(w)) for w in np.linspace(0.0, 1.0, 41)]
