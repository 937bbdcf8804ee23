"""Small batches: every row its best column at the price of success, within the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from aios_eccos.decide.live.servable import servable, trim
from aios_eccos.decide.live.transport import slot_prices, transport
from aios_eccos.decide.problem import AssignmentProblem, OverCapacity, Solution
from aios_eccos.decide.report import Found, report
from aios_eccos.decide.rule import choose, net_cost
from aios_eccos.decide.whole.program import Program
from aios_eccos.values import FloatArray, IntArray

LARGE = 256
"""Rows from which smoothed prices are quicker than assigning every row to a slot (n^3). Measured
with limits that bind, 4 and 10 columns: 0.3 to 9 ms against 1 to 7 ms at 256 rows, 1 to 55 ms
against 2 to 11 ms at 512."""


def solve_at_price(
    problem: AssignmentProblem,
    price: ArrayLike,
    carried: FloatArray | float = 0.0,
    *,
    over_capacity: OverCapacity = "spill",
) -> Solution:
    """Every row its best column at the price that stands for the problem's floors, limits kept.

    Only where the rule's choice breaks a limit are the rows that have slots assigned together.

    Args:
        price: dollars per success, one for all rows or (n,); infinite = the strongest.
        carried: dollars, (m,) or (n, m): prices of slots where limits bind for long; what a limit
            that binds in this batch adds is in the solution's `slot_prices`.
        over_capacity: as in `solve`.
    """
    args = (problem.cost, problem.success, price, problem.allowed, carried)
    choice = choose(*args)
    nothing = np.zeros(problem.m)
    found = Found(choice, np.zeros(len(problem.floors)), nothing)
    if (np.bincount(choice[choice >= 0], minlength=problem.m) > problem.capacity).any():
        if over_capacity == "wait":
            choice, full = trim(choice, problem.capacity)
            found = replace(found, choice=choice, full=full)
        else:
            served, full = servable(problem.allowed, problem.capacity)
            within, prices, short_of = _within(net_cost(*args)[served], problem.capacity)
            choice = np.full(problem.n, -1, dtype=np.int64)
            choice[served] = within
            found = replace(found, choice=choice, full=full, slot_prices=prices, loose=short_of)
    return report(replace(problem, budget=None), found)


def _within(value: FloatArray, capacity: IntArray) -> tuple[IntArray, FloatArray, float]:
    """The columns of least summed value within the limits, the slots' prices, and what is loose."""
    n, m = value.shape
    program = Program(value, np.zeros((0, n, m)), np.zeros(0), np.minimum(capacity, n))
    if n < LARGE:
        choice = transport(value, capacity)
        prices = slot_prices(value, choice)
        return choice, prices, program.loose(choice, prices)
    from aios_eccos.decide.whole.relax import relax

    unit = program.largest
    program = replace(program, objective=value / unit)
    found = relax(program)
    return found.choice, found.prices * unit, program.loose(found.choice, found.prices) * unit
