"""The kernel's own recent calls, decided again under another floor, limits, prices or pool.

No model is asked: success and cost are the forecasts in the log, waits come from a simulation of
the calls' own arrivals. The same simulation with nothing changed shows its own error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aios_eccos import metrics
from aios_eccos.config import Floor
from aios_eccos.decide.rule import net_cost
from aios_eccos.errors import DataError
from aios_eccos.lab.queueing import queue
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.whatif import KeptCalls, answered, kept_calls, shares
from aios_eccos.serve.dispatch import DECIDED_S
from aios_eccos.values import FloatArray, IntArray

#: Prices of success tried: geometric, from where cost decides to where success does.
PRICES = 200
#: An answer takes at least this long, seconds.
SHORTEST_S = 1e-3


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked: fields left alone stay as they were; prices: dollars per token, in and out."""

    floor: Floor | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """How calls went, or would go. Waits in seconds, costs in dollars per call.

    `unserved` are those that no model may serve; `promised` is the mean success forecast, optimism
    taken off; `waited` the share of calls that waited longer than `DECIDED_S`: what is
    shorter may be the window in which calls are gathered, or a busy machine.
    """

    calls: int
    unserved: int
    cost_usd: float
    promised: float | None
    wait_mean_s: float
    wait_p95_s: float
    waited: float
    share: dict[str, float]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What happened, the same simulated, and the change simulated, decided at an absolute `floor`.

    `reachable` is the most that the models left would promise; `price_usd`: what a success is
    worth.
    """

    happened: Course
    simulated: Course
    changed: Course
    floor: float | None
    reachable: float
    price_usd: float
    money: bool


def what_if(traces: Sequence[Trace], change: Change, limits: Mapping[str, int]) -> WhatIf:
    """Decide the log's answered calls again, within `limits` (a model without one has none).

    Raises:
        DataError: no answered calls, or a change names a model that the log does not know.
    """
    served = sorted(answered(traces), key=_arrival)
    if not served:
        raise DataError("the decision log holds no answered calls to decide again")
    before, after = kept_calls(served), kept_calls(served, change.drop, change.prices)
    for name in (*change.limits, *change.drop, *change.prices):
        if name not in before.models:
            raise DataError(f"{name!r} is not in the log, which knows {', '.join(before.models)}")
    durations = _durations(served, before.models)
    usual = metrics.mean_of([t.floor for t in served if t.floor is not None])
    floor = usual if change.floor is None else _absolute(change.floor, after)
    prices = np.array([np.inf if p is None else p for p in (t.success_price_usd for t in served)])
    same = np.where(np.isfinite(prices), prices, _dearest(before))
    price = _dearest(after) if floor is None else _price_for(after, floor)
    # Without a change of what prices stand for, the ones that held are kept call by call.
    kept = change.floor is None and not change.drop and not change.prices
    worth = same if kept else np.full(len(served), price)
    return WhatIf(
        happened=_happened(served),
        simulated=_simulate(served, durations, before, same, limits),
        changed=_simulate(served, durations, after, worth, {**limits, **change.limits}),
        floor=floor,
        reachable=_promise(after, after.choice_at(_dearest(after))),
        price_usd=float(np.mean(worth)),
        money=all(trace.money for trace in served),
    )


def _wait(trace: Trace) -> float:
    """Seconds that limits made it wait: the time of the decision itself taken off."""
    return max(trace.waited_s - trace.decision_s, 0.0)


def _arrival(trace: Trace) -> float:
    return trace.at - _wait(trace)


def _durations(traces: Sequence[Trace], models: tuple[str, ...]) -> FloatArray:
    """(n, m) seconds: the call's own for the model that served, else the model's usual pace."""
    served, spoken, tokens = np.zeros((3, len(traces), len(models)))
    for i, trace in enumerate(traces):
        for option in trace.options:
            tokens[i, models.index(option.model)] = option.output_tokens
        if trace.model is not None:
            served[i, models.index(trace.model)] = max(trace.served_s, SHORTEST_S)
            spoken[i, models.index(trace.model)] = trace.output_tokens or 0
    seconds, words = (served * (spoken > 0)).sum(axis=0), spoken.sum(axis=0)
    usual = seconds.sum() / words.sum() if words.any() else served.sum() / len(traces) / 250
    pace = np.where(words > 0, seconds / np.maximum(words, 1), usual)
    return np.where(served > 0, served, np.maximum(tokens * pace, SHORTEST_S))


def _absolute(floor: Floor, calls: KeptCalls) -> float:
    """The floor as success; a relative one of the strongest model that is left."""
    if not floor.relative:
        return floor.value
    single = np.array([column not in calls.plans for column in range(len(calls.models))])
    open_to = calls.allowed.any(axis=0) & single
    mean = np.where(calls.allowed, calls.success, 0.0).sum(axis=0)
    mean = mean / np.maximum(calls.allowed.sum(axis=0), 1)
    return floor.of(float(mean[open_to].max()) - calls.optimism) if open_to.any() else 0.0


def _promise(calls: KeptCalls, choice: IntArray) -> float:
    rows = calls.allowed.any(axis=1)
    if not rows.any():
        return math.nan
    hope = calls.success[np.arange(len(choice)), choice][rows]
    return float(np.clip(hope.mean() - calls.optimism, 0.0, 1.0))


def _dearest(calls: KeptCalls) -> float:
    return 1e3 * max(float(calls.cost.max()), 1e-9)


def _price_for(calls: KeptCalls, floor: float) -> float:
    """Least price of success at which these calls promise the floor."""
    positive = calls.cost[calls.cost > 0]
    low = 1e-2 * float(np.median(positive)) if len(positive) else 1e-9
    for price in (0.0, *np.geomspace(low, max(_dearest(calls), 10 * low), PRICES)):
        if _promise(calls, calls.choice_at(price)) >= floor - 1e-9:  # but for rounding
            return float(price)
    return _dearest(calls)


def _simulate(
    traces: Sequence[Trace],
    durations: FloatArray,
    calls: KeptCalls,
    price: FloatArray,
    limits: Mapping[str, int],
) -> Course:
    """Let the calls arrive; each takes the best column with free slots, else it waits its turn.

    A plan holds a slot of each member for all of its call; the escape's slot is not simulated.
    """
    arrival = np.array([_arrival(trace) for trace in traces])
    room = np.array([limits.get(name, len(price)) for name in calls.models])
    takes = np.eye(len(room), dtype=np.int64)
    for column, plan in calls.plans.items():
        takes[column, [calls.models.index(member) for member in plan.members]] = 1
    never = ((takes > 0) & (room < takes)).any(axis=1)
    value = net_cost(calls.cost, calls.success, price, calls.allowed & ~never)

    def decide(i: int, free: IntArray) -> int:
        full = ((takes > 0) & (free < takes)).any(axis=1)
        open_to = np.where(full, np.inf, value[i])
        j = int(np.argmin(open_to))
        return j if math.isfinite(open_to[j]) else -1

    choice, start = queue(arrival, durations, room, decide, takes)
    rows = np.flatnonzero(choice >= 0)
    if not len(rows):
        raise DataError("no model is left that may serve any call of the log")
    picked = choice[rows]
    share = np.bincount(picked, minlength=len(room)) / len(rows)
    promised = float(calls.success[rows, picked].mean()) - calls.optimism
    return _course(
        start[rows] - arrival[rows],
        unserved=int((choice < 0).sum()),
        cost=float(calls.cost[rows, picked].mean()),
        promised=float(np.clip(promised, 0.0, 1.0)),
        share={name: float(s) for name, s in zip(calls.models, share, strict=True) if s},
    )


def _happened(traces: Sequence[Trace]) -> Course:
    spent = metrics.mean_of([t.cost_usd for t in traces if t.cost_usd is not None])
    return _course(
        np.array([_wait(trace) for trace in traces]),
        unserved=0,
        cost=math.nan if spent is None else spent,
        promised=metrics.mean_of([t.promised for t in traces if t.promised is not None]),
        share=shares([str(trace.model) for trace in traces]),
    )


def _course(
    waits: FloatArray,
    *,
    unserved: int,
    cost: float,
    promised: float | None,
    share: dict[str, float],
) -> Course:
    return Course(
        calls=len(waits),
        unserved=unserved,
        cost_usd=cost,
        promised=promised,
        wait_mean_s=float(waits.mean()),
        wait_p95_s=float(np.percentile(waits, 95)),
        waited=float((waits > DECIDED_S).mean()),
        share=share,
    )
