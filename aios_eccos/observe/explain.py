"""Why a call went where it did, what the others would have cost, what another floor would do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.assign import WHOLE_BATCH
from aios_eccos.decide.rule import choose
from aios_eccos.observe.call_views import ChoiceView, ExplainView, NeighborView, WhatIfView
from aios_eccos.observe.text import money
from aios_eccos.observe.trace import Option, Trace
from aios_eccos.values import EXPLORED, NOT_ALLOWED

#: Models named one by one where they were closed to a call.
NAMED_MOST = 3


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
    bound = bound_by(trace)
    return ExplainView(
        decision=trace,
        verdict=verdict,
        bound_by=bound,
        sentence=sentence(trace, bound),
        choices=choices(trace),
        neighbors=list(neighbors),
        neighbors_note=neighbors_note,
        dry=dry,
    )


def preferred(trace: Trace) -> Option | None:
    """What would have been chosen had every slot been free; None if nothing may serve."""
    price = trace.success_price_usd
    return chosen_at(trace.allowed, math.inf if price is None else price)


def chosen_at(options: Sequence[Option], price: float) -> Option | None:
    """What the rule chooses among the options at a price of success; None without any."""
    if not options:
        return None
    cost = np.array([[option.cost_usd + option.switch_usd for option in options]])
    success = np.array([[option.success for option in options]])
    return options[int(choose(cost, success, price)[0])]


def bound_by(trace: Trace) -> str:
    """The constraint that decided."""
    allowed, best, chosen = trace.allowed, preferred(trace), trace.chosen
    if trace.mode == "observe":
        return "AIOS's own choice"
    if chosen is None or best is None or trace.status == "fallback":
        return "no decision"
    if len(allowed) == 1:
        return "allowed models"
    if trace.status == EXPLORED:
        return "exploration"
    if _whole(trace):
        return "whole batch"
    if best.model != chosen.model:
        return f"limit of {best.model}"
    if trace.success_price_usd is None:
        return "no history"
    cheapest = min(option.cost_usd for option in allowed)
    return "floor" if chosen.cost_usd > cheapest else "nothing"


def _whole(trace: Trace) -> bool:
    """Whether so many were assigned as one that the batch's own price decided; it is not kept."""
    return trace.batch >= WHOLE_BATCH and trace.success_price_usd is not None


def choices(trace: Trace) -> list[ChoiceView]:
    """Every model, the cheapest first."""
    chosen, price = trace.chosen, trace.success_price_usd
    rows = [
        ChoiceView(
            model=option.model,
            chosen=option.model == trace.model,
            allowed=option.allowed,
            success=option.success,
            output_tokens=option.output_tokens,
            cost_usd=option.cost_usd,
            extra_usd=None if chosen is None else option.cost_usd - chosen.cost_usd,
            net_usd=None if price is None else option.net(price),
            support=option.support,
            free=option.free,
            slot_price_usd=option.slot_price_usd,
            why=why(option, trace),
        )
        for option in trace.options
    ]
    return sorted(rows, key=lambda row: (row.cost_usd, row.model))


def why(option: Option, trace: Trace) -> str:
    """Why this model was chosen, or why it was not, in a few words."""
    chosen, price = trace.chosen, trace.success_price_usd
    if option.model == trace.model:
        return "chosen"
    if not option.allowed:
        return option.closed or "closed to this call"
    if chosen is None:
        return ""
    if trace.status == EXPLORED:
        return "chance chose another"
    stronger, cheaper = option.success > chosen.success, option.cost_usd < chosen.cost_usd
    if price is not None and option.net(price) < chosen.net(price):
        if _whole(trace):
            return "the batch as a whole gains more"
        return "at its limit" if option.free <= 0 else "slots lent to calls that gain more"
    if option.free <= 0:
        return "at its limit, and not preferred"
    if stronger and cheaper:
        return "leaving the conversation's model costs more"
    if stronger:
        return "dearer than its gain in success is worth"
    return "cheaper, but loses too much success" if cheaper else "dearer and no better"


