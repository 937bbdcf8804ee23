"""Small batches: every row its best column at the price of success, within the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from aios_eccos.decide.live.servable import servable, trim
from aios_eccos.decide.problem import AssignmentProblem, OverCapacity, Solution
from aios_eccos.decide.report import Found, report
from aios_eccos.decide.rule import choose, net_cost
from aios_eccos.decide.whole.program import Program, typical_cost
from aios_eccos.decide.whole.relax import relax
from aios_eccos.values import FloatArray


def solve_at_price(
    problem: AssignmentProblem,
    price: ArrayLike,
    slot_prices: FloatArray | None = None,
    *,
    over_capacity: OverCapacity = "spill",
) -> Solution:
    """Small batches: every row its best column at the floor's dual price, limits kept.

    Floors and budget of the problem are not constraints here: `price` stands for them. Only where
    the argmin breaks a limit are the rows that have slots assigned together.

    Args:
        price: dollars per success, one for all rows or (n,); infinite = the strongest.
        slot_prices: dollars, (m,) or (n, m), carried where limits bind for long; what a limit
            that binds in this batch adds is in the solution's `slot_prices`.
        over_capacity: as in `solve`.
    """
    n, m = problem.n, problem.m
    carried = 0.0 if slot_prices is None else slot_prices
    args = (problem.cost, problem.success, price, problem.allowed, carried)
    choice = choose(*args)
    full, slots, loose = np.zeros(m, dtype=bool), np.zeros(m), 0.0
    if (np.bincount(choice[choice >= 0], minlength=m) > problem.capacity).any():
        if over_capacity == "wait":
            choice, full = trim(choice, problem.capacity)
        else:
            served, full = servable(problem.allowed, problem.capacity)
            rows = np.flatnonzero(served)
            unit = typical_cost(problem.cost[rows], problem.allowed[rows])
            program = Program.of_limits(net_cost(*args)[rows] / unit, problem.capacity)
            found = relax(program)
            loose = program.loose(found.choice, found.prices) * unit
            choice = np.full(n, -1, dtype=np.int64)
            choice[rows] = found.choice
            slots = found.prices.slots * unit
    judged = Found(
        choice=choice,
        floor_prices=np.zeros(len(problem.floors)),
        slot_prices=slots,
        full=full,
        loose=loose,
    )
    return report(replace(problem, budget=None), judged)
