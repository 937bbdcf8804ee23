"""Assignments against scipy's MILP: feasible whenever there is one, and as cheap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimize_world import KINDS, check, draw, exact, part, problems

from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Solution, Status, one_floor
from aios_eccos.decide.whole import relax
from aios_eccos.decide.whole.solve import solve

SERVED = {Status.OPTIMAL, Status.UNPROVEN}
OUT_OF_REACH = {Status.INFEASIBLE_FLOOR, Status.INFEASIBLE_BUDGET}


def compare(problem: AssignmentProblem, solution: Solution) -> None:
    """Feasible if the MILP is; within 0.1 % of it or the cost of one query; bound below it."""
    check(problem, solution.choice)
    rows = np.flatnonzero(solution.choice >= 0)
    if not len(rows):
        return
    served = part(problem, rows)
    best = exact(served)
    assert (best is None) == bool(OUT_OF_REACH & set(solution.statuses))
    if best is None:
        return
    for floor, reached in zip(served.floors, solution.floor_success, strict=True):
        assert not floor.rows.any() or reached >= floor.floor - 1e-8
    costs = served.cost[np.arange(len(rows)), best]
    if problem.budget is None:
        assert solution.cost <= costs.sum() * 1.001 + costs.max() + 1e-12
        assert solution.lower_bound <= costs.sum() * (1 + 1e-6) + 1e-12
        return
    hits = served.success[np.arange(len(rows)), best]
    assert solution.cost <= problem.budget * len(rows) * (1 + 1e-6) + 1e-12
    assert solution.success * len(rows) >= hits.sum() * 0.999 - 1
    assert solution.success * len(rows) * (1 + solution.gap) >= hits.sum() * (1 - 1e-6)


@settings(max_examples=120, deadline=None)
@given(problems())
def test_floors_and_limits(problem: AssignmentProblem) -> None:
    compare(problem, solve(problem))


@settings(max_examples=60, deadline=None)
@given(problems(floors=(0, 1)), st.floats(0, 1.5))
def test_budget(problem: AssignmentProblem, share: float) -> None:
    priced = replace(problem, budget=share * float(problem.cost.mean()))
    solution = solve(priced)
    compare(priced, solution)


@settings(max_examples=120, deadline=None)
@given(problems(), st.booleans())
def test_the_way_of_large_problems_on_small_ones(problem: AssignmentProblem, budget: bool) -> None:
    if budget:
        problem = replace(problem, budget=float(problem.cost.mean()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relax, "SMALL", 0)
        patch.setattr(relax, "CORES", (4, 64))
        compare(problem, solve(problem))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floors", [0, 1, 4])
def test_certified_at_size(kind: str, floors: int) -> None:
    problem = draw(floors, n=3_000, m=6, kind=kind, limits=True)
    problem = replace(problem, capacity=np.maximum(problem.capacity, 600))
    cost, success, allowed = problem.cost, problem.success, problem.allowed
    best = np.where(allowed, success, 0).max(axis=1)
    cheap = success[np.arange(3_000), np.argmin(np.where(allowed, cost, np.inf), axis=1)]
    rows = []
    for k in range(floors):
        mask = np.arange(3_000) % 3 == k - 1 if k else np.ones(3_000, dtype=bool)
        rows.append(FloorRow(mask, float((best[mask].mean() + 2 * cheap[mask].mean()) / 3)))
    solution = solve(replace(problem, floors=tuple(rows)))
    check(problem, solution.choice)
    assert not OUT_OF_REACH & set(solution.statuses)
    for row, reached in zip(rows, solution.floor_success, strict=True):
        assert reached >= row.floor - 1e-8
    served = solution.choice >= 0
    dearest = cost[served, solution.choice[served]].max()
    assert solution.cost - solution.lower_bound <= max(1e-4 * solution.cost, 2 * dearest)


def test_limits_bind_at_size() -> None:
    rng = np.random.default_rng(5)
    cost = np.exp(rng.normal(0, 1, 8)) * np.exp(rng.normal(0, 0.4, (12_000, 8)))
    success = 1 / (1 + np.exp(-np.log(cost) - rng.normal(0, 1, (12_000, 1))))
    solution = solve(one_floor(cost, success, 0.55, capacity=np.full(8, 1_900)))
    assert solution.gap <= 1e-5
    assert solution.floor_success[0] >= 0.55 - 1e-9
    assert sum(name.startswith("slot") for name in solution.binding) >= 2


@settings(max_examples=60, deadline=None)
@given(problems(floors=(1, 2)), st.floats(0, 0.3))
def test_a_higher_floor_never_costs_less(problem: AssignmentProblem, more: float) -> None:
    higher = tuple(FloorRow(f.rows, min(f.floor + more, 1.0)) for f in problem.floors)
    low, high = solve(problem), solve(replace(problem, floors=higher))
    if not OUT_OF_REACH & set(high.statuses):
        assert not OUT_OF_REACH & set(low.statuses)
        assert low.lower_bound <= high.cost * (1 + 1e-6) + 1e-12
        served = low.choice >= 0
        one = problem.cost[served, low.choice[served]].max(initial=0.0)
        assert low.cost <= high.cost * 1.001 + one + 1e-12


@settings(max_examples=60, deadline=None)
@given(problems(floors=(0, 1)), st.integers(0, 4), st.integers(1, 5))
def test_a_looser_limit_never_costs_more(problem: AssignmentProblem, j: int, by: int) -> None:
    tight = solve(problem)
    if set(tight.statuses) - SERVED:
        return
    capacity = problem.capacity.copy()
    capacity[j % problem.m] += by
    loose = solve(replace(problem, capacity=capacity))
    assert not set(loose.statuses) - SERVED
    assert loose.lower_bound <= tight.cost * (1 + 1e-6) + 1e-12
    one = problem.cost[np.arange(problem.n), loose.choice].max()
    assert loose.cost <= tight.cost * 1.001 + one + 1e-12


@settings(max_examples=60, deadline=None)
@given(problems(floors=(0, 1), limits=False), st.randoms(use_true_random=False))
def test_order_does_not_matter(problem: AssignmentProblem, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    rows, columns = rng.permutation(problem.n), rng.permutation(problem.m)
    moved = part(problem, rows)
    moved = replace(
        moved,
        cost=moved.cost[:, columns],
        success=moved.success[:, columns],
        allowed=moved.allowed[:, columns],
        capacity=moved.capacity[columns],
    )
    one, other = solve(problem), solve(moved)
    assert set(one.statuses) - SERVED == set(other.statuses) - SERVED
    if not set(one.statuses) - SERVED:
        assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-6, abs=1e-12)
        dearest = problem.cost[np.arange(problem.n), one.choice].max()
        assert abs(other.cost - one.cost) <= 1e-3 * one.cost + dearest + 1e-12


@pytest.mark.parametrize("exponent", [-9, -6, -3, 0, 3])
def test_the_unit_of_money_does_not_matter(exponent: int) -> None:
    scale = 10.0**exponent
    for n in (20, 400):
        base = draw(7, n=n, m=4, kind="random", limits=False)
        base = replace(base, floors=(FloorRow(np.ones(n, dtype=bool), 0.6),))
        scaled = solve(replace(base, cost=base.cost * scale))
        plain = solve(base)
        assert scaled.cost == pytest.approx(plain.cost * scale, rel=1e-9)
        assert scaled.floor_prices[0] == pytest.approx(plain.floor_prices[0] * scale, rel=1e-6)


def test_one_row_one_column_no_row() -> None:
    alone = solve(one_floor([[3.0]], [[0.7]], 0.7))
    assert alone.choice.tolist() == [0]
    assert (alone.cost, alone.success, alone.gap) == (3.0, 0.7, 0.0)
    several = solve(one_floor([[3.0, 1.0, 2.0]], [[0.9, 0.2, 0.8]], 0.5))
    assert several.choice.tolist() == [2]
    nobody = solve(one_floor(np.zeros((0, 2)), np.zeros((0, 2)), 0.5))
    assert nobody.choice.tolist() == []
    assert nobody.status is Status.OPTIMAL


def test_floor_zero_is_the_cheapest_and_one_needs_certainty() -> None:
    cost, success = np.array([[1.0, 5.0]] * 6), np.array([[0.3, 1.0]] * 6)
    assert solve(one_floor(cost, success, 0.0)).choice.tolist() == [0] * 6
    assert solve(one_floor(cost, success, 1.0)).choice.tolist() == [1] * 6
    assert solve(one_floor(cost, success, 1.0)).status is Status.OPTIMAL


def test_free_columns_cost_nothing() -> None:
    solution = solve(one_floor(np.zeros((5, 2)), [[0.1, 0.9]] * 5, 0.6))
    assert solution.cost == solution.gap == 0.0
    assert solution.success >= 0.6
