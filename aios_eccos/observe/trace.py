"""What is kept of a decision: numbers and names, never message text, never keys."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aios_eccos.errors import DataError
from aios_eccos.predict.pricing import Prices
from aios_eccos.values import Answer, Decision, Settled

#: Reasons of failures are short words; whatever a library puts there is cut.
REASON_MOST = 80
NAME_MOST = 120


@dataclass(frozen=True, slots=True)
class Option:
    """One model as it stood at a decision.

    Attributes:
        success: forecast, 0..1, as the optimizer saw it (before the correction for optimism).
        output_tokens: forecast length.
        cost_usd: forecast dollars; in size units where no price is known (`Trace.money`).
        switch_usd: what leaving the conversation's last model counts for, beside the cost.
        support: effective records behind the forecast; 0 = prior only.
        allowed: whether it may serve this call at all.
        free: slots free at the decision.
        slot_price_usd: what one more slot of it would have saved.
    """

    model: str
    success: float
    output_tokens: float
    cost_usd: float
    switch_usd: float
    support: float
    allowed: bool
    free: int
    slot_price_usd: float

    def net(self, success_price: float) -> float:
        """Cost less the worth of its success: what the choice minimizes while limits allow."""
        return self.cost_usd + self.switch_usd - success_price * self.success


@dataclass(frozen=True, slots=True)
class Trace:
    """One settled call. Times are seconds, `at` is since the epoch (UTC); None = unknown.

    Attributes:
        id: the stream's id; "" until it is kept.
        call: the query's id, under which the history knows it.
        mode: `route`, or `observe`: AIOS's own choice was served.
        policy: pattern of agents whose floor applied, "" for the general one.
        status: the optimizer's, `fallback`, or `undecided` for a call that never got a model.
        reason: one sentence in plain words.
        floor: absolute success asked for on average.
        success_price_usd: what one success was worth at that floor; None: no history to tell.
        promised: success to be expected of the choice, corrected for optimism.
        metered: whether the tokens come from the provider; else `cost_usd` is the forecast.
        cost_usd: dollars spent; None for a call without an answer.
        money: False where no price is known and costs are in size units.
        failure: short reason, None for a good answer.
    """

    call: str
    at: float
    agent: str
    mode: str
    policy: str
    status: str
    reason: str
    model: str | None
    floor: float | None
    success_price_usd: float | None
    promised: float | None
    novelty: float | None
    batch: int
    attempts: int
    decision_s: float
    waited_s: float
    served_s: float
    input_tokens: int
    output_tokens: int | None
    metered: bool
    cost_usd: float | None
    money: bool
    failure: str | None
    status_code: int
    options: tuple[Option, ...]
    id: str = ""

    @property
    def chosen(self) -> Option | None:
        """The chosen model's option."""
        return next((option for option in self.options if option.model == self.model), None)

    @property
    def allowed(self) -> tuple[Option, ...]:
        """The models that were allowed."""
        return tuple(option for option in self.options if option.allowed)


def trace_of(settled: Settled, prices: Prices, mode: str = "route") -> Trace:
    """What is kept of a settled call, at today's prices."""
    decision, answer = settled.decision, settled.answer
    failure = answer.failure
    model = decision.model if decision is not None else None
    spent, metered = _spent(settled, prices)
    query, prospect = settled.query, decision.prospect if decision is not None else None
    return Trace(
        call=query.id,
        at=time.time() - settled.served_s if decision is None else decision.at,
        agent=query.agent[:NAME_MOST],
        mode=mode,
        policy=prospect.policy if prospect is not None else "",
        status=decision.status if decision is not None else "undecided",
        reason=decision.reason if decision is not None else "no model was chosen",
        model=model,
        floor=_known(prospect.floor) if prospect is not None else None,
        success_price_usd=_known(prospect.price) if prospect is not None else None,
        promised=_known(decision.promised) if decision is not None else None,
        novelty=_known(prospect.novelty) if prospect is not None else None,
        batch=decision.batch if decision is not None else 0,
        attempts=settled.attempts,
        decision_s=decision.decision_s if decision is not None else 0.0,
        waited_s=max(settled.waited_s, 0.0),
        served_s=settled.served_s,
        input_tokens=query.input_tokens if answer.input_tokens is None else answer.input_tokens,
        output_tokens=answer.output_tokens,
        metered=metered,
        cost_usd=spent,
        money=prices.money,
        failure=failure.reason[:REASON_MOST] if failure is not None else None,
        status_code=failure.status_code if failure is not None else 200,
        options=_options(decision) if decision is not None else (),
    )


def _spent(settled: Settled, prices: Prices) -> tuple[float | None, bool]:
    """Dollars for the answer, and whether the provider counted the tokens."""
    decision, answer = settled.decision, settled.answer
    if decision is None or decision.model is None or answer.failure is not None:
        return None, False
    if answer.output_tokens is None or decision.model not in prices.models:
        return _known(decision.of_choice(decision.prospect.cost)), False
    return _price(prices, decision.model, settled.query.input_tokens, answer), True


def _price(prices: Prices, model: str, estimated: int, answer: Answer) -> float:
    column = prices.models.index(model)
    asked = estimated if answer.input_tokens is None else answer.input_tokens
    said = answer.output_tokens or 0
    return float(asked * prices.input[column] + said * prices.output[column])


def _options(decision: Decision) -> tuple[Option, ...]:
    p = decision.prospect
    return tuple(
        Option(
            model=name,
            success=round(float(p.success[j]), 5),
            output_tokens=round(float(p.output_tokens[j]), 1),
            cost_usd=_short(p.cost[j]),
            switch_usd=0.0 if p.switch is None else _short(p.switch[j]),
            support=round(float(p.support[j]), 2),
            allowed=bool(p.allowed[j]),
            free=int(decision.free[j]),
            slot_price_usd=_short(decision.slot_prices[j]),
        )
        for j, name in enumerate(p.models)
    )


def _short(value: float) -> float:
    """Six digits are more than a forecast has; what is not a number is left out as 0."""
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


#: Stored under their own names, apart from the options, which are lists in this order.
_PLAIN = tuple(field.name for field in fields(Trace) if field.name not in ("id", "options"))
_COLUMNS = tuple(field.name for field in fields(Option))


def to_fields(trace: Trace) -> dict[str, str]:
    """Flat fields for the stream of decisions, each of them JSON."""
    flat = {name: json.dumps(getattr(trace, name), ensure_ascii=False) for name in _PLAIN}
    rows = [[getattr(option, name) for name in _COLUMNS] for option in trace.options]
    flat["options"] = json.dumps(rows, separators=(",", ":"))
    return flat


def of_fields(identity: str, flat: Mapping[str, str]) -> Trace:
    """Inverse of `to_fields`.

    Raises:
        DataError: the fields are of another version, or damaged.
    """
    try:
        plain: dict[str, Any] = {name: json.loads(flat[name]) for name in _PLAIN}
        options = tuple(Option(*row) for row in json.loads(flat["options"]))
        return Trace(id=identity, options=options, **plain)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"decision {identity} cannot be read: {error}") from error


def read_traces(entries: Sequence[tuple[str, Mapping[str, str]]]) -> list[Trace]:
    """The traces among stored entries; what another version wrote is left out."""
    found = []
    for identity, flat in entries:
        try:
            found.append(of_fields(identity, flat))
        except DataError:
            continue
    return found
