"""What is asked of the optimizer and what it answers: plain arrays, no models, no queries.

A column is whatever can serve a row: a model. Rows come in order of precedence: where slots are
too few, the last rows wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aios_eccos.values import BoolArray, FloatArray, IntArray

OverCapacity = Literal["wait", "spill"]
InfeasibleFloor = Literal["best_effort", "wait"]

PROVEN = 1e-6
"""Relative gap up to which an assignment counts as optimal."""

FLOOR_TOLERANCE = 1e-9
"""By how much (mean success) a floor may be missed: rounding of sums, nothing more."""


class Status(str, Enum):
    """How a solve ended. Every one of them is an ordinary answer with a usable assignment."""

    OPTIMAL = "optimal"
    """Proven: no better assignment exists, up to a relative `PROVEN`."""
    UNPROVEN = "unproven"
    """A better assignment may exist: better by `Solution.gap` at most."""
    NO_ALLOWED_MODEL = "no_allowed_model"
    """Some rows have no allowed column; they wait, the others are assigned as usual."""
    OVER_CAPACITY = "over_capacity"
    """There are fewer fitting slots than rows; the last rows wait."""
    INFEASIBLE_FLOOR = "infeasible_floor"
    """No assignment meets the floors; the answer has the best success that fits."""
    INFEASIBLE_BUDGET = "infeasible_budget"
    """The cheapest assignment costs more than the budget; the answer is the cheapest."""


SEVERITY = tuple(reversed(Status))
"""Worst first: the order in which `Solution.status` picks among several."""


@dataclass(frozen=True)
class FloorRow:
    """Mean success over the masked rows (n,) must reach `floor` (0..1); those that wait are out."""

    rows: BoolArray
    floor: float


@dataclass(frozen=True)
class AssignmentProblem:
    """n rows to be served by m columns.

    Attributes:
        cost: (n, m) dollars, >= 0; a column of infinite cost is closed to the row.
        success: (n, m) probability of a good answer, 0..1; where it is NaN, the column is closed.
        capacity: (m,) free slots, >= 0; anything from n on is unlimited.
        allowed: (n, m) bool.
        floors: success that must be reached, at the least cost.
        budget: dollars, mean cost per assigned row that must not be passed. If set, success is
            maximized instead of cost minimized (floors, if any, still hold).

    Raises:
        ValueError: naming the field, and the index where there is one.
    """

    cost: FloatArray
    success: FloatArray
    capacity: IntArray
    allowed: BoolArray
    floors: tuple[FloorRow, ...] = ()
    budget: float | None = None

    def __post_init__(self) -> None:
        cost = np.asarray(self.cost, dtype=np.float64)
        if cost.ndim != 2 or cost.shape[1] == 0:
            raise ValueError(f"cost has shape {cost.shape}, wanted (n, m) with m >= 1")
        n, m = cost.shape
        success = _shaped("success", np.asarray(self.success, dtype=np.float64), (n, m))
        allowed = _shaped("allowed", np.asarray(self.allowed), (n, m)).astype(bool)
        capacity = _shaped("capacity", np.asarray(self.capacity), (m,))
        _check("cost", cost, cost >= 0, ">= 0")
        known = ~np.isnan(success)
        _check("success", success, ~known | ((success >= 0) & (success <= 1)), "within 0..1")
        allowed &= known & np.isfinite(cost)
        _check("capacity", capacity, capacity >= 0, ">= 0")
        for k, row in enumerate(self.floors):
            _shaped(f"floors[{k}].rows", np.asarray(row.rows), (n,))
            if not 0 <= row.floor <= 1:
                raise ValueError(f"floors[{k}].floor is {row.floor}, wanted within 0..1")
        if self.budget is not None and not 0 <= self.budget < np.inf:
            raise ValueError(f"budget is {self.budget}, wanted finite and >= 0")
        fields = {
            "cost": np.where(allowed, cost, 0.0),
            "success": np.where(allowed, success, 0.0),
            "allowed": allowed,
            "capacity": np.minimum(capacity, n).astype(np.int64),
            "floors": tuple(
                FloorRow(np.asarray(row.rows, dtype=bool), float(row.floor)) for row in self.floors
            ),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        return int(self.cost.shape[0])

    @property
    def m(self) -> int:
        return int(self.cost.shape[1])


@dataclass(frozen=True)
class Solution:
    """An assignment and how good it is.

    Attributes:
        choice: (n,) column per row; -1 = waits.
        statuses: all that apply, worst first.
        cost: dollars, summed over the assigned rows.
        success: mean over the assigned rows (NaN if there are none).
        lower_bound: dollars; no assignment of the same rows within the same limits and floors
            (with a budget: of at least this success) costs less.
        gap: (cost - lower_bound) / cost; with a budget, or a floor out of reach, the summed success
            that may be missing / the summed success.
        floor_prices: one per floor, dollars per unit of summed success; inf = out of reach.
        slot_prices: (m,) dollars that one more slot would save; 0 where a floor is out of reach.
        budget_price: expected good answers per further dollar; 0 without a binding budget.
        floor_success: one per floor, mean success over its assigned rows; where the floor is
            out of reach, this is what can be reached.
        binding: the constraints that cost something: "floor:0", "slot:3", "budget".
        split: rows that the relaxed optimum divides between columns (settled by rounding).
    """

    choice: IntArray
    statuses: tuple[Status, ...]
    cost: float
    success: float
    lower_bound: float
    gap: float
    floor_prices: FloatArray
    slot_prices: FloatArray
    budget_price: float
    floor_success: FloatArray
    binding: tuple[str, ...]
    split: int

    @property
    def status(self) -> Status:
        """The worst of `statuses`."""
        return self.statuses[0]


def one_floor(
    cost: ArrayLike,
    success: ArrayLike,
    floor: float,
    *,
    capacity: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
) -> AssignmentProblem:
    """The common case: one floor over all rows; no limits and everything allowed if left out."""
    shape = np.asarray(cost).shape
    return AssignmentProblem(
        cost=np.asarray(cost, dtype=np.float64),
        success=np.asarray(success, dtype=np.float64),
        capacity=np.full(shape[1], shape[0]) if capacity is None else np.asarray(capacity),
        allowed=np.ones(shape, dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool),
        floors=(FloorRow(np.ones(shape[0], dtype=bool), floor),),
    )


def _shaped(name: str, array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {array.shape}, wanted {tuple(shape)}")
    return array


def _check(name: str, array: NDArray[Any], good: NDArray[Any], wanted: str) -> None:
    if not good.all():
        index = np.unravel_index(int(np.argmin(good)), array.shape)
        where = ", ".join(str(int(part)) for part in index)
        raise ValueError(f"{name}[{where}] is {array[index]}, wanted {wanted}")
