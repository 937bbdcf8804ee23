"""How fast the optimizer is, how near the optimum, and how the full LP in HiGHS compares.

Instances are recorded ones (forecasts of a data set's test rows, drawn with replacement and
jittered), random ones (`3 floors`: with one for each of three agents), and three that are hard on
purpose: `ties` (few different costs and forecasts), `dominant` (one model nearly free and far
better, with too few slots) and `edge` (the floor one ten-thousandth below what the limits let
anybody reach).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, one_floor
from aios_eccos.decide.whole import lp
from aios_eccos.decide.whole.program import program_of
from aios_eccos.decide.whole.solve import solve
from aios_eccos.lab.bench_rows import Row
from aios_eccos.lab.problem import Calls
from aios_eccos.values import FloatArray

MODELS = 10
#: Rows above which the full LP is not run: it takes minutes.
PEER_ROWS = 10_000
#: Milliseconds allowed by number of rows; sizes between have no budget of their own.
BUDGETS_MS = {1: 5.0, 8: 5.0, 64: 5.0, 10_000: 120.0, 100_000: 1_500.0}
#: Relative gap allowed from here on; a smaller batch cannot be split that finely.
FINE_ROWS, MOST_GAP = 10_000, 1e-4
#: By number of rows, how many times faster than HiGHS.
LEAST_RATIOS = {1_000: 5.0, 10_000: 20.0}
#: Jitter of drawn rows: standard deviations of log-odds and log cost.
JITTER = 0.1


@dataclass(frozen=True)
class SolvedRow(Row):
    """One instance, measured: "optimizer" (floor and limits) or "price" (the rule of small
    batches).

    The peer is the full LP by the method that scipy takes by itself, `interior` is HiGHS's
    interior-point method. `gap` is by the solver's own certificate, `excess` the relative cost
    above the LP optimum, `split` counts rows that the relaxed optimum divides between models.
    """

    interior: float | None = None
    gap: float = 0.0
    excess: float | None = None
    split: int = 0
    status: str = ""

    @property
    def kept(self) -> bool:
        """Whether ratio and gap are what they must be."""
        return super().kept and (self.n < FINE_ROWS or self.gap <= MOST_GAP)


def instances(
    n: int, *, seed: int, base: tuple[str, Calls] | None
) -> Iterator[tuple[str, AssignmentProblem]]:
    """Every kind with n rows; limits sum to 1.5 n (1.2 n for `ties`) and bind.

    Args:
        base: name and forecasts of recorded questions, if there are any.
    """
    rng = np.random.default_rng([seed, n])
    if base is not None:
        name, calls = base
        drawn = calls.rows(rng.integers(0, len(calls), n))
        odds = np.clip(drawn.success, 1e-3, 1 - 1e-3)
        odds = np.log(odds / (1 - odds)) + rng.normal(0, JITTER, odds.shape)
        cost = drawn.cost * np.exp(rng.normal(0, JITTER, odds.shape))
        yield name, _between(cost, 1 / (1 + np.exp(-odds)), 1.5)
    cost, success = _random(rng, n)
    yield "random", _between(cost, success, 1.5)
    yield "3 floors", _three_floors(_between(cost, success, 1.5))
    few = np.array([1, 2, 5, 10]) * 1e-4
    cost = few[rng.integers(0, 4, MODELS)] * rng.integers(1, 4, (n, 1))
    yield "ties", _between(cost, rng.integers(0, 5, (n, MODELS)) / 4, 1.2)
    cost = 1e-4 * np.exp(rng.normal(0, 0.3, (n, MODELS)))
    success = rng.random((n, MODELS)) / 2
    cost[:, 0] *= 0.01
    success[:, 0] = 0.9 + success[:, 0] / 5
    capacity = np.where(np.arange(MODELS) == 0, -(-n // 4), n)
    yield "dominant", _between(cost, success, capacity)
    cost, success = _random(rng, n)
    problem = _between(cost, success, 1.5)
    reach = solve(one_floor(cost, success, 1.0, capacity=problem.capacity)).floor_success[0]
    floor = max(float(reach) - 1e-4, 0.0)
    yield "edge", one_floor(cost, success, floor, capacity=problem.capacity)


def _random(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Ten models, the dearer the better, on questions of every difficulty."""
    base = np.exp(rng.normal(0, 1.5, MODELS))
    cost = 1e-3 * base * np.exp(rng.normal(0, 0.4, (n, MODELS)))
    skill = np.log(base) / 2
    odds = skill - skill.mean() + rng.normal(0, 1, (n, 1)) + rng.normal(0, 0.7, (n, MODELS))
    return cost, 1 / (1 + np.exp(-odds))


