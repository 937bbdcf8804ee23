"""Shadow prices say what one unit buys; small batches are served at them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimize_world import check, problems
from scipy.optimize import linear_sum_assignment

from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Status, one_floor
from aios_eccos.decide.whole.solve import solve


def varied(n: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dearer columns are better, rows differ."""
    rng = np.random.default_rng(seed)
    cost = np.geomspace(1e-4, 1e-2, m) * np.exp(rng.normal(0, 0.3, (n, m)))
    level = rng.normal(0, 1, (n, 1)) + np.linspace(-1, 1.5, m) + rng.normal(0, 0.5, (n, m))
    return cost, 1 / (1 + np.exp(-level))


@pytest.mark.parametrize("n", [150, 2_000])
def test_the_floors_price_is_what_a_bit_of_success_costs(n: int) -> None:
    cost, success = varied(n, 4)
    low, high = (solve(one_floor(cost, success, floor)) for floor in (0.640, 0.645))
    paid = (high.cost - low.cost) / (0.005 * n)
    assert low.floor_prices[0] * 0.9 <= paid <= high.floor_prices[0] * 1.1
    assert "floor:0" in low.binding


@pytest.mark.parametrize("n", [150, 2_000])
def test_a_slots_price_is_what_one_more_slot_saves(n: int) -> None:
    cost, success = varied(n, 4)
    capacity = np.array([n // 4, n // 4, n // 3, n // 2])
    problem = one_floor(cost, success, 0.6, capacity=capacity)
    before = solve(problem)
    j = int(np.argmax(before.slot_prices))
    assert f"slot:{j}" in before.binding
    by = max(1, n // 100)
    after = solve(replace(problem, capacity=capacity + by * (np.arange(4) == j)))
    saved = before.lower_bound - after.lower_bound
    assert 0.5 * by * before.slot_prices[j] <= saved <= by * before.slot_prices[j] * (1 + 1e-6)


def test_every_floor_has_its_own_price() -> None:
    cost, success = varied(300, 4)
    first = np.arange(300) < 150
    floors = (FloorRow(first, 0.55), FloorRow(~first, 0.75))
    solution = solve(
        AssignmentProblem(cost, success, np.full(4, 300), np.ones((300, 4), dtype=bool), floors)
    )
    assert (solution.floor_success >= [0.55 - 1e-9, 0.75 - 1e-9]).all()
    apart = [
        solve(one_floor(cost[rows], success[rows], f))
        for rows, f in ((first, 0.55), (~first, 0.75))
    ]
    assert solution.cost == pytest.approx(sum(a.cost for a in apart), rel=1e-3)
    for price, alone in zip(solution.floor_prices, apart, strict=True):
        assert price == pytest.approx(alone.floor_prices[0], rel=1e-2)
    assert solution.floor_prices[1] > 2 * solution.floor_prices[0]


def test_a_budget_and_a_floor_are_two_sides() -> None:
    cost, success = varied(400, 4)
    floored = solve(one_floor(cost, success, 0.66))
    everything = np.ones((400, 4), dtype=bool)
    spent = solve(
        AssignmentProblem(cost, success, np.full(4, 400), everything, budget=floored.cost / 400)
    )
    assert spent.success == pytest.approx(0.66, abs=1e-3)
    assert spent.cost <= floored.cost * (1 + 1e-9)
    assert spent.budget_price == pytest.approx(1 / floored.floor_prices[0], rel=0.05)
    assert "budget" in spent.binding


def test_a_budget_that_does_not_bind_has_no_price() -> None:
    cost, success = varied(50, 4)
    rich = AssignmentProblem(
        cost, success, np.full(4, 50), np.ones((50, 4), dtype=bool), budget=1.0
    )
    solution = solve(rich)
    assert solution.success == pytest.approx(success.max(axis=1).mean())
    assert solution.budget_price == 0
    assert solution.binding == ()
    assert solution.gap == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(problems(floors=(0, 0), limits=False), st.floats(0, 10))
def test_at_a_price_every_row_takes_its_best(problem: AssignmentProblem, price: float) -> None:
    solution = solve_at_price(problem, price)
    value = np.where(problem.allowed, problem.cost - price * problem.success, np.inf)
    able = problem.allowed.any(axis=1)
    assert (solution.choice[~able] == -1).all()
    chosen = value[able, solution.choice[able]]
    assert chosen == pytest.approx(value[able].min(axis=1))
    assert solution.gap <= 1e-9


@settings(max_examples=60, deadline=None)
@given(problems(floors=(0, 0)), st.floats(0, 3))
def test_at_a_price_limits_hold_at_the_least_total(
    problem: AssignmentProblem, price: float
) -> None:
    solution = solve_at_price(problem, price)
    check(problem, solution.choice)
    served = np.flatnonzero(solution.choice >= 0)
    value = np.where(problem.allowed, problem.cost - price * problem.success, 1e9)[served]
    slots = np.repeat(np.arange(problem.m), problem.capacity)
    rows, columns = linear_sum_assignment(value[:, slots])
    best = value[rows, slots[columns]].sum()
    mine = value[np.arange(len(served)), solution.choice[served]].sum()
    assert mine == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_at_a_price_at_size() -> None:
    cost, success = varied(3_000, 5)
    problem = one_floor(cost, success, 0.5, capacity=np.full(5, 800))
    solution = solve_at_price(problem, 0.002)
    check(problem, solution.choice)
    assert solution.gap <= 1e-6
    assert (solution.slot_prices > 0).any()


def test_the_floors_price_gives_the_floors_assignment() -> None:
    cost, success = varied(500, 4)
    whole = solve(one_floor(cost, success, 0.65))
    one_by_one = [
        solve_at_price(one_floor(cost[[i]], success[[i]], 0.65), whole.floor_prices[0])
        for i in range(500)
    ]
    assert sum(s.cost for s in one_by_one) == pytest.approx(whole.cost, rel=0.01)
    assert np.mean([s.success for s in one_by_one]) == pytest.approx(0.65, abs=2e-3)


def test_rows_may_have_prices_of_their_own_and_slots_carry_theirs() -> None:
    cost, success = np.array([[1.0, 3.0]] * 2), np.array([[0.2, 0.8]] * 2)
    problem = one_floor(cost, success, 0.5)
    assert solve_at_price(problem, np.array([1.0, 10.0])).choice.tolist() == [0, 1]
    assert solve_at_price(problem, 10.0, np.array([0.0, 9.0])).choice.tolist() == [0, 0]


def test_at_a_price_waiting_for_the_best_is_a_policy() -> None:
    cost, success = np.array([[1.0, 3.0]] * 3), np.array([[0.2, 0.8]] * 3)
    problem = one_floor(cost, success, 0.5, capacity=np.array([3, 1]))
    assert solve_at_price(problem, 10.0).choice.tolist() in ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    waits = solve_at_price(problem, 10.0, over_capacity="wait")
    assert waits.choice.tolist() == [1, -1, -1]
    assert waits.status is Status.OVER_CAPACITY
    assert waits.binding == ("slot:1",)
