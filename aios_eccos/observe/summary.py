"""Status and charts, read from the workload store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from aios_eccos import metrics
from aios_eccos.config import Settings
from aios_eccos.errors import WorkloadError
from aios_eccos.floor.alarm import read_alarms
from aios_eccos.observe import views
from aios_eccos.observe.audits import read_audits
from aios_eccos.observe.money import read_caps
from aios_eccos.observe.sums import spending_in
from aios_eccos.observe.trace import Trace, read_traces
from aios_eccos.values import Model, dollars_known
from aios_eccos.workload.notes import moment_of
from aios_eccos.workload.periods import (
    DAY_S,
    HOUR_S,
    LENGTH_S,
    MINUTE_S,
    SINCE,
    TOTAL,
    names_of,
    number,
    periods,
    window_of,
)
from aios_eccos.workload.store import Load, Observed

#: Decisions that current slot prices and the success price are read from.
RECENT = 20
Sums = Mapping[str, float]


def amounts(sums: Sums, name: str = "") -> Callable[[str], float]:
    """Gives the sum of a kind, of one name or of all; 0 where none was added."""
    end = f":{name}" if name else ""
    return lambda kind: sums.get(kind + end, 0.0)


@dataclass(frozen=True)
class Scope:
    """What is reported on: settings and pool may change with a refresh."""

    settings: Settings
    models: tuple[Model, ...]

    @property
    def money(self) -> bool:
        """Whether costs are dollars."""
        return dollars_known(self.models)


def read_status(
    workload: Observed, scope: Scope, edge: views.EdgeView | None = None
) -> views.StatusView:
    """`GET /eccos/status`, read in a few round trips; `edge` only in a kernel's own process.

    Raises:
        WorkloadError: the workload store cannot be used.
    """
    now, settings = time.time(), scope.settings
    hours, minutes = periods("h", now, 25), periods("m", now, 2)
    read = workload.sums([TOTAL, *hours, *minutes])
    total, *parts = (spending_in(sums, scope.money) for sums in read)
    day, minute = window_of("h", now, parts[:25]), window_of("m", now, parts[25:])
    (since,) = workload.notes([SINCE])
    recent = [t for t in read_traces(workload.decisions(RECENT)) if t.money == scope.money]
    limits = {model.slot: model.limit for model in scope.models}
    loads = workload.loads(limits, {model.slot: model.rates for model in scope.models})
    prices = (trace.success_price_usd for trace in recent)
    return views.StatusView(
        at=now,
        source="redis" if edge is None else "kernel",
        namespace=settings.namespace,
        floor=str(settings.quality_floor),
        budget_per_call=settings.budget_per_call,
        money=scope.money,
        degraded=workload.degraded,
        kernels=workload.kernels,
        set_aside=workload.inbox_sizes()[1],
        calls_per_s=minute.get("calls", 0.0) / MINUTE_S,
        usd_per_h=minute.get("cost", 0.0) / MINUTE_S * HOUR_S,
        success_price_usd=next((price for price in prices if price is not None), None),
        models=[
            _model(model, loads[model.slot], total, day, _slot_price(model.name, recent))
            for model in scope.models
        ],
        windows=[
            window("start", moment_of(since), total),
            window("day", now - DAY_S, day),
        ],
        alarms=read_alarms(workload, now),
        edge=edge,
        audits=read_audits(workload, settings, total, day) if scope.money else None,
        plans=[_plan(name, day) for name in names_of("plan_calls", day)],
        warnings=_warnings(workload),
        caps=read_caps(workload, settings, day, recent) if scope.money else [],
    )


def _warnings(workload: Observed) -> list[str]:
    """What is set wrong in the store's server; nothing where that refuses to tell of itself."""
    try:
        return workload.warnings()
    except WorkloadError:
        return []


def _slot_price(name: str, recent: Sequence[Trace]) -> float:
    """The highest of the last decisions."""
    options = (option for trace in recent for option in trace.options)
    return max((option.slot_price_usd for option in options if option.model == name), default=0.0)


