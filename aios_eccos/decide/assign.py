"""Waiting calls to models: few at the price of success, many under the floors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, Solution
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.slot_prices import SlotPrices, losses
from aios_eccos.decide.whole.solve import solve
from aios_eccos.values import BoolArray, Candidate, FloatArray, IntArray, Model, Slots
from aios_eccos.workload.store import Load

#: Calls with a floor from which on the floors are put on the batch itself; below, history's price
#: stands for them. Measured on math10 and mixed4 (hybrid forecasts, streams of 2,048 drawn rows,
#: cost at equal success beside the price's): a floor per batch costs 1.22 and 1.24 x at 64 rows,
#: 1.04 and 1.02 x at 512; it is missed by .013 and .012, at the price by .019 and .014.
WHOLE_BATCH = 512
#: Most that a call is taken to lose by a full model, in the dearest forecast cost of its batch.
LOST_MOST = 3.0


@dataclass(frozen=True, slots=True)
class Assigned:
    """What was chosen for a batch, and what its calls lost by finding models full.

    Attributes:
        lost: (b, m) as `slot_prices.losses` gives it; None where nothing is learned of slots.
        usual: dollars per output token, against which a slot's price is large or small.
        whole: whether all were assigned as one, under their floors; else each by its own price.
    """

    solution: Solution
    lost: FloatArray | None = None
    usual: float = 0.0
    whole: bool = False


def assigned(
    candidates: Sequence[Candidate],
    free: IntArray,
    settings: Settings,
    slot_prices: SlotPrices,
    *,
    whole_batches: bool = True,
) -> Assigned:
    """A model for each candidate within the free slots (m,); earlier ones go first if too few."""
    price = np.array([candidate.price for candidate in candidates])
    problem = AssignmentProblem(
        cost=np.stack([candidate.cost for candidate in candidates]),
        success=np.stack([candidate.success for candidate in candidates]),
        capacity=free,
        allowed=np.stack([candidate.allowed for candidate in candidates]),
    )
    known = np.isfinite(price)
    if whole_batches and int(known.sum()) >= WHOLE_BATCH:
        floors = floor_rows(candidates, known)
        return _whole(replace(problem, floors=floors), known, settings)
    if settings.over_capacity == "wait":  # a call that waits for its best is not sent elsewhere
        return Assigned(solve_at_price(problem, price, over_capacity="wait"))
    tokens = np.stack([candidate.output_tokens for candidate in candidates])
    return _at_price(problem, price, tokens, free, slot_prices)


def _whole(problem: AssignmentProblem, known: BoolArray, settings: Settings) -> Assigned:
    """All calls as one, under the floors of those whose price is known.

    The others take the strongest model that they can have: what they miss of it costs them.
    """
    unknown = ~known & problem.allowed.any(axis=1)
    cost = problem.cost.copy()
    net = net_cost(cost[unknown], problem.success[unknown], np.inf, problem.allowed[unknown])
    cost[unknown] = net - net.min(axis=1, keepdims=True)
    solution = solve(
        replace(problem, cost=cost),
        over_capacity=settings.over_capacity,
        on_infeasible_floor=settings.on_infeasible_floor,
    )
    return Assigned(solution, whole=True)


def _at_price(
    problem: AssignmentProblem,
    price: FloatArray,
    tokens: FloatArray,
    free: IntArray,
    slot_prices: SlotPrices,
) -> Assigned:
    """Each call by its own price (n,); what full models cost them goes into the slots' prices.

    Tokens (n, m) forecast say how long a slot is held; `free` (m,) goes beyond n.
    """
    carried = slot_prices.charged(free) * tokens
    solution = solve_at_price(problem, price, carried)
    shown = np.maximum(solution.slot_prices, carried.mean(axis=0))
    solution = replace(solution, slot_prices=shown)
    choice, cost = solution.choice, problem.cost
    full = free <= np.bincount(choice[choice >= 0], minlength=problem.m)
    # Of calls that are served now, had a choice, and know what a success is worth.
    rows = (choice >= 0) & np.isfinite(price) & (problem.allowed.sum(axis=1) > 1)
    if not (full.any() or slot_prices.slots.any()) or not rows.any():
        return Assigned(solution)
    value = net_cost(cost, problem.success, price, problem.allowed)[rows]
    most = LOST_MOST * float(cost[rows].max())
    lost = losses(value, carried[rows], tokens[rows], choice[rows], full, most)
    return Assigned(solution, lost, float((cost[rows] / np.maximum(tokens[rows], 1.0)).mean()))


def floor_rows(candidates: Sequence[Candidate], known: BoolArray) -> tuple[FloorRow, ...]:
    """One floor per policy, and one per floor that calls bring themselves, in terms of forecasts.

    Each is raised by the optimism of its forecasts (`Price.batch_floor`), so that it holds once
    real. Calls whose price is not `known` (n,) have none.
    """
    groups: dict[tuple[str, float | None], list[int]] = {}
    for row in np.flatnonzero(known).tolist():
        candidate = candidates[row]
        groups.setdefault((candidate.worth.policy, candidate.query.floor), []).append(row)
    rows = []
    for mine in groups.values():
        floor = np.mean([candidates[row].worth.batch_floor for row in mine])
        mask = np.isin(np.arange(len(candidates)), mine)
        rows.append(FloorRow(mask, float(np.clip(floor, 0.0, 1.0))))
    return tuple(rows)


def slots_of(models: Sequence[Model], loads: Mapping[str, Load]) -> Slots:
    """The loads of the models' slots, by model name."""
    found = {model.name: loads[model.slot] for model in models}
    return Slots(
        free={name: load.free for name, load in found.items()},
        limits={name: load.limit for name, load in found.items()},
        cooling={name: load.cooling_s for name, load in found.items() if load.cooling_s > 0},
    )
