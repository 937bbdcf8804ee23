"""Says what an assignment is worth, how far from the best it may be, and what binds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.problem import (
    FLOOR_TOLERANCE,
    PROVEN,
    SEVERITY,
    AssignmentProblem,
    Solution,
    Status,
)
from aios_eccos.values import BoolArray, FloatArray, IntArray

NEGLIGIBLE = 1e-9
"""Share of the problem's mean cost below which a price is rounding, and binds nothing."""


@dataclass(frozen=True)
class Found:
    """An assignment with its prices in money, before it is judged; arrays as in `Solution`.

    Attributes:
        full: (m,) columns that the waiting rows wait for; None = no row does.
        loose: by how much the objective (dollars; with a budget, summed success) may miss the
            best there is: what is not tight in Lagrange's bound.
        statuses: conditions met on the way.
    """

    choice: IntArray
    floor_prices: FloatArray
    slot_prices: FloatArray
    full: BoolArray | None = None
    loose: float = 0.0
    budget_price: float = 0.0
    statuses: frozenset[Status] = frozenset()
    split: int = 0


def report(problem: AssignmentProblem, found: Found) -> Solution:
    """The solution with its certificate, in the problem's own units."""
    rows = np.flatnonzero(found.choice >= 0)
    taken = found.choice[rows]
    cost, hits = float(problem.cost[rows, taken].sum()), problem.success[rows, taken]
    floor_success = np.array([_mean(hits[row.rows[rows]]) for row in problem.floors], dtype=float)
    missed = Status.INFEASIBLE_FLOOR in found.statuses
    bound, gap = _certificate(problem, found, cost, float(hits.sum()))
    floors = np.array([row.floor for row in problem.floors], dtype=float)
    out_of_reach = missed & (floor_success < floors - FLOOR_TOLERANCE)
    least = NEGLIGIBLE * cost / max(len(rows), 1)
    # A slot saves nothing where one is free, whatever rounding leaves of its price.
    used = np.bincount(taken, minlength=problem.m)
    used_up = (problem.capacity <= used) & (problem.capacity < problem.n)
    slot_prices = np.where(used_up & (found.slot_prices > least), found.slot_prices, 0.0)
    full = np.zeros(problem.m, dtype=bool) if found.full is None else found.full
    binding = [f"floor:{k}" for k in np.flatnonzero(found.floor_prices > least)]
    binding += [f"slot:{j}" for j in np.flatnonzero((slot_prices > 0) | full)]
    binding += ["budget"] if found.budget_price > 0 else []
    return Solution(
        choice=found.choice,
        statuses=_statuses(problem, found, gap),
        cost=cost,
        success=_mean(hits),
        lower_bound=bound,
        gap=gap,
        floor_prices=np.where(out_of_reach, np.inf, found.floor_prices),
        slot_prices=np.zeros(problem.m) if missed else slot_prices,
        budget_price=found.budget_price,
        floor_success=floor_success,
        binding=tuple(binding),
        split=found.split,
    )


def _statuses(problem: AssignmentProblem, found: Found, gap: float) -> tuple[Status, ...]:
    """All that apply, worst first."""
    statuses = set(found.statuses)
    if not problem.allowed.any(axis=1).all():
        statuses.add(Status.NO_ALLOWED_MODEL)
    if found.full is not None and found.full.any():
        statuses.add(Status.OVER_CAPACITY)
    if gap > PROVEN:
        statuses.add(Status.UNPROVEN)
    return tuple(s for s in SEVERITY if s in statuses) or (Status.OPTIMAL,)


def _certificate(
    problem: AssignmentProblem, found: Found, cost: float, hits: float
) -> tuple[float, float]:
    """Lower bound of the cost in dollars, and the relative gap of what is optimized."""
    loose = max(found.loose, 0.0)
    if problem.budget is not None:
        dollars = loose / found.budget_price if found.budget_price > 0 else cost
        if Status.INFEASIBLE_BUDGET in found.statuses:
            return max(cost - dollars, 0.0), min(dollars / cost, 1.0) if cost > 0 else 0.0
        return max(cost - dollars, 0.0), loose / hits if hits > 0 else 0.0
    bound = max(cost - loose, 0.0)
    if Status.INFEASIBLE_FLOOR in found.statuses:
        worth = hits * float(found.floor_prices.max())
        return bound, loose / worth if worth > 0 else 0.0
    return bound, (cost - bound) / cost if cost > 0 else 0.0


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
