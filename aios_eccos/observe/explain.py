"""Why a call went where it did, and what the others would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from aios_eccos.decide import words
from aios_eccos.decide.rule import net_cost
from aios_eccos.observe.bound import bound_by, case_of
from aios_eccos.observe.call_views import ChoiceView, ExplainView, NeighborView
from aios_eccos.observe.text import money
from aios_eccos.observe.trace import Trace


def explain(
    trace: Trace,
    *,
    verdict: float | None = None,
    neighbors: Sequence[NeighborView] = (),
    neighbors_note: str | None = None,
    dry: bool = False,
) -> ExplainView:
    """One decision in full.

    Args:
        neighbors: past queries near it, nearest first.
        neighbors_note: why there are none.
        dry: no call was made.
    """
    case, bound = case_of(trace), bound_by(trace)
    return ExplainView(
        money=trace.money,
        decision=trace,
        verdict=verdict,
        bound_by=bound,
        sentence=_sentence(trace, case, bound),
        choices=choices(trace, case),
        neighbors=list(neighbors),
        neighbors_note=neighbors_note,
        dry=dry,
    )


def choices(trace: Trace, case: words.Case) -> list[ChoiceView]:
    """Every model, the cheapest first."""
    chosen = trace.chosen
    row = case.total_cost[None], case.success[None]
    net = net_cost(*row, case.price)[0] if trace.options else row[0][0]
    rows = [
        ChoiceView.model_validate(
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


def _sentence(trace: Trace, case: words.Case, bound: str) -> str:
    return words.sentence(
        case,
        bound,
        trace.failure or trace.reason if trace.chosen is None else trace.reason,
        promised=trace.promised,
        floor=trace.floor,
        only=words.only(case, [option.closed for option in trace.options], trace.named),
        money=lambda value: money(value, trace.money),
    )
