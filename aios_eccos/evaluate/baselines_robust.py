"""The rule of batch-robust routing (arXiv 2603.26796) with a floor, as far as it is known.

40 neighbors per query; each model's success is a low percentile of bootstrap means over them; the
batch programme is solved on these instead of a corrected floor. Left out: GPU placement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..optimize.problem import one_floor
from ..optimize.solve import solve
from ..values import FloatArray

PERCENTILE = 10.0
BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Robust:
    """Realised minus asked floor, and realised mean cost in dollars."""

    floor: float
    shortfall: float
    cost: float


def robust_success(
    neighbors: FloatArray, *, percentile: float = PERCENTILE, seed: int = 0
) -> FloatArray:
    """(n, m) low percentile of bootstrap means of the neighbors' correctness (n, k, m), 0..1."""
    n, k, m = neighbors.shape
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(k, np.full(k, 1 / k), size=BOOTSTRAPS) / k
    low = np.empty((n, m))
    for i in range(n):  # one query at a time: all at once is n x 200 x m
        low[i] = np.percentile(weights @ neighbors[i], percentile, axis=0)
    return np.clip(low, 0.0, 1.0)


def robust_assignment(
    neighbors: FloatArray, cost: FloatArray, outcomes: FloatArray, spent: FloatArray, floor: float
) -> Robust:
    """One batch under the floor; `outcomes` and `spent` (n, m) say what became of it."""
    choice = solve(one_floor(cost, robust_success(neighbors), floor)).choice
    line = np.arange(len(choice))
    realised = float(outcomes[line, choice].mean())
    return Robust(floor, realised - floor, float(spent[line, choice].mean()))
