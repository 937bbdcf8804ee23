"""Says what an assignment is worth, how far from the best it may be, and what binds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aios_eccos.decide.problem import (
    FLOOR_TOLERANCE,
    SEVERITY,
    AssignmentProblem,
    Solution,
    Status,
)
from aios_eccos.decide.whole.program import TOLERANCE
from aios_eccos.values import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Found:
    """An assignment with its prices in money, before it is judged.

    Attributes:
        choice: (n,) column or -1.
        floor_prices: (K,) dollars per unit of success.
        slot_prices: (m,) dollars per slot.
        full: (m,) columns that the waiting rows wait for.
        loose: by how much the objective (dollars; with a budget, summed success) may miss the
            best there is: what is not tight in Lagrange's bound.
        budget_price: success per dollar.
        statuses: conditions met on the way.
        split: rows that the relaxed optimum divides.
    """

    choice: IntArray
    floor_prices: FloatArray
    slot_prices: FloatArray
    full: BoolArray
    loose: float = 0.0
    budget_price: float = 0.0
    statuses: frozenset[Status] = field(default_factory=frozenset)
    split: int = 0


def report(problem: AssignmentProblem, found: Found) -> Solution:
    """The solution with its certificate, in the problem's own units."""
    rows = np.flatnonzero(found.choice >= 0)
    taken = found.choice[rows]
    cost = float(problem.cost[rows, taken].sum())
    hits = problem.success[rows, taken]
    statuses = set(found.statuses)
    if not problem.allowed.any(axis=1).all():
        statuses.add(Status.NO_ALLOWED_MODEL)
    if found.full.any():
        statuses.add(Status.OVER_CAPACITY)
    floor_success = np.array(
        [_mean(hits[row.rows[rows]]) for row in problem.floors], dtype=np.float64
    )
    missed = Status.INFEASIBLE_FLOOR in statuses
    bound, gap = _certificate(problem, found, cost, float(hits.sum()), missed=missed)
    out_of_reach = missed & _below(problem, floor_success)
    return Solution(
        choice=found.choice,
        statuses=tuple(s for s in SEVERITY if s in statuses) or (Status.OPTIMAL,),
        cost=cost,
        success=_mean(hits),
        lower_bound=bound,
        gap=gap,
        floor_prices=np.where(out_of_reach, np.inf, found.floor_prices),
        slot_prices=np.zeros(problem.m) if missed else found.slot_prices,
        budget_price=found.budget_price,
        floor_success=floor_success,
        binding=_binding(problem, found),
        split=found.split,
    )


def _certificate(
    problem: AssignmentProblem, found: Found, cost: float, hits: float, *, missed: bool
) -> tuple[float, float]:
    """Lower bound of the cost in dollars, and the relative gap of what is optimized."""
    loose = max(found.loose, 0.0)
    if problem.budget is not None:
        dollars = cost if loose > TOLERANCE else 0.0
        if found.budget_price > 0:
            dollars = loose / found.budget_price
        if Status.INFEASIBLE_BUDGET in found.statuses:
            return max(cost - dollars, 0.0), min(dollars / cost, 1.0) if cost > 0 else 0.0
        return max(cost - dollars, 0.0), loose / hits if hits > 0 else 0.0
    bound = max(cost - loose, 0.0)
    if missed:
        worth = hits * float(found.floor_prices.max())
        return bound, loose / worth if worth > 0 else 0.0
    return bound, (cost - bound) / cost if cost > 0 else 0.0


def _binding(problem: AssignmentProblem, found: Found) -> tuple[str, ...]:
    names = [f"floor:{k}" for k in np.flatnonzero(found.floor_prices > 0)]
    names += [f"slot:{j}" for j in np.flatnonzero((found.slot_prices > 0) | found.full)]
    if problem.budget is not None and found.budget_price > 0:
        names.append("budget")
    return tuple(names)


def _below(problem: AssignmentProblem, floor_success: FloatArray) -> BoolArray:
    floors = np.array([row.floor for row in problem.floors], dtype=np.float64)
    return np.asarray(floor_success < floors - FLOOR_TOLERANCE)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
