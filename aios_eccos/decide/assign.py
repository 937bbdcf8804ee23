"""Waiting calls to models: few at the price of success, many under the floors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide.live.at_price import solve_at_price
from aios_eccos.decide.plans import Columns, with_plans
from aios_eccos.decide.problem import AssignmentProblem, FloorRow, OverCapacity, Solution
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.slot_prices import SlotPrices, losses
from aios_eccos.decide.whole.solve import solve
from aios_eccos.values import (
    BoolArray,
    Candidate,
    FloatArray,
    IntArray,
    Model,
    Rates,
    Slots,
    Spent,
)
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
    """A column for each candidate within the free slots (m,); earlier ones go first if too few.

    The candidates' columns are the same. Of a plan, `free` says how many calls could start on it.
    """
    price, columns = np.array([each.price for each in candidates]), Columns.of(candidates)
    problem = AssignmentProblem(
        cost=np.stack([candidate.cost for candidate in candidates]),
        success=np.stack([candidate.success for candidate in candidates]),
        capacity=free,
        allowed=np.stack([candidate.allowed for candidate in candidates]),
    )
    known = np.isfinite(price)
    if whole_batches and int(known.sum()) >= WHOLE_BATCH:
        floors = floor_rows(candidates, known)
        return _whole(replace(problem, floors=floors), known, settings, columns)
    if settings.over_capacity == "wait":  # a call that waits for its best is not sent elsewhere
        return Assigned(_solved(problem, price, columns, waits=True))
    tokens = np.stack([candidate.output_tokens for candidate in candidates])
    return _at_price(problem, price, tokens, free, slot_prices, columns)


def _solved(
    problem: AssignmentProblem,
    price: FloatArray,
    columns: Columns,
    carried: FloatArray | float = 0.0,
    *,
    waits: bool = False,
) -> Solution:
    """Every row its best column at its price (n,), within the models' limits."""
    over: OverCapacity = "wait" if waits else "spill"
    first = solve_at_price(problem, price, carried, over_capacity=over)
    if not columns.plans:
        return first
    value = net_cost(problem.cost, problem.success, price, problem.allowed, carried)
    shares = carried if isinstance(carried, float) else carried[:, : columns.m]
    models = partial(solve_at_price, price=price, carried=shares)
    return with_plans(problem, columns, first, value, models, waits=waits)


def _whole(
    problem: AssignmentProblem, known: BoolArray, settings: Settings, columns: Columns
) -> Assigned:
    """All calls as one, under the floors of those whose price is known.

    The others take the strongest model that they can have: what they miss of it costs them.
    """
    unknown = ~known & problem.allowed.any(axis=1)
    cost = problem.cost.copy()
    net = net_cost(cost[unknown], problem.success[unknown], np.inf, problem.allowed[unknown])
    cost[unknown] = net - net.min(axis=1, keepdims=True)
    problem = replace(problem, cost=cost)
    under_floors = partial(
        solve,
        over_capacity=settings.over_capacity,
        on_infeasible_floor=settings.on_infeasible_floor,
    )
    solution = under_floors(problem)
    if columns.plans:
        price = np.zeros(problem.n)
        for row, worth in zip(problem.floors, solution.floor_prices, strict=True):
            price[row.rows] = worth
        value = net_cost(cost, problem.success, price, problem.allowed)
        waits = settings.over_capacity == "wait"
        solution = with_plans(
            problem, columns, solution, value, under_floors, waits=waits, keeps=True
        )
    return Assigned(_in_dollars(solution, np.where(known, 0.0, np.inf)), whole=True)


def _in_dollars(solution: Solution, price: FloatArray) -> Solution:
    """The solution without slot prices where a call has no price of success (n,).

    Such a call has the strongest model at any cost, so what it would give for a slot is no sum.
    """
    if np.isfinite(price).all():
        return solution
    return replace(solution, slot_prices=np.zeros_like(solution.slot_prices))


def _at_price(
    problem: AssignmentProblem,
    price: FloatArray,
    tokens: FloatArray,
    free: IntArray,
    slot_prices: SlotPrices,
    columns: Columns,
) -> Assigned:
    """Each call by its own price (n,); what full models cost them goes into the slots' prices.

    Tokens (n, m) forecast say how long a slot is held; `free` (m,) goes beyond n.
    """
    models = slice(columns.m)
    carried = columns.carried(slot_prices.charged(free[models]) * tokens[:, models])
    solution = _in_dollars(_solved(problem, price, columns, carried), price)
    shown = np.maximum(solution.slot_prices, carried.mean(axis=0))
    solution = replace(solution, slot_prices=shown)
    choice, cost = solution.choice, problem.cost
    full = columns.full(free[models] <= columns.taken(choice))
    # Of calls that are served now, had a choice, and know what a success is worth.
    rows = (choice >= 0) & np.isfinite(price) & (problem.allowed.sum(axis=1) > 1)
    if not (full.any() or slot_prices.slots.any()) or not rows.any():
        return Assigned(solution)
    value = net_cost(cost, problem.success, price, problem.allowed)[rows]
    most = LOST_MOST * float(cost[rows].max())
    lost = losses(value, carried[rows], tokens[rows], choice[rows], full, most)
    usual = float((cost[rows] / np.maximum(tokens[rows], 1.0)).mean())
    return Assigned(solution, columns.to_models(lost), usual)


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


def slots_of(
    models: Sequence[Model],
    loads: Mapping[str, Load],
    spent: Mapping[str, Spent] | None = None,
    others: Mapping[str, int] | None = None,
) -> Slots:
    """The loads of the models' slots by model name, and what is spent by a cap's key.

    `others` are requests on a model's server that no kernel has made: they take slots, too.
    """
    elsewhere = others or {}
    found = {model.name: loads[model.slot] for model in models}
    rated = {name: load for name, load in found.items() if load.rates != Rates()}
    limited = {name: load for name, load in rated.items() if load.rates.tpm is not None}
    return Slots(
        free={name: max(load.free - elsewhere.get(name, 0), 0) for name, load in found.items()},
        limits={name: load.limit for name, load in found.items()},
        cooling={name: load.cooling_s for name, load in found.items() if load.cooling_s > 0},
        closed={name: load.closed_s for name, load in found.items() if load.closed_s > 0},
        rates={name: load.rates for name, load in rated.items()},
        requests={name: load.requests for name, load in rated.items()},
        tokens={name: load.tokens_left for name, load in limited.items()},
        opens={name: load.opens_s for name, load in rated.items()},
        spent=spent or {},
    )
