"""Waiting calls to models: small batches at prices, large ones under the floors themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.problem import AssignmentProblem, Solution
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.slot_prices import SharedPrices, losses
from aios_eccos.decide.whole.solve import solve
from aios_eccos.floor.worth import floor_rows
from aios_eccos.values import BoolArray, Candidate, FloatArray, IntArray, Model, Slots
from aios_eccos.workload.store import Load

#: Rows from which the floors are put on the batch itself; below, history's price stands for them.
#: Measured on train and val rows of math10 and mixed4 (hybrid forecasts, 12 halvings, streams of
#: 2,048 drawn rows, cost at equal success beside the price's): a floor per batch costs 1.22 and
#: 1.24 x at 64 rows, 1.07 and 1.04 x at 256, 1.04 and 1.02 x at 512, 1.04 and 1.00 x at 1,024, each
#: +- .02; the floor is missed by .013 and .012 on average, at the price by .019 and .014.
WHOLE_BATCH = 512
#: Most that a call is taken to lose by a full model, in the dearest forecast cost of its batch.
LOST_MOST = 3.0


def assigned(
    candidates: Sequence[Candidate], free: IntArray, settings: Settings, shared: SharedPrices
) -> Solution:
    """A model for each candidate within the free slots; what slots are worth is learned on the way.

    Earlier candidates go first where slots are short.
    """
    cost = np.stack([candidate.total_cost for candidate in candidates])
    known = np.array([math.isfinite(candidate.price) for candidate in candidates])
    # A certificate speaks of one price for all calls.
    small = settings.floor_mode == "certified" or len(candidates) < WHOLE_BATCH
    whole = not small and bool(known.all())
    problem = AssignmentProblem(
        cost=cost,
        success=np.stack([candidate.success for candidate in candidates]),
        capacity=free,
        allowed=np.stack([candidate.allowed for candidate in candidates]),
        floors=floor_rows(candidates) if whole else (),
    )
    if whole:
        return solve(
            problem,
            over_capacity=settings.over_capacity,
            on_infeasible_floor=settings.on_infeasible_floor,
        )
    price = np.array([candidate.price for candidate in candidates])
    if settings.over_capacity == "wait":  # a call that waits for its best is not sent elsewhere
        return solve_at_price(problem, price, over_capacity="wait")
    tokens = np.stack([candidate.output_tokens for candidate in candidates])
    carried = shared.charged(free) * tokens
    solution = solve_at_price(problem, price, carried)
    _learn(problem, price, tokens, carried, solution.choice, known, shared)
    slot_prices = np.maximum(solution.slot_prices, carried.mean(axis=0))
    return replace(solution, slot_prices=slot_prices)


def _learn(
    problem: AssignmentProblem,
    price: FloatArray,
    tokens: FloatArray,
    carried: FloatArray,
    choice: IntArray,
    known: BoolArray,
    shared: SharedPrices,
) -> None:
    """Tell what the calls that are served now, and had a choice, lost to full models."""
    served = choice >= 0
    full = problem.capacity <= np.bincount(choice[served], minlength=problem.m)
    if not (full.any() or shared.slots.any()):
        return
    rows = served & known & (problem.allowed.sum(axis=1) > 1)
    if rows.any():
        value = net_cost(problem.cost, problem.success, price, problem.allowed)[rows]
        most = LOST_MOST * float(problem.cost[rows].max())
        lost = losses(value, carried[rows], tokens[rows], choice[rows], full, most)
        usual = float((problem.cost[rows] / np.maximum(tokens[rows], 1.0)).mean())
        shared.learn(lost, usual)


def slots_of(models: Sequence[Model], loads: Mapping[str, Load]) -> Slots:
    """The loads of the models' slots, by model name."""
    found = {model.name: loads[model.slot] for model in models}
    return Slots(
        free={name: load.free for name, load in found.items()},
        limits={name: load.limit for name, load in found.items()},
        cooling=frozenset(name for name, load in found.items() if load.cooling_s > 0),
    )
