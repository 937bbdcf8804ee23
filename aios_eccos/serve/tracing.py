"""Makes a trace of a settled call, or of one that nobody made."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.decide import words
from aios_eccos.forecast.pricing import Prices
from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.observe.trace import Option, Trace
from aios_eccos.providers.tokens import estimated
from aios_eccos.serve.router import Router
from aios_eccos.values import (
    EXPLORED,
    HELD,
    Answer,
    Attempt,
    CallResult,
    Candidate,
    Control,
    Decision,
    Lease,
    Model,
    Price,
    Query,
    Slots,
)

#: Reasons of failures are short words; whatever a library puts there is cut.
REASON_MOST = 80
NAME_MOST = 120
#: Status of a call that never got a model.
UNDECIDED = "undecided"


def trace_of(
    settled: CallResult,
    prices: Prices,
    settings: Settings | None = None,
    models: Sequence[Model] = (),
) -> Trace:
    """What is kept of a settled call, at today's prices and under the settings in force."""
    settings = settings or Settings()
    query, answer, failure = settled.query, settled.answer, settled.answer.failure
    decision = settled.decision or _undecided(settled)
    worth, gate = decision.candidate.worth, decision.gate
    by_model, metered = _spent(settled, prices)
    return Trace(
        call=query.id,
        at=decision.at,
        agent=query.agent[:NAME_MOST],
        mode="observe" if query.observed or settings.mode == "observe" else "route",
        named=len(query.allowed or ()),
        policy=worth.policy,
        status=decision.status,
        reason=decision.reason,
        model=decision.model,
        floor=_known(worth.floor),
        success_price_usd=_known(worth.value),
        promised=_known(decision.promised),
        novelty=_known(decision.candidate.novelty),
        batch=decision.batch,
        decision_s=decision.decision_s,
        input_tokens=query.input_tokens if answer.input_tokens is None else answer.input_tokens,
        output_tokens=answer.output_tokens,
        metered=metered,
        cost_usd=_known(sum(by_model.values())) if by_model else None,
        money=prices.money,
        failure=failure.reason[:REASON_MOST] if failure is not None else None,
        status_code=failure.status_code if failure is not None else 200,
        options=_options(settled, decision, settings, models),
        wasted_usd=_wasted(settled, prices),
        control=_control(decision),
        reading=query.reading,
        whole=decision.whole,
        held=gate is not None and gate.held,
        shadow=None if gate is None else gate.shadow,
        chance=1.0 if gate is None else gate.chance,
        **_requests(settled, by_model),
    )


def _requests(settled: CallResult, spent: Mapping[str, float]) -> dict[str, Any]:
    """What is kept of a call's requests; `spent`: dollars by model that answered."""
    tries = (
        replace(tried, failure=tried.failure[:REASON_MOST] if tried.failure else None)
        for tried in settled.tries
    )
    finite = {model: dollars for model, dollars in spent.items() if math.isfinite(dollars)}
    return {
        "attempts": settled.attempts,
        "waited_s": max(settled.waited_s, 0.0),
        "served_s": settled.served_s,
        "tries": tuple(tries),
        "vote": None if settled.vote is None else replace(settled.vote, spent_usd=finite),
    }


def _undecided(settled: CallResult) -> Decision:
    """What stands for the decision of a call that never got one."""
    none, flags, at = np.empty(0), np.empty(0, dtype=bool), time.time() - settled.served_s
    candidate = Candidate(settled.query, (), none, none, none, none, flags, math.nan, Price())
    free = none.astype(np.int64)
    reason = words.UNDECIDED_REASON
    return Decision(candidate, None, (), free, none, UNDECIDED, reason, 0, 0.0, at)


