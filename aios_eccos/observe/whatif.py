"""Kept calls, decided again at another price of success: no model is asked, none forecast anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from aios_eccos import metrics
from aios_eccos.decide.rule import choose
from aios_eccos.floor.curve import PriceCurve
from aios_eccos.observe.call_views import WhatIfView
from aios_eccos.observe.trace import Trace
from aios_eccos.values import BoolArray, FloatArray, IntArray, Plan
from aios_eccos.values.plan import parse_plan


@dataclass(frozen=True)
class KeptCalls:
    """What was forecast of every model for n calls; arrays are (n, m).

    Attributes:
        cost: dollars.
        plans: of the columns that are plans, by column.
        known: where the model stood to choice; allowed: where it could have been chosen.
        optimism: mean of what forecasts of the choices promised more than was to be expected.
    """

    models: tuple[str, ...]
    plans: Mapping[int, Plan]
    success: FloatArray
    cost: FloatArray
    known: BoolArray
    allowed: BoolArray
    optimism: float

    def choice_at(self, price: float | FloatArray) -> IntArray:
        """(n,) columns that one or (n,) prices choose with every slot free; -1 where none may."""
        return choose(self.cost, self.success, price, self.allowed)


def answered(traces: Sequence[Trace]) -> list[Trace]:
    """The calls that can be decided again: answered, decided with forecasts, in the unit of now."""
    found = [trace for trace in traces if trace.chosen is not None and trace.failure is None]
    money = max(found, key=lambda trace: trace.at).money if found else True
    return [trace for trace in found if trace.money == money]


def kept_calls(
    traces: Sequence[Trace],
    drop: Collection[str] = (),
    prices: Mapping[str, tuple[float, float]] | None = None,
) -> KeptCalls:
    """The calls as arrays, without the models of `drop`, at `prices` or those that held.

    A plan goes with each of its models, and costs what they cost then.

    Args:
        prices: dollars per input and output token by model.
    """
    models = tuple(sorted({option.model for trace in traces for option in trace.options}))
    plans = _plans(models)
    gone = {*drop} | {models[j] for j, plan in plans.items() if {*drop} & {*plan.models}}
    shape = (len(traces), len(models))
    success, cost = np.zeros((2, *shape))
    known, allowed = np.zeros((2, *shape), dtype=bool)
    for i, trace in enumerate(traces):
        dollars = _dollars(trace, prices or {}, {models[j]: plan for j, plan in plans.items()})
        for option in trace.options:
            j = models.index(option.model)
            success[i, j], cost[i, j] = option.success, dollars[option.model]
            known[i, j] = True
            allowed[i, j] = option.allowed and option.model not in gone
    gaps = [t.chosen.success - t.promised for t in traces if t.chosen and t.promised is not None]
    optimism = float(np.mean(gaps)) if gaps else 0.0
    return KeptCalls(models, plans, success, cost, known, allowed, optimism)


def _plans(names: Sequence[str]) -> dict[int, Plan]:
    """The columns that are plans of other columns."""
    found = {}
    for j, name in enumerate(names):
        with suppress(ValueError):
            found[j] = parse_plan(name, names)
    return found


def _dollars(
    trace: Trace, prices: Mapping[str, tuple[float, float]], plans: Mapping[str, Plan]
) -> dict[str, float]:
    """What each column of a call would have cost by forecast, at `prices` or those that held."""
    held = {option.model: option.cost_usd for option in trace.options}
    now = dict(held)
    for option in trace.options:
        if price := prices.get(option.model):
            now[option.model] = trace.input_tokens * price[0] + option.output_tokens * price[1]
    for name, plan in plans.items():
        if name in held and held.keys() >= {*plan.models}:
            asked = sum(held[member] for member in plan.members)
            # The chance of its being asked is what the plan's own forecast was made with.
            share = (held[name] - asked) / held[plan.escape] if held[plan.escape] > 0 else 0.0
            escapes = min(max(share, 0.0), 1.0)
            now[name] += sum(now[member] - held[member] for member in plan.members)
            now[name] += escapes * (now[plan.escape] - held[plan.escape])
    return now


def shares(names: Sequence[str]) -> dict[str, float]:
    """The share of each name."""
    return {name: names.count(name) / len(names) for name in sorted(set(names))}


def what_if(traces: Sequence[Trace], floor: float, curve: PriceCurve) -> WhatIfView | None:
    """Answered calls decided again at a floor of 0..1, as if no limit bound; None without any.

    Both sides are forecasts, made alike: `now` is what was chosen then, by its forecast.
    """
    if not (served := answered(traces)):
        return None
    price = curve.price_for(floor)
    calls = kept_calls(served)
    rows = np.arange(len(served))
    # What served although nothing was allowed to is decided among all.
    pinned = ~calls.allowed.any(axis=1, keepdims=True) & calls.known
    then = choose(calls.cost, calls.success, price, calls.allowed | pinned)
    now = np.array([calls.models.index(str(trace.model)) for trace in served])
    hopes = [trace.promised for trace in served if trace.promised is not None]
    success = float(calls.success[rows, then].mean())
    return WhatIfView(
        floor=floor,
        reachable=curve.reachable,
        calls=len(served),
        money=all(trace.money for trace in served),
        success_price_usd=price,
        cost_now_usd=float(calls.cost[rows, now].mean()),
        cost_then_usd=float(calls.cost[rows, then].mean()),
        promised_now=metrics.mean_of(hopes),
        promised_then=min(max(success - curve.optimism(price), 0.0), 1.0),
        shares_now=shares([calls.models[j] for j in now]),
        shares_then=shares([calls.models[j] for j in then]),
    )
