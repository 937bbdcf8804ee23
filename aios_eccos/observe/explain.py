"""Why a call went where it did, and what the others would have cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aios_eccos.decide import words
from aios_eccos.decide.rule import net_cost
from aios_eccos.observe import call_views
from aios_eccos.observe.text import money
from aios_eccos.observe.trace import Trace


def explain(trace: Trace, **more: Any) -> call_views.ExplainView:
    """One decision in full; `more` are fields of the view that the trace does not know."""
    case = words.Case.of_trace(trace)
    bound = words.bound_by(case, observed=trace.mode == "observe")
    closed = [option.closed for option in trace.options]
    sentence = words.sentence(
        case,
        bound,
        trace.failure or trace.reason if trace.chosen is None else trace.reason,
        promised=trace.promised,
        floor=trace.floor,
        only=words.only(case, closed, trace.named),
        money=lambda value: money(value, trace.money),
    )
    return call_views.ExplainView(
        money=trace.money,
        decision=trace,
        bound_by=bound,
        sentence=sentence,
        choices=choices(trace, case),
        held=trace.held,
        shadow=trace.shadow,
        chance=trace.chance,
        **more,
    )


def choices(trace: Trace, case: words.Case) -> list[call_views.ChoiceView]:
    """Every model, the cheapest first."""
    chosen = trace.chosen
    row = case.cost[None], case.success[None]
    net = net_cost(*row, case.price)[0] if trace.options else row[0][0]
    rows = [
        call_views.ChoiceView.model_validate(
            asdict(option)
            | {
                "chosen": option.model == trace.model,
                "extra_usd": None if chosen is None else option.cost_usd - chosen.cost_usd,
                "net_usd": float(net[column]) if case.known else None,
                "why": words.why(case, column, option.closed),
            }
        )
        for column, option in enumerate(trace.options)
    ]
    return sorted(rows, key=lambda row: (row.cost_usd, row.model))


def route_view(trace: Trace, limits: Mapping[str, int], note: str) -> call_views.RouteView:
    """A dry decision as `route` shows it; `limits` are the models' slots when it was made."""
    return call_views.RouteView(
        model=trace.model,
        reason=trace.reason,
        note=note,
        floor=None if trace.floor is None else round(trace.floor, 4),
        money=trace.money,
        success_price_usd=trace.success_price_usd,
        novelty=None if trace.novelty is None else round(trace.novelty, 3),
        decision_s=float(f"{trace.decision_s:.4g}"),
        models=[
            call_views.RouteRow.model_validate(
                dict(row)
                | {
                    "success": round(row.success, 4),
                    "net_cost_usd": None if row.net_usd is None else float(f"{row.net_usd:.6g}"),
                    "support": round(row.support, 2),
                    "in_use": limits[row.model] - row.free,
                    "limit": limits[row.model],
                }
            )
            for row in choices(trace, words.Case.of_trace(trace))
        ],
    )
