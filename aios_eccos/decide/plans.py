"""Columns that share limits: a call on a plan takes a slot of each of its members.

First every row takes the best of all columns. Where that breaks a limit, models alone are assigned
as if there were no plans; then the rows that gain most by a plan get it, while slots remain. No row
ever loses its slot to a plan, and no limit is passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.problem import AssignmentProblem, Solution, Status
from aios_eccos.decide.report import Found, report
from aios_eccos.values import BoolArray, Candidate, FloatArray, IntArray, Plan
from aios_eccos.values.plan import spread


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What the c columns of a batch are: m models, then plans.

    Attributes:
        models: m names. plans: those of the columns from m on.
        uses: (c, m) slots of each model that a call on a column takes when it starts.
        escapes: (n, c - m) chance that a plan's escape is asked.
    """

    models: tuple[str, ...]
    plans: tuple[Plan, ...]
    uses: IntArray
    escapes: FloatArray

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Columns:
        """Of candidates with the same columns."""
        first = candidates[0]
        plans = tuple(first.plans)
        models = first.models[: len(first.models) - len(plans)]
        members = [[name in plan.members for name in models] for plan in plans]
        uses = np.concatenate([np.eye(len(models)), np.reshape(members, (-1, len(models)))])
        escapes = np.array([[*each.plans.values()] for each in candidates], dtype=float)
        escapes = escapes.reshape(len(candidates), len(plans))
        return cls(models, plans, uses.astype(np.int64), escapes)

    @property
    def m(self) -> int:
        return len(self.models)

    def carried(self, values: FloatArray) -> FloatArray:
        """(n, c) of what each model (n, m) takes: a plan takes its members' and, where it is asked,
        the escape's.
        """
        if not self.plans:
            return values
        more = spread(self.plans, self.escapes, self.models, values)
        return np.concatenate([values, more], axis=1)

    def full(self, models: BoolArray) -> BoolArray:
        """(c,) columns that cannot start, from the models (m,) that are full."""
        return np.asarray((self.uses[:, models] > 0).any(axis=1))

    def taken(self, choice: IntArray) -> IntArray:
        """(m,) slots that the chosen columns (n,) take; -1 takes none."""
        return np.asarray(self.uses[choice[choice >= 0]].sum(axis=0))

    def to_models(self, lost: FloatArray) -> FloatArray:
        """(b, m) losses by model, from those by column (b, c): a plan's is each member's."""
        found: FloatArray = lost[:, : self.m].copy()
        for column, used in enumerate(self.uses[self.m :], self.m):
            for model in np.flatnonzero(used):
                found[:, model] = np.fmax(found[:, model], lost[:, column])
        return found


def alone(problem: AssignmentProblem, m: int) -> AssignmentProblem:
    """The problem of the first m columns."""
    return replace(
        problem,
        cost=problem.cost[:, :m],
        success=problem.success[:, :m],
        allowed=problem.allowed[:, :m],
        capacity=problem.capacity[:m],
    )


def with_plans(
    problem: AssignmentProblem,
    columns: Columns,
    first: Solution,
    value: FloatArray,
    models_alone: Callable[[AssignmentProblem], Solution],
    *,
    waits: bool = False,
    keeps: bool = False,
) -> Solution:
    """The solution within the models' limits, which `first`, counting plans apart, may break.

    Args:
        problem: all c columns; `capacity` (c,) counts only for models.
        first: the best of all columns where plans have limits of their own.
        value: (n, c) dollars that a row has of a column; what is least is best.
        models_alone: solves the first m columns.
        waits: whether a call waits for its best column rather than take another.
        keeps: whether a plan must succeed as often as the model that it is taken for: so floors
            that models alone keep are kept.
    """
    room = problem.capacity[: columns.m]
    if (columns.taken(first.choice) <= room).all():
        return first
    if waits:
        choice = _in_turn(first.choice, columns, room)
        found = replace(first, slot_prices=np.zeros(columns.m))
    else:
        found = models_alone(alone(problem, columns.m))
        least = problem.success if keeps else np.zeros_like(problem.success)
        choice = upgraded(found.choice, value, least, columns, room)
    return _reported(problem, columns, choice, value, found)


def upgraded(
    choice: IntArray, value: FloatArray, least: FloatArray, columns: Columns, room: IntArray
) -> IntArray:
    """The choice (n,) of models, with plans where they gain most, within the free slots (m,).

    Never with a plan whose entry of `least` (n, c) is below that of the model.
    """
    choice, left = choice.copy(), room - columns.taken(choice)
    served = np.flatnonzero(choice >= 0)
    taken = served, choice[served]
    gain = value[taken][:, None] - value[served, columns.m :]
    gain[~(gain > 0) | (least[served, columns.m :] < least[taken][:, None])] = -np.inf
    for place in np.argsort(-gain, axis=None, kind="stable"):
        row, plan = divmod(int(place), gain.shape[1])
        if gain[row, plan] == -np.inf:
            break
        if choice[served[row]] >= columns.m:
            continue
        after = left + columns.uses[choice[served[row]]] - columns.uses[columns.m + plan]
        if (after >= 0).all():
            left, choice[served[row]] = after, columns.m + plan
    return choice


def _in_turn(choice: IntArray, columns: Columns, room: IntArray) -> IntArray:
    """Each row in turn has its column (n,), or waits for its slots."""
    choice, left = choice.copy(), room.copy()
    for row in np.flatnonzero(choice >= 0):
        after = left - columns.uses[choice[row]]
        if (after >= 0).all():
            left = after
        else:
            choice[row] = -1
    return choice


def _reported(
    problem: AssignmentProblem,
    columns: Columns,
    choice: IntArray,
    value: FloatArray,
    found: Solution,
) -> Solution:
    """What a choice is worth beside the best without limits, which none within them passes."""
    left = problem.capacity[: columns.m] - columns.taken(choice)
    full = columns.full(left <= 0)
    rows = np.flatnonzero(choice >= 0)
    waiting = (choice < 0) & problem.allowed.any(axis=1)
    loose = value[rows, choice[rows]] - value[rows].min(axis=1)
    over = 0.0
    for row, price in zip(problem.floors, found.floor_prices, strict=True):
        mine = rows[row.rows[rows]]
        more = float((problem.success[mine, choice[mine]] - row.floor).sum())
        over += max(more, 0.0) * float(np.nan_to_num(price, posinf=0.0))
    used = np.bincount(choice[rows], minlength=problem.m)
    return report(
        replace(problem, budget=None, capacity=np.where(full, used, problem.n)),
        Found(
            choice,
            found.floor_prices,
            columns.uses @ found.slot_prices,
            full=full & problem.allowed[waiting].any(axis=0),
            loose=float(loose.sum()) + over,
            statuses=frozenset(found.statuses) & {Status.INFEASIBLE_FLOOR},
        ),
    )