def _between(cost: FloatArray, success: FloatArray, limits: Any) -> AssignmentProblem:
    """The floor two thirds of the way from the cheapest to the best assignment within limits."""
    n, m = cost.shape
    capacity = np.full(m, int(np.ceil(limits * n / m))) if np.isscalar(limits) else limits
    ends = [
        float(solve(one_floor(cost, success, floor, capacity=capacity)).success)
        for floor in (0.0, 1.0)
    ]
    floor = ends[0] + (ends[1] - ends[0]) * 2 / 3
    return one_floor(cost, success, floor, capacity=capacity)


def _three_floors(problem: AssignmentProblem) -> AssignmentProblem:
    """Every third row has a floor of its own, lower or higher in the range of one for all."""
    n, capacity = problem.n, problem.capacity
    ends = [
        solve(one_floor(problem.cost, problem.success, floor, capacity=capacity)).choice
        for floor in (0.0, 1.0)
    ]
    low, high = (problem.success[np.arange(n), choice] for choice in ends)
    floors = []
    for third, share in enumerate((0.5, 0.6, 0.7)):
        rows = np.arange(n) % 3 == third
        if rows.any():
            least, most = float(low[rows].mean()), float(high[rows].mean())
            floors.append(FloorRow(rows, least + max(most - least, 0.0) * share))
    return replace(problem, floors=tuple(floors))


def measure(
    kind: str, problem: AssignmentProblem, *, peer: bool, repeats: int | None = None
) -> list[SolvedRow]:
    """The whole assignment, the full LP, and for small batches the rule at the floor's price."""
    n = problem.n
    times = repeats or (25 if n <= 64 else 5 if n <= PEER_ROWS else 3)
    value = _median_ms(lambda: solve(problem), times)
    solution = solve(problem)
    row = SolvedRow("optimizer", kind, n, value, gap=solution.gap, split=solution.split,
                    status=solution.status.value, budget=BUDGETS_MS.get(n))  # fmt: skip
    if peer and n <= PEER_ROWS:
        peer_ms, _ = _full_lp(problem, solution.cost, "highs")
        interior, excess = _full_lp(problem, solution.cost, "highs-ipm")
        row = replace(row, peer="HiGHS LP", peer_value=peer_ms, interior=interior, excess=excess,
                      least=LEAST_RATIOS.get(n))  # fmt: skip
    rows = [row]
    if n <= 64:
        known = np.where(np.isfinite(solution.floor_prices), solution.floor_prices, 0.0)
        price = np.zeros(n)
        for worth, floor in zip(known, problem.floors, strict=True):
            price += worth * floor.rows
        value = _median_ms(lambda: solve_at_price(problem, price), times)
        found = solve_at_price(problem, price)
        rows.append(SolvedRow("price", kind, n, value, gap=found.gap, split=found.split,
                              status=found.status.value, budget=BUDGETS_MS.get(n)))  # fmt: skip
    return rows


def _full_lp(problem: AssignmentProblem, cost: float, method: str) -> tuple[float, float | None]:
    """Milliseconds of HiGHS on every row and column, and the excess of a cost above its optimum."""
    begun = time.perf_counter()
    program, _ = program_of(problem, np.arange(problem.n), problem.capacity)
    answer = lp.relaxed(program, method=method)
    spent = (time.perf_counter() - begun) * 1e3
    if answer is None:
        return spent, None
    optimum = float((answer.shares * problem.cost).sum())
    return spent, cost / optimum - 1 if optimum > 0 else 0.0


def _median_ms(call: Callable[[], object], times: int) -> float:
    call()  # what is imported and allocated once does not count
    spent = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        spent.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(spent)