def _model(model: Model, load: Load, total: Sums, day: Sums, slot_price: float) -> views.ModelView:
    """One model; its calls are those of the day."""
    of = amounts(day, model.name)
    return views.ModelView(
        model=model.name,
        in_use=load.in_use,
        limit=load.limit,
        declared_limit=model.limit,
        cooling_s=load.cooling_s,
        price=model.price_state,
        input_price=model.input_price,
        output_price=model.output_price,
        context_window=model.context_window,
        abilities=None if model.abilities is None else sorted(model.abilities),
        calls=round(of("calls")),
        failures=round(of("failures")),
        share=metrics.mean(of("calls"), day.get("calls", 0.0)),
        cost_usd=of("cost"),
        verdicts=round(of("verdicts")),
        realised=metrics.success_rate(of("successes"), of("verdicts")),
        hoped=metrics.mean(of("hope"), of("hopes")),
        slot_price_usd=slot_price,
        explored=_explored(amounts(total, model.name)),
        rpm=load.rates.rpm,
        tpm=load.rates.tpm,
        requests=load.requests,
        tokens=load.tokens,
        closed_s=load.closed_s,
    )


def _plan(name: str, day: Sums) -> views.PlanView:
    """One plan's day."""
    of = amounts(day, name)
    return views.PlanView(
        plan=name,
        calls=round(of("plan_calls")),
        share=metrics.mean(of("plan_calls"), day.get("calls", 0.0)),
        agreed=round(of("plan_agreed")),
        escaped=round(of("plan_escaped")),
        cost_usd=of("plan_cost"),
        saved_usd=of("plan_saved"),
        verdicts=round(of("verdicts")),
        realised=metrics.success_rate(of("successes"), of("verdicts")),
    )


def _explored(of: Callable[[str], float]) -> views.ExploredView | None:
    """What explored calls say of a model; None while none of them was judged."""
    from aios_eccos.floor.explore import Sums as Explored

    if of("told") < 1 or of("explore_n") < 1:
        return None
    found = Explored(*(of(f"explore_{field.name}") for field in fields(Explored))).estimate()
    half = metrics.Z * found.standard_error
    ends = (min(max(found.value + by, 0.0), 1.0) for by in (0.0, -half, half))
    return views.ExploredView(
        calls=round(of("explored")),
        judged=round(of("told")),
        success=metrics.Interval(*ends),
        effective=found.effective,
    )


def window(name: str, since: float | None, sums: Sums) -> views.WindowView:
    """What the calls of some time came to."""
    of = amounts(sums)
    return views.WindowView(
        name=name,
        since=since,
        calls=round(of("calls")),
        failures=round(of("failures")),
        cost_usd=of("cost"),
        unpriced=round(of("answers") - of("costed")),
        promised=metrics.mean(of("promised"), of("promises")),
        verdicts=round(of("verdicts")),
        verdict_share=metrics.mean(of("verdicts"), of("calls")),
        realised=metrics.success_rate(of("successes"), of("verdicts")),
        judged_promised=metrics.mean(of("judged_promised"), of("judged_promises")),
        mean_wait_s=metrics.mean(of("waited"), of("calls")),
        mean_decision_s=metrics.mean(of("decided"), of("calls")),
        far_share=metrics.mean(of("far"), of("placed")),
        limited=round(of("limited")),
    )


def read_series(workload: Observed, money: bool) -> views.SeriesView:
    """`GET /eccos/series`; raises as `read_status`."""
    now = time.time()
    read = workload.sums([*periods("m", now, 60), *periods("h", now, 24)])
    sums = [spending_in(part, money) for part in read]
    minutes, hours = _points("m", now, sums[:60]), _points("h", now, sums[60:])
    return views.SeriesView(at=now, money=money, minutes=minutes, hours=hours)


def _points(kind: str, now: float, parts: Sequence[Sums]) -> list[views.PointView]:
    first = number(kind, now) - len(parts) + 1
    return [_point((first + i) * LENGTH_S[kind], sums) for i, sums in enumerate(parts)]


def _point(at: float, sums: Sums) -> views.PointView:
    of = amounts(sums)
    return views.PointView(
        at=at,
        calls=round(of("calls")),
        failures=round(of("failures")),
        cost_usd=of("cost"),
        promised=metrics.mean(of("promised"), of("promises")),
        realised=metrics.mean(of("successes"), of("verdicts")),
        by_model={n: round(sums[f"calls:{n}"]) for n in names_of("calls", sums)},
    )
