"""A batch solved as one, under its floors (or a budget) and limits."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import numpy as np

from aios_eccos.decide.live.servable import servable, trim
from aios_eccos.decide.problem import (
    AssignmentProblem,
    InfeasibleFloor,
    OverCapacity,
    Solution,
    Status,
)
from aios_eccos.decide.report import Found, report
from aios_eccos.decide.whole.program import TOLERANCE, Program, Relaxed, program_of
from aios_eccos.decide.whole.relax import relax


def solve(
    problem: AssignmentProblem,
    *,
    over_capacity: OverCapacity = "spill",
    on_infeasible_floor: InfeasibleFloor = "best_effort",
) -> Solution:
    """The least-cost assignment (with a budget: the most successful) of all rows together.

    This is ECCOS's constrained problem (arXiv 2502.20576, section 3.2): least summed cost, mean
    success at least the floor, no more rows in a column than it has slots.

    Args:
        over_capacity: what a row does whose best column is full. "spill": it takes another column
            with a free slot, at the least total cost, and waits only if there is none; "wait": it
            waits for that column (rows in front take precedence), and the floors then hold over
            served and waiting rows together.
        on_infeasible_floor: "best_effort" serves all rows with the best success there is; "wait"
            serves only as many of the first rows as can meet the floors with the slots that are
            free now. Where no number of slots would help, it does the same as "best_effort".
    """
    found = _solve(problem, over_capacity)
    if Status.INFEASIBLE_FLOOR in found.statuses and on_infeasible_floor == "wait":
        found = _fewer(problem, over_capacity) or found
    return report(problem, found)


def _solve(problem: AssignmentProblem, over_capacity: OverCapacity) -> Found:
    """The assignment of all rows that can be served."""
    if over_capacity == "wait":
        served, full = problem.allowed.any(axis=1), None
        capacity = np.full(problem.m, problem.n)
    else:
        served, full = servable(problem.allowed, problem.capacity)
        capacity = problem.capacity
    rows = np.flatnonzero(served).astype(np.int64)
    program, unit = program_of(problem, rows, capacity)
    relaxed = relax(program)
    choice = np.full(problem.n, -1, dtype=np.int64)
    choice[rows] = relaxed.choice
    if over_capacity == "wait":
        choice, full = trim(choice, problem.capacity)
    return replace(_in_money(problem, program, relaxed, unit), choice=choice, full=full)


def _fewer(problem: AssignmentProblem, over_capacity: OverCapacity) -> Found | None:
    """As many of the first rows as can meet the floors; None if more slots would not help."""
    unlimited = replace(problem, capacity=np.full(problem.m, problem.n))
    if Status.INFEASIBLE_FLOOR in _solve(unlimited, over_capacity).statuses:
        return None

    def first(count: int) -> Found:
        allowed = problem.allowed & (np.arange(problem.n) < count)[:, None]
        return _solve(replace(problem, allowed=allowed), over_capacity)

    def missed(count: int) -> bool:
        return Status.INFEASIBLE_FLOOR in first(count).statuses

    best = first(bisect_left(range(1, problem.n), True, key=missed))
    return replace(best, statuses=best.statuses | {Status.INFEASIBLE_FLOOR})


def _in_money(problem: AssignmentProblem, program: Program, relaxed: Relaxed, unit: float) -> Found:
    """The relaxation's prices in dollars; statuses from what fell short."""
    count, statuses = len(problem.floors), set()
    missed = relaxed.short > TOLERANCE * max(program.n, 1)
    if missed[:count].any():
        statuses.add(Status.INFEASIBLE_FLOOR)
    if missed[count:].any():
        statuses.add(Status.INFEASIBLE_BUDGET)
    loose = program.lowered(relaxed.short).loose(relaxed.choice, relaxed.prices)
    dollars, budget_price = unit, 0.0
    if problem.budget is not None:
        budget_price = float(relaxed.prices[count]) / unit
        dollars = 1.0 / budget_price if budget_price > 0 else 0.0
    return Found(
        choice=relaxed.choice,
        floor_prices=relaxed.prices[:count] * dollars,
        slot_prices=relaxed.prices[len(program.need) :] * dollars,
        loose=loose if problem.budget is not None else loose * unit,
        budget_price=budget_price,
        statuses=frozenset(statuses),
        split=relaxed.split,
    )
