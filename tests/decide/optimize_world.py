"""Problems of every kind, and what an exact solver says of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

from aios_eccos.decide.problem import AssignmentProblem, FloorRow

KINDS = ("random", "few values", "many sizes", "equal costs", "one scale per row", "free")


def draw(
    seed: int, *, n: int, m: int, kind: str, floors: int = 0, limits: bool = True
) -> AssignmentProblem:
    """A problem whose floors lie where some assignment may lie, or anywhere."""
    rng = np.random.default_rng(seed)
    cost, success = rng.random((n, m)), rng.random((n, m))
    if kind == "few values":
        cost, success = np.round(cost * 3), np.round(success * 4) / 4
    elif kind == "many sizes":
        cost = 10.0 ** rng.uniform(-6, 3, (n, m))
    elif kind == "equal costs":
        cost = np.full((n, m), 0.3)
    elif kind == "one scale per row":
        cost = np.outer(rng.random(n) + 0.1, 10.0 ** rng.uniform(-3, 0, m))
        success = np.clip(rng.random((n, 1)) / 2 + np.sort(rng.random(m)) / 2, 0, 1)
    elif kind == "free":
        cost = np.zeros((n, m))
    allowed = rng.random((n, m)) < rng.choice([1.0, 0.9, 0.5])
    capacity = rng.integers(0, n + 1, m) if limits else np.full(m, n)
    rows = []
    for _ in range(floors):
        mask = rng.random(n) < rng.choice([1.0, 0.5])
        some = success[np.arange(n), rng.integers(0, m, n)][mask]
        rows.append(
            FloorRow(mask, float(rng.choice([rng.random(), some.mean() if len(some) else 0])))
        )
    return AssignmentProblem(cost, success, capacity, allowed, tuple(rows))


@st.composite
def problems(
    draw_: st.DrawFn, *, most: int = 20, floors: tuple[int, int] = (0, 3), limits: bool = True
) -> AssignmentProblem:
    """Problems small enough for an exact solver."""
    return draw(
        draw_(st.integers(0, 2**32 - 1)),
        n=draw_(st.integers(1, most)),
        m=draw_(st.integers(1, 5)),
        kind=draw_(st.sampled_from(KINDS)),
        floors=draw_(st.integers(*floors)),
        limits=limits,
    )


def part(problem: AssignmentProblem, rows: np.ndarray) -> AssignmentProblem:
    """The problem of some rows."""
    return replace(
        problem,
        cost=problem.cost[rows],
        success=problem.success[rows],
        allowed=problem.allowed[rows],
        floors=tuple(FloorRow(f.rows[rows], f.floor) for f in problem.floors),
    )


def exact(problem: AssignmentProblem) -> np.ndarray | None:
    """scipy's MILP: an optimal choice for all rows; None if there is none."""
    n, m = problem.cost.shape
    rows, columns = np.nonzero(problem.allowed)
    size = len(rows)
    if size == 0:
        return None
    one = csc_array((np.ones(size), (rows, np.arange(size))), shape=(n, size))
    slot = csc_array((np.ones(size), (columns, np.arange(size))), shape=(m, size))
    constraints = [
        LinearConstraint(one, 1, 1),
        LinearConstraint(slot, -np.inf, problem.capacity.astype(float)),
    ]
    cost, success = problem.cost[rows, columns], problem.success[rows, columns]
    for floor in problem.floors:
        inside = floor.rows[rows]
        need = floor.floor * floor.rows.sum() - 1e-9 * n
        constraints.append(LinearConstraint((success * inside)[None], need, np.inf))
    scale = problem.cost.max() or 1.0
    aim = cost / scale
    if problem.budget is not None:
        aim = -success
        most = problem.budget / scale * n + 1e-9 * n
        constraints.append(LinearConstraint((cost / scale)[None], -np.inf, most))
    answer = milp(
        aim,
        constraints=constraints,
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if answer.x is None:
        return None
    choice = np.full(n, -1)
    taken = answer.x > 0.5
    choice[rows[taken]] = columns[taken]
    spent = problem.cost[np.arange(n), choice].mean()
    if problem.budget is not None and spent > problem.budget + 1e-9 * scale:
        return None  # within HiGHS's tolerance, not within ours
    return choice


def check(problem: AssignmentProblem, choice: np.ndarray) -> None:
    """Limits and allowed columns are never broken, whatever the status."""
    served = np.flatnonzero(choice >= 0)
    assert problem.allowed[served, choice[served]].all()
    assert (np.bincount(choice[served], minlength=problem.m) <= problem.capacity).all()
