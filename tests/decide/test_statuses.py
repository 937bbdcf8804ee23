"""What a solution says of itself is true: optimal, binding, out of reach, whatever the numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from optimize_world import KINDS, check, draw, exact

from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Solution, Status, one_floor
from aios_eccos.decide.whole.solve import solve


def every(problem: AssignmentProblem) -> Iterator[np.ndarray]:
    """All assignments of all rows that keep limits and floors."""
    line = np.arange(problem.n)
    for columns in itertools.product(range(problem.m), repeat=problem.n):
        choice = np.array(columns)
        if not problem.allowed[line, choice].all():
            continue
        if (np.bincount(choice, minlength=problem.m) > problem.capacity).any():
            continue
        got = problem.success[line, choice]
        if all(got[f.rows].sum() >= (f.floor - 1e-9) * f.rows.sum() for f in problem.floors):
            yield choice


def small(seed: int, kind: str, floors: int) -> AssignmentProblem:
    """A few rows of costs of one kind, with floors that some assignment may meet."""
    rng = np.random.default_rng([seed, floors])
    n, m = (1, 3) if kind == "one row" else (5, 3)
    cost = 10.0 ** rng.uniform(0, 6) * rng.lognormal(0, 1, (n, m)) * np.geomspace(1, 1e3, m)
    scale = {"tiny": 1e-150, "huge": 1e150, "dollars": 1e-6}.get(kind, 1.0)
    if kind == "equal costs":
        cost[:] = 0.3
    elif kind == "a free model":
        cost[:, 0] = 0.0
    elif kind == "all free":
        cost[:] = 0.0
    elif kind == "all sizes":
        cost = 10.0 ** rng.uniform(-20, 20, (n, m))
    allowed = rng.random((n, m)) < (0.7 if kind == "closed" else 1.0)
    if kind == "infinite costs":
        cost[rng.random((n, m)) < 0.3] = np.inf
    success = np.clip(rng.beta(2, 2, (n, m)) + np.linspace(0, 0.3, m), 0, 1)
    group = rng.integers(0, max(floors, 1), n)
    rows = tuple(FloorRow(group == k, float(rng.uniform(0.3, 0.8))) for k in range(floors))
    capacity = rng.integers(1, n + 1, m)
    return AssignmentProblem(cost * scale, success, capacity, allowed, rows)


SMALL = (
    "dollars", "tiny", "huge", "equal costs", "a free model", "all free", "all sizes", "closed",
    "infinite costs", "one row",
)  # fmt: skip


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("floors", [0, 1, 2])
def test_optimal_is_said_only_of_the_optimum(kind: str, floors: int) -> None:
    for seed in range(25):
        problem = small(seed, kind, floors)
        solution = solve(problem)
        check(problem, solution.choice)
        if (solution.choice < 0).any():
            assert {Status.OVER_CAPACITY, Status.NO_ALLOWED_MODEL} & set(solution.statuses)
            continue
        line = np.arange(problem.n)
        costs = [problem.cost[line, choice].sum() for choice in every(problem)]
        assert (Status.INFEASIBLE_FLOOR in solution.statuses) == (not costs)
        if not costs:
            continue
        best = min(costs)
        assert solution.lower_bound <= best * (1 + 1e-6)
        assert solution.cost * (1 - solution.gap) <= best * (1 + 1e-6)
        if solution.status is Status.OPTIMAL:
            assert solution.cost <= best * (1 + 1e-6)


def test_a_gap_that_is_left_is_said_with_several_floors() -> None:
    """Forty rows and three floors, of which a third of the cost could be saved."""
    said = 0
    for seed in range(60):
        problem = draw(seed, n=40, m=3, kind=KINDS[seed % len(KINDS)], floors=3)
        solution = solve(problem)
        if set(solution.statuses) - {Status.OPTIMAL, Status.UNPROVEN}:
            continue
        best = exact(problem)
        assert best is not None
        least = problem.cost[np.arange(40), best].sum()
        assert solution.cost <= least * (1 + 1e-6) or solution.status is Status.UNPROVEN
        said += solution.status is Status.UNPROVEN
    assert said > 5


def full_columns(problem: AssignmentProblem, solution: Solution) -> set[str]:
    used = np.bincount(solution.choice[solution.choice >= 0], minlength=problem.m)
    return {f"slot:{j}" for j in np.flatnonzero(used >= problem.capacity)}


def named(solution: Solution) -> set[str]:
    return {name for name in solution.binding if name.startswith("slot:")}


@pytest.mark.parametrize("n", [60, 500, 2_000, 20_000])
def test_no_limit_is_named_where_there_is_none(n: int) -> None:
    cost, success = np.tile([1e-5, 1e-4, 1e-3], (n, 1)), np.tile([0.5, 0.7, 0.9], (n, 1))
    solution = solve(one_floor(cost, success, 0.6))
    assert solution.binding == ("floor:0",)
    assert not solution.slot_prices.any()


@pytest.mark.parametrize("seed", range(12))
def test_only_full_columns_are_named(seed: int) -> None:
    """Equal rows in every third: rounding leaves slots a price where there is room."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(130, 1_500)), int(rng.integers(2, 6))
    cost = 10.0 ** rng.uniform(-6, -2, m) * np.exp(rng.normal(0, 0.3, (n, m)))
    success = np.clip(np.linspace(0.4, 0.9, m) + rng.normal(0, 0.1, (n, m)), 0, 1)
    if seed % 3 == 0:
        cost, success = np.tile(cost[:1], (n, 1)), np.tile(success[:1], (n, 1))
    capacity = np.full(m, n) if seed % 2 else rng.integers(n // m, n, m)
    floor = float(success.max(axis=1).mean() * rng.uniform(0.6, 0.97))
    problem = one_floor(cost, success, floor, capacity=capacity)
    for solution in (solve(problem), solve_at_price(problem, float(cost.mean()))):
        assert named(solution) <= full_columns(problem, solution)
        assert not solution.slot_prices[capacity >= n].any()


@pytest.mark.parametrize("exponent", [-100, -15, -7, 5, 20, 100])
@pytest.mark.parametrize("n", [1, 30, 400, 1_200])
def test_the_unit_of_money_changes_no_choice(n: int, exponent: int) -> None:
    rng = np.random.default_rng(n)
    m, scale = 5, 10.0**exponent
    success = np.clip(rng.beta(2, 2, (n, m)) + np.linspace(0, 0.3, m), 0, 1)
    cost = np.geomspace(1, 1e4, m) * rng.lognormal(0, 1, (n, m))
    floors = (FloorRow(np.arange(n) % 2 == 0, 0.6), FloorRow(np.ones(n, dtype=bool), 0.55))
    rest = success, np.full(m, max(1, n // 3)), np.ones((n, m), dtype=bool), floors
    plain, scaled = AssignmentProblem(cost, *rest), AssignmentProblem(cost * scale, *rest)
    for one, other in (
        (solve(plain), solve(scaled)),
        (solve_at_price(plain, 500.0), solve_at_price(scaled, 500.0 * scale)),
    ):
        assert (one.choice == other.choice).all()
        assert (one.statuses, one.binding) == (other.statuses, other.binding)
        assert other.lower_bound == pytest.approx(one.lower_bound * scale, rel=1e-9)
        assert other.slot_prices == pytest.approx(one.slot_prices * scale, rel=1e-6)


def test_nobody_may_serve() -> None:
    problem = one_floor(np.ones((3, 2)), np.ones((3, 2)), 0.5, allowed=np.zeros((3, 2), bool))
    for solution in (solve(problem), solve_at_price(problem, 1.0)):
        assert solution.status is Status.NO_ALLOWED_MODEL
        assert solution.choice.tolist() == [-1, -1, -1]
        assert (solution.cost, solution.gap) == (0.0, 0.0)


def test_a_column_without_cost_or_forecast_is_closed() -> None:
    cost, success = np.array([[np.inf, 1.0, 1.0]] * 2), np.array([[0.9, np.nan, 0.5]] * 2)
    problem = one_floor(cost, success, 0.9)
    for solution in (solve(problem), solve_at_price(problem, np.inf)):
        assert solution.choice.tolist() == [2, 2]
