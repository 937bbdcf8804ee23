"""What limits a call beside slots: requests and tokens of a minute, and money.

A call's need is reserved with its slot, in the store; here is what the need is, and which models
would not give it now, so that no call asks in vain, or waits for what cannot come in its time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import chain

import numpy as np

from aios_eccos.config import Settings
from aios_eccos.forecast.pricing import Prices
from aios_eccos.values import (
    NO_MONEY,
    TOO_MANY,
    Answer,
    Bar,
    Candidate,
    Cap,
    Failure,
    IntArray,
    Model,
    Need,
    Plan,
    Query,
    Rates,
    Slots,
    Used,
)

#: An answer's length that nine of ten do not exceed, in its forecast, before any was seen: that of
#: an exponential distribution. The second: step of its logarithm by one answer. Then its range.
NINTH, STEP, RANGE = math.log(10), 0.1, (1.0, 20.0)
#: Seconds that a call waits for money that calls in flight hold.
PATIENCE_S = 10.0
#: Agents whose caps are remembered, and for how long where there are none, seconds.
AGENTS_KNOWN, CAPS_KEPT_S = 1000, 3600.0


class Lengths:
    """By how much answers exceed their forecast length, by model. Safe to use from any thread."""

    def __init__(self) -> None:
        self._log: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, model: str, forecast: float, tokens: int) -> None:
        """An answer of so many tokens; `forecast` were expected."""
        with self._lock:
            known = self._log.get(model, math.log(NINTH))
            beyond = tokens > math.exp(known) * max(forecast, 1.0)
            moved = known + STEP * (0.9 if beyond else -0.1)
            self._log[model] = min(max(moved, math.log(RANGE[0])), math.log(RANGE[1]))

    def ninth(self, model: str) -> float:
        """The factor on a forecast that nine of ten answers do not exceed."""
        return math.exp(self._log.get(model, math.log(NINTH)))


class Limits:
    """Needs of calls and the bars before them, under one pool and its settings.

    Args:
        prices: of the pool.
        lengths: what is known of answers' lengths; outlives the pool.
    """

    def __init__(
        self, models: Sequence[Model], settings: Settings, prices: Prices, lengths: Lengths
    ) -> None:
        self.lengths = lengths
        self._settings, self._prices = settings, prices
        self._models = {model.name: model for model in models}
        self.rates = {model.slot: model.rates for model in models if model.rates != Rates()}
        #: By model, those that hold: other kernels may declare smaller ones, or any at all.
        self._held = {model.name: model.rates for model in models}
        self._capped = bool(settings.all_caps(0.0))
        #: An agent's caps, and until when they hold.
        self._known: dict[str, tuple[float, tuple[Cap, ...]]] = {}

    def caps(self) -> list[Cap]:
        """All caps that hold now."""
        return [cap for _, cap in self._settings.all_caps(time.time())] if self._capped else []

    def hold(self, rates: Mapping[str, Rates]) -> None:
        """Rates that hold now, by model, are these."""
        self._held |= rates

    def need(self, candidate: Candidate, model: str) -> Need | None:
        """What a call is to reserve with a slot of a model; None where nothing is limited."""
        caps = self._caps_of(candidate).get(model, ())
        rates = self._held[model]
        return self._need(candidate, model, rates, caps) if caps or rates != Rates() else None

    def _need(self, candidate: Candidate, model: str, rates: Rates, caps: tuple[Cap, ...]) -> Need:
        query, column = candidate.query, candidate.models.index(model)
        answer = _at_most(float(candidate.output_tokens[column]), query)
        tokens = query.input_tokens + math.ceil(answer)
        if rates.tpm is not None and query.input_tokens <= rates.tpm:
            tokens = min(tokens, rates.tpm)  # else it would wait for ever
        return Need(tokens, self._at_most_usd(candidate, column) if caps else 0.0, caps)

    def free(self, candidates: Sequence[Candidate], slots: Slots) -> IntArray:
        """(c,) calls that each column may be lent now: slots, requests, and tokens for mean calls.

        The candidates have the same columns. What their tokens come to is settled in the store,
        which refuses calls that do not fit.
        """
        free = {name: slots.free[name] for name in self._models}
        for column, name in enumerate(self._models):
            left = slots.tokens.get(name, math.inf)
            if math.isfinite(left) and candidates:
                asked = [c.query.input_tokens + c.output_tokens[column] for c in candidates]
                fit = math.ceil(left / max(float(np.mean(asked)), 1.0))
                free[name] = min(free[name], fit)
        plans = candidates[0].plans if candidates else ()
        room = [*free.values(), *(min(free[name] for name in plan.members) for plan in plans)]
        return np.array(room, dtype=np.int64)

    def _caps_of(self, candidate: Candidate) -> dict[str, tuple[Cap, ...]]:
        """What a call counts against, by model; the cheapest passes a cap that may be passed."""
        if not self._capped:
            return {}
        now, agent = time.time(), candidate.query.agent
        until, caps = self._known.get(agent, (0.0, ()))
        if until <= now:
            caps = self._settings.caps(agent, now)
            until = min((cap.ends for cap in caps), default=now + CAPS_KEPT_S)
            self._known = {} if len(self._known) > AGENTS_KNOWN else self._known
            self._known[agent] = until, caps
        found = dict.fromkeys(candidate.models, caps)
        if any(cap.may_pass for cap in caps):
            may = candidate.allowed if candidate.explorable is None else candidate.explorable
            cheapest = candidate.models[int(np.argmin(np.where(may, candidate.cost, np.inf)))]
            found[cheapest] = tuple(cap.lifted() if cap.may_pass else cap for cap in caps)
        return found

    def _at_most_usd(self, candidate: Candidate, column: int) -> float:
        """What nine of ten such calls do not cost more than, dollars; 0 where that is unknown."""
        if not self._prices.money:
            return 0.0
        query, name = candidate.query, candidate.models[column]
        expected = float(candidate.output_tokens[column])
        answer = _at_most(expected * self.lengths.ninth(name), query)
        return self._prices.paid(name, query.input_tokens, answer)

    def bars(self, candidate: Candidate, slots: Slots) -> dict[str, Bar]:
        """By name, what keeps a call from models and plans that may serve it."""
        limited = slots.rates or slots.closed or self._capped
        if not limited and candidate.query.max_cost is None:
            return {}
        caps, known, found = self._caps_of(candidate), {}, {}
        for name, ok in zip(candidate.models, candidate.allowed, strict=True):
            plan = candidate.plan(name) if ok else None
            models = () if not ok else (name,) if plan is None else plan.members
            for model in models:
                if model not in known:
                    known[model] = self._bar(candidate, model, slots, caps.get(model, ()))
                bar = known[model]
                if bar is not None:
                    found[name] = bar
            if plan is not None and name not in found:
                found |= self._plan_bar(candidate, plan)
        return found

    def _plan_bar(self, candidate: Candidate, plan: Plan) -> dict[str, Bar]:
        """Whether a plan that asks its escape, too, may cost more than the call allows."""
        most = candidate.query.max_cost
        columns = [candidate.models.index(name) for name in plan.models]
        usd = sum(self._at_most_usd(candidate, column) for column in columns)
        if most is None or usd <= most:
            return {}
        words = f"may cost ${usd:.6g}, the call allows ${most:.6g} (max_cost)"
        return {plan.name: Bar(words, NO_MONEY)}

    def _bar(
        self, candidate: Candidate, model: str, slots: Slots, caps: tuple[Cap, ...]
    ) -> Bar | None:
        need = self._need(candidate, model, slots.rates.get(model, Rates()), caps)
        money = self._money_bars(candidate, model, need, slots)
        return next(chain(money, _rate_bars(candidate, model, need, slots)), None)

    def _money_bars(
        self, candidate: Candidate, model: str, need: Need, slots: Slots
    ) -> Iterator[Bar]:
        query = candidate.query
        unknown = self._models[model].price_state == "unknown"
        if query.max_cost is None:
            usd = 0.0
        else:
            usd = self._at_most_usd(candidate, candidate.models.index(model))
        if query.max_cost is not None and (unknown or usd > query.max_cost):
            costs = "has no known price" if unknown else f"may cost ${usd:.6g}"
            yield Bar(f"{costs}, the call allows ${query.max_cost:.6g} (max_cost)", NO_MONEY)
        for cap in need.caps:
            until = f"{datetime.fromtimestamp(cap.ends, timezone.utc):%Y-%m-%d %H:%M} UTC"
            if unknown:
                words = f"has no known price, so it cannot count against max_cost of {cap.name}"
                yield Bar(words, NO_MONEY)
            spent = slots.spent.get(cap.key)
            if spent is None or not need.nano:
                continue
            left = cap.usd - spent.usd
            if need.usd > left - spent.held_usd:
                words = (
                    f"is over max_cost of {cap.name}: it may cost ${need.usd:.4g}, "
                    f"${max(left - spent.held_usd, 0.0):.4g} of ${cap.usd:g} is left until {until}"
                )
                lifts = time.monotonic() + max(cap.ends - time.time(), 0.0)
                # What calls in flight hold may come back.
                held = need.usd <= left and time.monotonic() - query.arrived < PATIENCE_S
                yield Bar(words, NO_MONEY, 0.0 if held else lifts, waits=held)

    def learn(self, candidate: Candidate, answers: Mapping[str, Answer]) -> None:
        """Learn how answers' lengths differ from their forecasts."""
        for model, answer in answers.items():
            whole = answer.failure is None and not answer.signals.truncated
            if whole and answer.output_tokens:
                forecast = float(candidate.output_tokens[candidate.models.index(model)])
                self.lengths.note(model, forecast, answer.output_tokens)

    def used(
        self,
        candidate: Candidate | None,
        model: str,
        need: Need,
        answers: Mapping[str, Answer],
    ) -> Used:
        """What a request has really taken; without an answer it was never made."""
        answer = answers.get(model)
        if answer is None or candidate is None:
            return Used(requests=0)
        failure, column = answer.failure, candidate.models.index(model)
        forecast = float(candidate.output_tokens[column])
        if answer.output_tokens is None and failure is not None:
            # A server that was given up on may have answered all the same.
            late = failure.status_code in (408, 504)
            return Used(tokens=need.tokens, usd=need.usd) if late else Used()
        asked = candidate.query.input_tokens if answer.input_tokens is None else answer.input_tokens
        told = math.ceil(forecast) if answer.output_tokens is None else answer.output_tokens
        paid = self._prices.paid(model, asked, told, answer.cached_tokens)
        return Used(tokens=asked + told, usd=paid if self._prices.money else 0.0)