def decide_dry(
    router: Router, slots: Slots, text: str, agent: str = "", floor: float | None = None
) -> Trace:
    """What would be decided for a text under such a load: no model is called, no slot is taken.

    Args:
        floor: absolute success asked for, instead of the configured floor.
    """
    query = Query(text=text, agent=agent, input_tokens=estimated(text), floor=floor)
    query = TemplateFilter().narrowed(query)
    (candidate,) = router.forecast([query])
    resting = [candidate.asks(column, slots.cooling) for column in candidate.models]
    awake = candidate.allowed & ~np.array(resting)
    # What chance would do is no explanation, so it has no lot.
    open_to = awake if awake.any() else candidate.allowed
    made = router.decide([replace(candidate, allowed=open_to, lot=None)], slots)
    served = made.found.solution.choice[0] >= 0
    decision = made.decision(0, (Lease(query.id, ""),) if served else ())
    settled = CallResult(query, Answer(), decision, 0, 0.0, 0.0)
    return replace(trace_of(settled, router.prices, router.settings, router.models), at=time.time())


def limits_of(router: Router, slots: Slots) -> dict[str, int]:
    """Slots in all of each column: of a plan as many as its smallest member has."""
    plans = router.learned.plans.plans if router.learned.plans is not None else ()
    smallest = {plan.name: min(slots.limits[name] for name in plan.members) for plan in plans}
    return {**slots.limits, **smallest}


def _control(decision: Decision) -> Control | None:
    """How the call stands to the price that chose its model; None where no price chose."""
    price = decision.candidate.worth
    if decision.status in (EXPLORED, HELD, UNDECIDED):
        return None
    if not price.key or decision.status == words.FALLBACK:
        return Control("", 1.0, 1.0, price.own)
    low, high = price.least / price.base, price.greatest / price.base
    return Control(price.key, low, high, price.own, price.budget)


def _spent(settled: CallResult, prices: Prices) -> tuple[dict[str, float], bool]:
    """Dollars by model that answered, of a plan several; whether providers counted tokens."""
    decision, answer = settled.decision, settled.answer
    if decision is None or decision.model is None or answer.failure is not None:
        return {}, False
    known = {decision.model: answer} if settled.vote is None else settled.said
    cost, counted = dict.fromkeys(known, 0.0), answer.metered
    for model, given in known.items():
        if given.output_tokens is None or model not in prices.models:
            counted = False
            if model in decision.candidate.models:
                column = decision.candidate.models.index(model)
                cost[model] = float(decision.candidate.cost[column])
        else:
            cost[model] = _price(prices, model, settled.query.input_tokens, given)
    return cost, counted


def _wasted(settled: CallResult, prices: Prices) -> dict[str, float]:
    """Dollars by model for tokens of requests that brought no answer."""
    wasted: dict[str, float] = {}
    for tried in settled.tries:
        counted = tried.input_tokens is not None or tried.output_tokens is not None
        if tried.failure is not None and counted and tried.model in prices.models:
            dollars = _price(prices, tried.model, settled.query.input_tokens, tried)
            wasted[tried.model] = wasted.get(tried.model, 0.0) + dollars
    return wasted


def _price(prices: Prices, model: str, estimated: int, answer: Answer | Attempt) -> float:
    asked = estimated if answer.input_tokens is None else answer.input_tokens
    return prices.paid(model, asked, answer.output_tokens or 0, answer.cached_tokens)


def _options(
    settled: CallResult, decision: Decision, settings: Settings, models: Sequence[Model]
) -> tuple[Option, ...]:
    p = decision.candidate
    own = settings.policy(settled.query.agent)[1].models
    failed = {tried.model for tried in settled.tries[:-1] if tried.failure}
    closed = {m.name: words.closed(p.query, m, own, m.name in failed) for m in models}
    closed |= settled.closed
    return tuple(
        Option(
            model=name,
            success=round(float(p.success[j]), 5),
            output_tokens=round(float(p.output_tokens[j]), 1),
            cost_usd=_short(p.cost[j]),
            switch_usd=0.0 if p.reread is None else _short(p.reread[j]),
            support=_short(p.support[j]),
            allowed=bool(p.allowed[j]),
            free=int(decision.free[j]),
            slot_price_usd=_short(decision.slot_prices[j]),
            chance=0.0 if decision.chances is None else _short(decision.chances[j]),
            closed="" if p.allowed[j] else closed.get(name, "was not open to it"),
        )
        for j, name in enumerate(p.models)
    )


def _short(value: float) -> float:
    """Six digits are more than a forecast has; what is not a number is left out as 0."""
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
