"""The one form that both directions come down to, and its bound.

    minimize  sum o_ij x_ij   s.t.  sum_j x_ij = 1,  sum_ij g_kij x_ij >= need_k,
                                    sum_i x_ij <= cap_j,  x_ij = 0 where o_ij is infinite

A floor has g = success of its rows; a budget has g = -cost. For any prices l_k, u_j >= 0

    sum_i min_j (o_ij - sum_k l_k g_kij + u_j) + sum_k l_k need_k - sum_j u_j cap_j

is at most the optimum (Lagrange), which is the certificate of every answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.problem import AssignmentProblem
from aios_eccos.values import BoolArray, FloatArray, IntArray

TOLERANCE = 1e-9
"""Slack per row on every linear constraint (gains are of the order of 1)."""

TIE = 1e-12
"""Weight of success among equal costs (and of cost among equal successes)."""


@dataclass(frozen=True)
class Relaxed:
    """What a relaxation found.

    Attributes:
        choice: (n,) an assignment that keeps the limits, and the needs less `short`.
        prices: (K + m,) near the dual optimum, in units of the objective: of needs, then of slots.
        short: (K,) what the needs had to be lowered by to be met at all.
        split: rows that the relaxed optimum divides between columns.
    """

    choice: IntArray
    prices: FloatArray
    short: FloatArray
    split: int = 0

    @property
    def misses(self) -> bool:
        """Whether any need is missed, by more than rounding."""
        return bool((self.short > TOLERANCE * len(self.choice)).any())


@dataclass(frozen=True)
class Program:
    """n rows, m columns, K linear rows; every row can be served (see `servable`).

    Attributes:
        objective: (n, m), infinite where not allowed, else of the order of 1.
        gains: (K, n, m), of the order of 1.
        need: (K,).
        capacity: (m,).
    """

    objective: FloatArray
    gains: FloatArray
    need: FloatArray
    capacity: IntArray

    @property
    def n(self) -> int:
        return int(self.objective.shape[0])

    @property
    def m(self) -> int:
        return int(self.objective.shape[1])

    @property
    def right(self) -> FloatArray:
        """(K + m,) what the prices are for: needs, and limits negated."""
        return np.concatenate([self.need, -self.capacity])

    @property
    def largest(self) -> float:
        """The objective's largest finite magnitude; 1 if there is none but 0."""
        finite = np.abs(self.objective[np.isfinite(self.objective)])
        return float(finite.max(initial=0.0)) or 1.0

    def reduced(self, prices: FloatArray) -> FloatArray:
        """(n, m) objective less what the gains are worth, plus the slots' prices."""
        reduced: FloatArray = self.objective + prices[len(self.need) :]
        for price, gain in zip(prices, self.gains, strict=False):  # BLAS would start threads
            if price:
                reduced -= price * gain
        return reduced

    def bound(self, prices: FloatArray) -> float:
        """The certificate: no assignment has a smaller objective."""
        return float(self.reduced(prices).min(axis=1).sum()) + float(prices @ self.right)

    def loose(self, choice: IntArray, prices: FloatArray) -> float:
        """How far above the bound an assignment is, summed without cancellation.

        Not tight are rows that are not at their least, gains above the need, priced free slots.
        """
        reduced = self.reduced(prices)
        excess = reduced[np.arange(self.n), choice] - reduced.min(axis=1)
        above = np.maximum(self.gained(choice) - self.need, 0.0)
        return float(excess.sum()) + float(prices @ np.concatenate([above, self.free(choice)]))

    def value(self, choice: IntArray) -> float:
        """The objective of an assignment of all rows."""
        return float(self.objective[np.arange(self.n), choice].sum())

    def gained(self, choice: IntArray) -> FloatArray:
        """(K,) what the assignment adds up to in each linear row."""
        gained: FloatArray = self.gains[:, np.arange(self.n), choice].sum(axis=1)
        return gained

    def free(self, choice: IntArray) -> IntArray:
        """(m,) slots left; negative where a limit is broken."""
        return self.capacity - np.bincount(choice, minlength=self.m)

    def meets(self, choice: IntArray) -> bool:
        """Whether the linear rows hold (up to rounding of sums)."""
        return bool((self.gained(choice) >= self.need - TOLERANCE * self.n).all())

    def part(self, rows: IntArray, choice: IntArray) -> Program:
        """The program of some rows, all others keeping their choice."""
        kept = np.delete(np.arange(self.n), rows)
        return Program(
            objective=self.objective[rows],
            gains=self.gains[:, rows],
            need=self.need - self.gains[:, kept, choice[kept]].sum(axis=1),
            capacity=self.capacity - np.bincount(choice[kept], minlength=self.m),
        )

    def lowered(self, short: FloatArray) -> Program:
        """The program with needs lowered to what can be met."""
        return replace(self, need=self.need - short)


def program_of(
    problem: AssignmentProblem, rows: IntArray, capacity: IntArray
) -> tuple[Program, float]:
    """The rows' program in costs of the order of 1, and the dollars of one such cost."""
    allowed, success = problem.allowed[rows], problem.success[rows]
    unit = _typical(problem.cost[rows], allowed)
    cost = problem.cost[rows] / unit
    gains = [success * floor.rows[rows, None] for floor in problem.floors]
    need = [floor.floor * int(floor.rows[rows].sum()) for floor in problem.floors]
    objective = cost - TIE * success
    if problem.budget is not None:
        objective = 1.0 - success + TIE * cost / max(float(cost.max(initial=0.0)), 1.0)
        gains.append(-cost)
        need.append(-problem.budget / unit * len(rows))
    program = Program(
        objective=np.where(allowed, objective, np.inf),
        gains=np.array(gains, dtype=np.float64).reshape(len(gains), len(rows), problem.m),
        need=np.array(need, dtype=np.float64),
        capacity=np.minimum(capacity, len(rows)),
    )
    return program, unit


def _typical(cost: FloatArray, allowed: BoolArray) -> float:
    """Median of the positive costs (of a sample, if there are many rows); 1 if there are none."""
    step = max(1, len(cost) // 4_096)
    positive = cost[::step][allowed[::step] & (cost[::step] > 0)]
    return float(np.median(positive)) if len(positive) else 1.0