def sentence(trace: Trace, bound: str) -> str:
    """One sentence in plain words."""
    chosen = trace.chosen
    if chosen is None:
        return f"No model served this call: {trace.failure or trace.reason}."
    text = f"{chosen.model} was chosen"
    if trace.promised is not None:
        text += f" for {percent(trace.promised)} success at {_cost(trace, chosen.cost_usd)}"
    if bound == "AIOS's own choice":
        return f"{text}, by AIOS itself: the plugin only observes."
    if bound == "no decision":
        return f"{text}: {trace.reason}."
    if bound == "exploration":
        return f"{text}, by chance, to learn about it: so far it has few verdicts."
    if bound == "allowed models":
        return f"{text}: {_closed(trace)}."
    if bound == "no history":
        return f"{text}, the strongest: too little history like it to save money by."
    if bound == "whole batch":
        return f"{text}: {trace.batch} calls were assigned as one, under the floors and all limits."
    if bound.startswith("limit of "):
        best = preferred(trace)
        full = best is None or best.free <= 0
        lack = "it was at its limit" if full else "its slots gain more elsewhere"
        return f"{text}; {bound.removeprefix('limit of ')} would be better, but {lack}."
    if bound == "floor":
        return text + _floor_words(trace, chosen)
    return f"{text}: it is the cheapest, and good enough for the floor."


def _closed(trace: Trace) -> str:
    """Why no other model could be chosen."""
    closed = [option for option in trace.options if not option.allowed]
    if trace.named == 1 or (closed and all(o.closed == NOT_ALLOWED for o in closed)):
        return "its agent allows no other"
    if not closed or not all(option.closed for option in closed):
        return "the others may not serve it, or rest after errors"
    named = [f"{option.model} {option.closed}" for option in closed[:NAMED_MOST]]
    more = len(closed) - len(named)
    return "; ".join(named) + (f"; {more} more could not serve it" if more else "")


def _floor_words(trace: Trace, chosen: Option) -> str:
    floor = "" if trace.floor is None else f" of {percent(trace.floor)}"
    below = [o for o in trace.allowed if o.cost_usd < chosen.cost_usd]
    best = chosen_at(below, trace.success_price_usd or 0.0) or chosen
    gain = chosen.success - best.success
    extra = _cost(trace, chosen.cost_usd - best.cost_usd)
    return (
        f": to keep the floor{floor} on average, its {gain * 100:.1f} points of success over "
        f"{best.model} are worth the extra {extra}."
    )


def percent(value: float) -> str:
    """`0.8123` as `81.2 %`."""
    return f"{value * 100:.1f} %"


def _cost(trace: Trace, value: float) -> str:
    return money(value) if trace.money else f"{value:.3g} cost units (no prices)"


@dataclass(frozen=True, slots=True)
class Plan:
    """A floor and what it takes.

    Attributes:
        floor: absolute success asked for.
        reachable: the highest floor that the history says can be kept.
        price: dollars per success that realises the floor, on history.
        optimism: by how much forecasts exceed success at that price, on history.
    """

    floor: float
    reachable: float
    price: float
    optimism: float


def what_if(traces: Sequence[Trace], plan: Plan) -> WhatIfView | None:
    """Decide recent answered calls again at another floor, as if no limit bound; None without any.

    Both sides are forecasts, made alike: `now` is what was chosen then, by its forecast.
    """
    answered = [t for t in traces if t.chosen is not None and t.failure is None]
    if not answered:
        return None
    now = [option for t in answered if (option := t.chosen) is not None]
    chosen = (chosen_at(t.allowed or t.options, plan.price) for t in answered)
    then = [option for option in chosen if option is not None]
    hopes = [t.promised for t in answered if t.promised is not None]
    success = sum(option.success for option in then) / len(then)
    return WhatIfView(
        floor=plan.floor,
        reachable=plan.reachable,
        calls=len(answered),
        money=all(t.money for t in answered),
        success_price_usd=plan.price,
        cost_now_usd=sum(option.cost_usd for option in now) / len(now),
        cost_then_usd=sum(option.cost_usd for option in then) / len(then),
        promised_now=sum(hopes) / len(hopes) if hopes else None,
        promised_then=min(max(success - plan.optimism, 0.0), 1.0),
        shares_now=_shares(now),
        shares_then=_shares(then),
    )


def _shares(options: Sequence[Option]) -> dict[str, float]:
    names = sorted({option.model for option in options})
    count = {name: sum(option.model == name for option in options) for name in names}
    return {name: n / len(options) for name, n in count.items()}
