"""What cannot be had has a name, and an answer all the same."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Status, one_floor
from aios_eccos.decide.whole.solve import solve


def varied(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    cost = np.geomspace(1e-4, 1e-2, m) * np.exp(rng.normal(0, 0.3, (n, m)))
    return cost, np.clip(np.linspace(0.2, 0.8, m) + rng.normal(0, 0.1, (n, m)), 0, 1)


@pytest.mark.parametrize("n", [40, 700])
def test_a_floor_out_of_reach_gets_the_best_success(n: int) -> None:
    cost, success = varied(n, 3)
    solution = solve(one_floor(cost, success, 0.999))
    best = success.max(axis=1).mean()
    assert solution.statuses == (Status.INFEASIBLE_FLOOR,)
    assert solution.floor_success[0] == pytest.approx(best, abs=1e-6)
    assert solution.floor_prices[0] == np.inf
    assert solution.gap <= 1e-6


def test_waiting_for_slots_rather_than_missing_the_floor() -> None:
    cost, success = varied(40, 3)
    problem = one_floor(cost, success, 0.7, capacity=np.array([40, 40, 10]))
    solution = solve(problem, on_infeasible_floor="wait")
    served = np.flatnonzero(solution.choice >= 0)
    assert 10 <= len(served) < 40
    assert (served == np.arange(len(served))).all()
    assert solution.floor_success[0] >= 0.7 - 1e-9
    assert solution.status is Status.INFEASIBLE_FLOOR


def test_waiting_does_not_help_where_no_number_of_slots_would() -> None:
    cost, success = varied(40, 3)
    problem = one_floor(cost, success, 0.999, capacity=np.array([40, 40, 10]))
    patient = solve(problem, on_infeasible_floor="wait")
    assert (patient.choice == solve(problem).choice).all()
    assert (patient.choice >= 0).all()


def test_nobody_is_served_where_the_first_row_must_wait() -> None:
    cost, success = np.array([[1.0, 9.0]] * 3), np.array([[0.2, 0.9]] * 3)
    problem = one_floor(cost, success, 0.8, capacity=np.array([3, 0]))
    assert (solve(problem, on_infeasible_floor="wait").choice == -1).all()


def test_several_floors_out_of_reach_fall_short_by_least() -> None:
    cost, success = varied(60, 3)
    first = np.arange(60) < 30
    problem = AssignmentProblem(
        cost,
        success,
        np.array([60, 60, 20]),
        np.ones((60, 3), dtype=bool),
        (FloorRow(first, 0.75), FloorRow(~first, 0.3)),
    )
    solution = solve(problem)
    assert solution.status is Status.INFEASIBLE_FLOOR
    assert solution.floor_prices[0] == np.inf
    assert np.isfinite(solution.floor_prices[1])
    assert solution.floor_success[1] >= 0.3 - 1e-9
    alone = solve(one_floor(cost[first], success[first], 1.0, capacity=np.array([60, 60, 20])))
    assert solution.floor_success[0] == pytest.approx(alone.floor_success[0], abs=0.01)


@pytest.mark.parametrize("n", [30, 900])
def test_too_few_slots_let_the_last_rows_wait(n: int) -> None:
    cost, success = varied(n, 3)
    capacity = np.array([n // 10, n // 10, n // 5])
    solution = solve(one_floor(cost, success, 0.5, capacity=capacity))
    assert solution.status is Status.OVER_CAPACITY
    assert (solution.choice[: capacity.sum()] >= 0).all()
    assert (solution.choice[capacity.sum() :] < 0).all()
    assert {"slot:0", "slot:1", "slot:2"} == set(solution.binding) - {"floor:0"}


def test_rows_may_wait_for_their_own_column_instead_of_spilling() -> None:
    cost, success = np.array([[1.0, 5.0]] * 4), np.array([[0.5, 0.9]] * 4)
    problem = one_floor(cost, success, 0.5, capacity=np.array([2, 4]))
    assert (solve(problem).choice >= 0).all()
    waits = solve(problem, over_capacity="wait")
    assert waits.choice.tolist() == [0, 0, -1, -1]
    assert waits.status is Status.OVER_CAPACITY


@pytest.mark.parametrize("n", [6, 500])
def test_a_row_that_nothing_may_serve_waits_alone(n: int) -> None:
    cost, success = varied(n, 3)
    allowed = np.ones((n, 3), dtype=bool)
    allowed[2] = False
    solution = solve(one_floor(cost, success, 0.5, allowed=allowed))
    assert solution.status is Status.NO_ALLOWED_MODEL
    assert np.flatnonzero(solution.choice < 0).tolist() == [2]
    others = np.arange(n) != 2
    assert solution.success == pytest.approx(success[others, solution.choice[others]].mean())


def test_conditions_add_up_and_the_worst_is_the_status() -> None:
    cost, success = varied(6, 3)
    allowed = np.ones((6, 3), dtype=bool)
    allowed[0] = False
    problem = one_floor(cost, success, 0.999, capacity=np.array([2, 1, 1]), allowed=allowed)
    solution = solve(problem)
    assert solution.statuses == (
        Status.INFEASIBLE_FLOOR,
        Status.OVER_CAPACITY,
        Status.NO_ALLOWED_MODEL,
    )
    assert solution.status is Status.INFEASIBLE_FLOOR
    assert np.flatnonzero(solution.choice < 0).tolist() == [0, 5]


@pytest.mark.parametrize("n", [6, 500])
def test_a_budget_below_the_cheapest_gets_the_cheapest(n: int) -> None:
    cost, success = varied(n, 3)
    allowed = np.ones((n, 3), dtype=bool)
    solution = solve(AssignmentProblem(cost, success, np.full(3, n), allowed, budget=0.0))
    assert solution.status is Status.INFEASIBLE_BUDGET
    assert solution.cost == pytest.approx(cost.min(axis=1).sum(), rel=1e-4)


GOOD = {
    "cost": np.ones((3, 2)),
    "success": np.full((3, 2), 0.5),
    "capacity": np.array([3, 3]),
    "allowed": np.ones((3, 2), dtype=bool),
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cost", np.ones(3), r"cost has shape \(3,\)"),
        ("cost", np.array([[1, 1], [1, np.nan], [1, 1]]), r"cost\[1, 1\] is nan"),
        ("cost", np.array([[1, 1], [1, 1], [-1, 1]]), r"cost\[2, 0\] is -1.0"),
        ("success", np.full((2, 2), 0.5), r"success has shape \(2, 2\), wanted \(3, 2\)"),
        ("success", np.array([[0.5, 1.5]] * 3), r"success\[0, 1\] is 1.5, wanted within 0..1"),
        ("capacity", np.array([3, -1]), r"capacity\[1\] is -1"),
        ("allowed", np.ones((3, 1), dtype=bool), r"allowed has shape"),
        ("floors", (FloorRow(np.ones(2, dtype=bool), 0.5),), r"floors\[0\].rows has shape"),
        ("floors", (FloorRow(np.ones(3, dtype=bool), 1.5),), r"floors\[0\].floor is 1.5"),
        ("budget", -1.0, r"budget is -1.0"),
        ("budget", np.nan, r"budget is nan"),
    ],
)
def test_malformed_problems_name_field_and_index(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AssignmentProblem(**(GOOD | {field: value}))
