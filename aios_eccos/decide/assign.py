"""Waiting calls to models: small batches at prices, large ones under the floors themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Solution
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.slot_prices import SlotPrices, losses
from aios_eccos.decide.whole.solve import solve
from aios_eccos.values import Candidate, FloatArray, IntArray, Model, Slots
from aios_eccos.workload.store import Load

#: Rows from which the floors are put on the batch itself; below, history's price stands for them.
#: Measured on train and val rows of math10 and mixed4 (hybrid forecasts, 12 halvings, streams of
#: 2,048 drawn rows, cost at equal success beside the price's): a floor per batch costs 1.22 and
#: 1.24 x at 64 rows, 1.07 and 1.04 x at 256, 1.04 and 1.02 x at 512, 1.04 and 1.00 x at 1,024, each
#: +- .02; the floor is missed by .013 and .012 on average, at the price by .019 and .014.
WHOLE_BATCH = 512
#: Most that a call is taken to lose by a full model, in the dearest forecast cost of its batch.
LOST_MOST = 3.0


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was chosen for a batch, and what its calls lost by finding models full.

    Attributes:
        lost: (b, m) as `slot_prices.losses` gives it; None where nothing is learned of slots.
        usual: dollars per output token, against which a slot's price is large or small.
    """

    solution: Solution
    lost: FloatArray | None = None
    usual: float = 0.0


def assigned(
    candidates: Sequence[Candidate],
    free: IntArray,
    settings: Settings,
    slot_prices: SlotPrices,
    *,
    whole_batches: bool = True,
) -> Assigned:
    """A model for each candidate within the free slots; earlier ones go first where they are short.

    Args:
        free: (m,) slots.
        whole_batches: whether a large batch may be solved under its floors.
    """
    cost = np.stack([candidate.total_cost for candidate in candidates])
    known = np.array([math.isfinite(candidate.price) for candidate in candidates])
    whole = whole_batches and len(candidates) >= WHOLE_BATCH and bool(known.all())
    problem = AssignmentProblem(
        cost=cost,
        success=np.stack([candidate.success for candidate in candidates]),
        capacity=free,
        allowed=np.stack([candidate.allowed for candidate in candidates]),
        floors=floor_rows(candidates) if whole else (),
    )
    if whole:
        return Assigned(
            solve(
                problem,
                over_capacity=settings.over_capacity,
                on_infeasible_floor=settings.on_infeasible_floor,
            )
        )
    price = np.array([candidate.price for candidate in candidates])
    if settings.over_capacity == "wait":  # a call that waits for its best is not sent elsewhere
        return Assigned(solve_at_price(problem, price, over_capacity="wait"))
    tokens = np.stack([candidate.output_tokens for candidate in candidates])
    carried = slot_prices.charged(free) * tokens
    solution = solve_at_price(problem, price, carried)
    shown = np.maximum(solution.slot_prices, carried.mean(axis=0))
    solution = replace(solution, slot_prices=shown)
    served = solution.choice >= 0
    full = free <= np.bincount(solution.choice[served], minlength=problem.m)
    # Of calls that are served now, and had a choice.
    rows = served & known & (problem.allowed.sum(axis=1) > 1)
    if not (full.any() or slot_prices.slots.any()) or not rows.any():
        return Assigned(solution)
    value = net_cost(cost, problem.success, price, problem.allowed)[rows]
    most = LOST_MOST * float(cost[rows].max())
    lost = losses(value, carried[rows], tokens[rows], solution.choice[rows], full, most)
    return Assigned(solution, lost, float((cost[rows] / np.maximum(tokens[rows], 1.0)).mean()))


def floor_rows(candidates: Sequence[Candidate]) -> tuple[FloorRow, ...]:
    """One floor per policy, and one per floor that calls bring themselves, in terms of forecasts.

    Each is raised by the optimism of its forecasts (`Price.batch_floor`), so that it holds once
    real.
    """
    groups = [(candidate.worth.policy, candidate.query.floor) for candidate in candidates]
    rows = []
    for group in dict.fromkeys(groups):
        mask = np.array([g == group for g in groups])
        floors = [c.worth.batch_floor for c, mine in zip(candidates, mask, strict=True) if mine]
        rows.append(FloorRow(mask, float(np.clip(np.mean(floors), 0.0, 1.0))))
    return tuple(rows)


def slots_of(models: Sequence[Model], loads: Mapping[str, Load]) -> Slots:
    """The loads of the models' slots, by model name."""
    found = {model.name: loads[model.slot] for model in models}
    return Slots(
        free={name: load.free for name, load in found.items()},
        limits={name: load.limit for name, load in found.items()},
        cooling={name: load.cooling_s for name, load in found.items() if load.cooling_s > 0},
    )
