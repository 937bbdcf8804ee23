"""Status, models and charts from what was read: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from aios_eccos import metrics
from aios_eccos.observe.facts import Facts
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.views import (
    ExploredView,
    ModelsView,
    ModelView,
    PointView,
    Rate,
    SeriesView,
    StatusView,
    WindowView,
)
from aios_eccos.values import Model
from aios_eccos.workload.periods import (
    DAY_S,
    HOUR_S,
    LENGTH_S,
    MINUTE_S,
    names_of,
    number,
    total_of,
)

Sums = Mapping[str, float]


def rate_of(interval: metrics.Interval | None) -> Rate | None:
    """An interval as it is shown."""
    if interval is None:
        return None
    return Rate(value=interval.value, low=interval.low, high=interval.high)


def status(facts: Facts) -> StatusView:
    """`GET /eccos/status`."""
    calls_per_s, usd_per_h = _pace(facts)
    return StatusView(
        at=facts.at,
        source="redis" if facts.edge is None else "kernel",
        namespace=facts.settings.namespace,
        floor=str(facts.settings.quality_floor),
        budget_per_call=facts.settings.budget_per_call,
        money=facts.money,
        degraded=facts.degraded,
        kernels=facts.kernels,
        calls_per_s=calls_per_s,
        usd_per_h=usd_per_h,
        success_price_usd=_success_price(facts.recent),
        models=model_views(facts),
        windows=[
            window("start", facts.since, facts.total),
            window("day", facts.at - DAY_S, _day(facts)),
        ],
        alarms=list(facts.alarms),
        edge=facts.edge,
    )


def models(facts: Facts) -> ModelsView:
    """`GET /eccos/models`."""
    return ModelsView(at=facts.at, money=facts.money, models=model_views(facts))


def _day(facts: Facts) -> dict[str, float]:
    return total_of(facts.hours[1:])


def _pace(facts: Facts) -> tuple[float, float]:
    """Calls per second and dollars per hour over the last minute, as far as it is kept."""
    before, this = facts.minutes
    passed = facts.at % MINUTE_S
    weight = 1 - passed / MINUTE_S

    def per_s(name: str) -> float:
        return (before.get(name, 0.0) * weight + this.get(name, 0.0)) / MINUTE_S

    return per_s("calls"), per_s("cost") * HOUR_S


def _success_price(recent: Sequence[Trace]) -> float | None:
    prices = (trace.success_price_usd for trace in recent)
    return next((price for price in prices if price is not None), None)


def model_views(facts: Facts) -> list[ModelView]:
    """Every model, in the order of the configuration."""
    day = _day(facts)
    slot_prices: dict[str, float] = {}
    for trace in facts.recent:
        for option in trace.options:
            known = slot_prices.get(option.model, 0.0)
            slot_prices[option.model] = max(known, option.slot_price_usd)
    return [_model(model, facts, day, slot_prices.get(model.name, 0.0)) for model in facts.models]


def _model(model: Model, facts: Facts, day: Sums, slot_price: float) -> ModelView:
    name, load = model.name, facts.loads[model.name]
    calls, answers = day.get(f"calls:{name}", 0.0), day.get("answers", 0.0)
    judged = day.get(f"verdicts:{name}", 0.0)
    return ModelView(
        model=name,
        in_use=load.in_use,
        limit=load.limit,
        declared_limit=model.limit,
        cooling_s=load.cooling_s,
        price=model.price_state,
        input_price=model.input_price,
        output_price=model.output_price,
        context_window=model.context_window,
        abilities=None if model.abilities is None else sorted(model.abilities),
        calls=round(calls),
        failures=round(day.get(f"failures:{name}", 0.0)),
        share=metrics.mean(calls, day.get("calls", 0.0)),
        cost_usd=day.get(f"cost:{name}", 0.0),
        verdicts=round(judged),
        realised=rate_of(metrics.success_rate(day.get(f"successes:{name}", 0.0), judged)),
        hoped=metrics.mean(day.get(f"hope:{name}", 0.0), answers),
        slot_price_usd=slot_price,
        explored=_explored(name, facts.total),
    )


def _explored(name: str, total: Sums) -> ExploredView | None:
    """What explored calls say of a model; None while none of them was judged."""
    from aios_eccos.floor.explore import Sums as Explored

    def of(key: str) -> float:
        return total.get(f"{key}:{name}", 0.0)

    if of("told") < 1 or of("explore_n") < 1:
        return None
    found = Explored(*(of(f"explore_{field.name}") for field in fields(Explored))).estimate()
    half = metrics.Z * found.standard_error
    value, low, high = (min(max(found.value + by, 0.0), 1.0) for by in (0.0, -half, half))
    return ExploredView(
        calls=round(of("explored")),
        judged=round(of("told")),
        success=Rate(value=value, low=low, high=high),
        effective=found.effective,
    )


def window(name: str, since: float | None, sums: Sums) -> WindowView:
    """What the calls of some time came to."""

    def of(key: str) -> float:
        return sums.get(key, 0.0)

    return WindowView(
        name=name,
        since=since,
        calls=round(of("calls")),
        failures=round(of("failures")),
        cost_usd=of("cost"),
        promised=metrics.mean(of("promised"), of("promises")),
        verdicts=round(of("verdicts")),
        verdict_share=metrics.mean(of("verdicts"), of("calls")),
        realised=rate_of(metrics.success_rate(of("successes"), of("verdicts"))),
        judged_promised=metrics.mean(of("judged_promised"), of("judged_promises")),
        mean_wait_s=metrics.mean(of("waited"), of("calls")),
        mean_decision_s=metrics.mean(of("decided"), of("calls")),
        far_share=metrics.mean(of("far"), of("placed")),
        limited=round(of("limited")),
    )


def series(now: float, minutes: Sequence[Sums], hours: Sequence[Sums]) -> SeriesView:
    """`GET /eccos/series` from sums by minute and by hour, the present one last."""
    return SeriesView(at=now, minutes=_points("m", now, minutes), hours=_points("h", now, hours))


def _points(kind: str, now: float, parts: Sequence[Sums]) -> list[PointView]:
    last = number(kind, now)
    return [
        PointView(
            at=(last - len(parts) + 1 + i) * LENGTH_S[kind],
            calls=round(sums.get("calls", 0.0)),
            failures=round(sums.get("failures", 0.0)),
            cost_usd=sums.get("cost", 0.0),
            promised=metrics.mean(sums.get("promised", 0.0), sums.get("promises", 0.0)),
            realised=metrics.mean(sums.get("successes", 0.0), sums.get("verdicts", 0.0)),
            by_model={n: round(sums[f"calls:{n}"]) for n in names_of("calls", sums)},
        )
        for i, sums in enumerate(parts)
    ]
