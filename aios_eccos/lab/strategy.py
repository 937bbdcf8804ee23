"""Strategies: the settings that make a frontier, what is chosen, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.lab.problem import Problem
from aios_eccos.values import FloatArray, IntArray

#: AIOS's SmartRouting: plain means of so many neighbors, and success from which a model qualifies.
AIOS_NEIGHBORS, AIOS_THRESHOLD = 16, 0.7


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy was asked for: a floor, budget ($ per call), lambda or threshold; or none."""

    name: str | None = None
    value: float | None = None

    @property
    def number(self) -> float:
        return 0.0 if self.value is None else self.value


@dataclass(frozen=True, slots=True)
class Picked:
    """(n,) columns, or (m,) probabilities `mix`, of which figures are expectations then.

    `promised`: mean success that it says it will have, NaN where it says nothing; `rounds`: (n,)
    batch in which each row was served, if some had to wait; `came_to`: (n,) success and dollars,
    where no column says them (`choice` then has the models whose answers were given).
    """

    choice: IntArray
    promised: float = float("nan")
    rounds: IntArray | None = None
    mix: FloatArray | None = None
    came_to: tuple[FloatArray, FloatArray] | None = None


#: The settings that make a frontier, given the floors and budgets asked for.
Sweep = Callable[[Problem, Sequence[Setting]], Sequence[Setting]]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to choose; `forecasts`: whether it uses the predictor's."""

    name: str
    settings: Sweep
    choose: Callable[[Problem, Setting], Picked]
    forecasts: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """One strategy at one setting on one split; success (fraction) and cost (dollars) are means.

    `violations`: rows above a model's limit, summed over batches; `decision_s`: seconds per row
    without forecasts; `share` of the rows by model; `tasks`: mean success by task.
    """

    strategy: str
    predictor: str | None
    setting: Setting
    split: int
    success: float
    promised: float
    cost: float
    violations: int
    decision_s: float
    share: dict[str, float]
    tasks: dict[str, float]


def play(strategy: Strategy, problem: Problem, setting: Setting, split: int) -> Played:
    """Let a strategy choose and look up what became of it."""
    begun = time.perf_counter()
    picked = strategy.choose(problem, setting)
    seconds = time.perf_counter() - begun
    calls = problem.calls
    shares = np.zeros(calls.success.shape)
    if picked.mix is not None:
        shares[:, : problem.m] = picked.mix
    else:
        shares[np.arange(problem.n), picked.choice] = 1.0
    got, spent = ((shares * values).sum(axis=1) for values in (calls.outcomes, calls.spent))
    if picked.came_to is not None:
        got, spent = picked.came_to
    tasks = np.array(problem.test.tasks)
    return Played(
        strategy=strategy.name,
        predictor=problem.kind if strategy.forecasts else None,
        setting=setting,
        split=split,
        success=float(got.mean()),
        promised=picked.promised,
        cost=float(spent.mean()),
        violations=_violations(problem, shares, picked.rounds),
        decision_s=seconds / problem.n,
        share=dict(zip(problem.columns, shares.mean(axis=0).tolist(), strict=True)),
        tasks={str(task): float(got[tasks == task].mean()) for task in np.unique(tasks)},
    )


def _violations(problem: Problem, shares: FloatArray, rounds: IntArray | None) -> int:
    """Rows above a model's limit, summed over models and batches; shares of all columns, (n,)
    rounds. A row on a plan begins on both members; it waits for its escape's slot.
    """
    if problem.limits is None:
        return 0
    if rounds is None:
        rounds = np.arange(problem.n) // problem.batch
    shares, begun = shares[:, : problem.m].copy(), shares[:, problem.m :]
    for plan, taken in zip(problem.plans, begun.T, strict=True):
        for member in plan.members:
            shares[:, problem.models.index(member)] += taken
    used = np.array([shares[rounds == number].sum(axis=0) for number in np.unique(rounds)])
    return int(np.ceil(np.maximum(used - problem.limits, 0).sum() - 1e-9))


def nothing(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """One point, no setting."""
    return [Setting()]


def floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The floors asked for, steps of .02, and those that history's prices realise.

    Costs rise steeply where success hardly does, so a frontier needs floors that are even in price
    as well; per-query rivals are swept over the same number of prices.
    """
    by_price = [problem.curve.floor_for(price) for price in price_sweep(problem)]
    return _floors([setting.number for setting in even_floors(problem, asked)], by_price)


def even_floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The floors asked for, and steps of .02."""
    success, cost = problem.past_means()
    low, high = float(success[np.argmin(cost)]), float(success.max())
    even = np.arange(np.floor(low * 50), np.ceil(min(high + 0.03, 1.0) * 50) + 1) / 50
    return _floors([s.number for s in asked if s.name == "floor"], even.tolist())


def _floors(exact: Sequence[float], swept: Sequence[float]) -> Sequence[Setting]:
    grid = {round(float(value), 6) for value in swept if 0 <= value <= 1}
    return [Setting("floor", value) for value in sorted({*exact} | grid)]


def price_sweep(problem: Problem) -> FloatArray:
    """Dollars per success, from where cost decides everything to where success does."""
    curve = problem.curve
    low = float(np.interp(1e-3, curve.promised - curve.promised[0], curve.prices))
    return np.asarray(np.geomspace(max(curve.prices[1], low * 0.3), curve.prices[-1], 48))


def floors_and_budgets(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The same, and the budgets asked for; fewer floors in a stream, where each takes its time."""
    swept = even_floors if problem.arrival.stream else floors
    return [*swept(problem, asked), *(s for s in asked if s.name == "budget")]


def budgets(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The budgets asked for, and a grid between the cheapest and the strongest model's cost."""
    success, cost = problem.past_means()
    ends = float(cost.min()), float(cost[np.argmax(success)])
    grid = np.geomspace(max(min(ends), 1e-12), max(*ends, 1e-12), 48)
    mine = {s.number for s in asked if s.name == "budget"}
    return [Setting("budget", value) for value in sorted(mine | {*grid.tolist()})]


def budgets_and_floors(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """The same, and the floors asked for."""
    return [*budgets(problem, asked), *(s for s in asked if s.name == "floor")]


def lambdas(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """Success per dollar, from where cost does not matter to where nothing else does."""
    return [Setting("lambda", float(1.0 / price)) for price in price_sweep(problem)[::-1]]


def thresholds(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """AIOS's own, and every step that its neighbors can tell apart."""
    steps = np.arange(1, AIOS_NEIGHBORS + 1) / AIOS_NEIGHBORS
    return [Setting("threshold", float(t)) for t in sorted({AIOS_THRESHOLD, *steps})]


def weights(problem: Problem, asked: Sequence[Setting]) -> Sequence[Setting]:
    """Weights of scaled cost beside scaled success, 0 to 1."""
    return [Setting("lambda", float(w)) for w in np.linspace(0.0, 1.0, 41)]
