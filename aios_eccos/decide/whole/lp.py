"""The seam to HiGHS: a program as LP or MILP, its statuses as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aios_eccos.decide.whole.program import TOLERANCE, Program
from aios_eccos.values import FloatArray, IntArray

SMALL = 128
"""Rows up to which solving takes no longer than presolving does."""

EXACT_GAP, EXACT_S = 1e-4, 0.2
"""Relative gap and seconds at which the exact search ends."""


@dataclass(frozen=True)
class LpAnswer:
    """Shares (n, m) that sum to one per row, the prices (K + m,), and how far needs fell short.

    `short` (K,) is positive only where a need cannot be met; the shares then miss it by least.
    """

    shares: FloatArray
    prices: FloatArray
    short: FloatArray


def relaxed(
    program: Program, *, penalty: float = np.inf, method: str = "highs-ds"
) -> LpAnswer | None:
    """The LP optimum; None if the needs cannot be met.

    With a finite `penalty`, a unit of unmet need costs that much and there is always an optimum.
    Only the simplex method answers with a vertex, which divides few rows.
    """
    from scipy.optimize import linprog

    rows, columns = np.nonzero(np.isfinite(program.objective))
    cost, count, size = program.objective[rows, columns], len(program.need), len(rows)
    equal, limits, right = _constraints(program, rows, columns)
    if penalty < np.inf:
        from scipy.sparse import coo_array, hstack

        slack = coo_array(np.vstack([-np.eye(count), np.zeros((program.m, count))]))
        limits = hstack([limits, slack], format="coo")
        equal = hstack([equal, coo_array((program.n, count))], format="coo")
        cost = np.append(cost, np.full(count, penalty))
    options: dict[str, Any] = {"presolve": program.n > SMALL}
    if method == "highs-ds":  # a tenth quicker on small programs than the steepest edge
        options["simplex_dual_edge_weight_strategy"] = "devex"
    answer = linprog(
        cost, A_ub=limits, b_ub=right, A_eq=equal, b_eq=np.ones(program.n), method=method,
        options=options,
    )  # fmt: skip
    if answer.status != 0:
        return None
    shares = np.zeros((program.n, program.m))
    shares[rows, columns] = answer.x[:size]
    short = np.zeros(count)
    if penalty < np.inf:  # a little more, so that what is left can be met
        short = np.maximum(answer.x[size:], 0.0) * (1 + TOLERANCE)
    return LpAnswer(shares, np.maximum(-answer.ineqlin.marginals, 0.0), short)


def exact(program: Program) -> IntArray | None:
    """(n,) columns of the MILP optimum; None if nothing was found in time."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows, columns = np.nonzero(np.isfinite(program.objective))
    equal, limits, right = _constraints(program, rows, columns)
    answer = milp(
        program.objective[rows, columns],
        constraints=[LinearConstraint(equal, 1, 1), LinearConstraint(limits, -np.inf, right)],
        integrality=np.ones(len(rows)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": EXACT_GAP, "time_limit": EXACT_S},
    )
    if answer.x is None:
        return None
    taken = answer.x > 0.5
    choice = np.full(program.n, -1, dtype=np.int64)
    choice[rows[taken]] = columns[taken]
    whole = (choice >= 0).all() and (program.free(choice) >= 0).all() and program.meets(choice)
    return choice if whole else None


def _constraints(program: Program, rows: IntArray, columns: IntArray) -> tuple[Any, Any, Any]:
    """Rows sum to one; then needs (negated) and limits as upper bounds."""
    from scipy.sparse import coo_array  # what linprog would make of any other

    size, count = len(rows), len(program.need)
    index, ones = np.arange(size), np.ones(size)
    equal = coo_array((ones, (rows, index)), shape=(program.n, size))
    gains = -program.gains[:, rows, columns]
    need, place = np.nonzero(gains)  # a floor of a few rows says nothing of the others
    limits = coo_array(
        (
            np.append(gains[need, place], ones),
            (np.append(need, count + columns), np.append(place, index)),
        ),
        shape=(count + program.m, size),
    )
    right = np.append(-(program.need - TOLERANCE * program.n), program.capacity)
    return equal, limits, right