def _rate_bars(candidate: Candidate, model: str, need: Need, slots: Slots) -> Iterator[Bar]:
    rates, now = slots.rates.get(model, Rates()), time.monotonic()
    opens = now + slots.opens.get(model, 0.0)
    if rates.tpm is not None and candidate.query.input_tokens > rates.tpm:
        words = f"takes {rates.tpm} tokens a minute (tpm), this call needs {need.tokens}"
        yield Bar(words, TOO_MANY)
    if slots.closed.get(model, 0.0) > 0:
        seconds = slots.closed[model]
        words = f"has asked to be left alone for {math.ceil(seconds)} s (Retry-After)"
        yield Bar(words, TOO_MANY, now + seconds, waits=True)
    if rates.rpm is not None and slots.requests[model] >= rates.rpm:
        words = f"has had its {rates.rpm} requests of a minute (rpm)"
        yield Bar(words, TOO_MANY, opens, waits=True)
    if rates.tpm is not None and need.tokens > slots.tokens[model]:
        left = max(int(slots.tokens[model]), 0)
        words = f"has {left} of its {rates.tpm} tokens a minute left (tpm), "
        yield Bar(f"{words}this call needs {need.tokens}", TOO_MANY, opens, waits=True)


def hopeless(bars: Mapping[str, Bar], able: Sequence[str], expires: float) -> Failure | None:
    """Why a call is refused: each model that may serve it is barred for longer than it can wait.

    Args:
        able: models that may serve it. expires: `time.monotonic()` at which it is given up.
    """
    if not able or any(name not in bars or bars[name].lifts < expires for name in able):
        return None
    return refused({name: bars[name] for name in able})


def refused(bars: Mapping[str, Bar]) -> Failure:
    """The refusal of a call that limits alone kept from its models."""
    # The money's text first: what it says holds for longer.
    first = sorted(bars.items(), key=lambda item: item[1].status)
    said = "; ".join(f"{name} {bar.words}" for name, bar in first)
    waits = [bar.lifts for bar in bars.values() if bar.status == TOO_MANY]
    status = TOO_MANY if waits else NO_MONEY
    return Failure(f"refused by limits: {said}", status, retryable=False)


def _at_most(tokens: float, query: Query) -> float:
    """An answer's length within what the caller lets it have."""
    return min(tokens, query.max_output_tokens or math.inf)
