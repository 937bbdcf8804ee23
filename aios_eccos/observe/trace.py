"""What is kept of a decision: numbers and names, never message text, never keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from typing import Any

from aios_eccos.errors import DataError
from aios_eccos.records import Signals
from aios_eccos.values import Attempt, Control


@dataclass(frozen=True, slots=True)
class Option:
    """One model as it stood at a decision.

    Attributes:
        success: forecast, 0..1, as the optimizer saw it (before the correction for optimism).
        output_tokens: forecast length.
        cost_usd: forecast dollars; in size units where no price is known (`Trace.money`).
        switch_usd: what leaving the conversation's last model counts for, beside the cost.
        support: effective records behind the forecast; 0 = prior only.
        allowed: whether it could be chosen: allowed, able, neither resting nor failed on before.
        free: slots free at the decision.
        slot_price_usd: what one more slot of it would have saved.
        closed: why it could not be chosen, in words that follow its name; "" if it could.
        chance: with which the call would have explored it.
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
    closed: str = ""
    chance: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One settled call. Times are seconds, `at` is since the epoch (UTC); None = unknown.

    Attributes:
        id: the stream's id; "" until it is kept.
        call: the query's id, under which the history knows it.
        mode: `route`, or `observe`: AIOS's own choice was served.
        named: how many models the agent named; 0 = it left the choice open.
        policy: pattern of agents whose floor applied, "" for the general one.
        status: the optimizer's, `explored` for a choice by chance, `fallback`, or `undecided` for a
            call that never got a model.
        reason: one sentence in plain words.
        whole: whether the batch was assigned as one, under its floors.
        floor: absolute success asked for on average.
        success_price_usd: what one success was worth at that floor; None: no history to tell.
        promised: success to be expected of the choice, corrected for optimism.
        metered: whether the tokens come from the provider; else `cost_usd` is the forecast.
        cost_usd: dollars spent on the answer; None for a call without one.
        wasted_usd: by model, dollars spent on requests that brought no answer, as far as known.
        money: False where no price is known and costs are in size units.
        failure: short reason, None for a good answer.
        tries: the requests made, in order.
        control: how its outcome may move the price; None where there was nothing to choose.
    """

    call: str
    at: float
    agent: str
    mode: str
    named: int
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
    tries: tuple[Attempt, ...] = ()
    wasted_usd: Mapping[str, float] = field(default_factory=dict)
    control: Control | None = None
    whole: bool = False
    id: str = ""

    @property
    def chosen(self) -> Option | None:
        """The chosen model's option."""
        return next((option for option in self.options if option.model == self.model), None)

    @property
    def allowed(self) -> tuple[Option, ...]:
        """The models that were allowed."""
        return tuple(option for option in self.options if option.allowed)


#: Stored under their own names, apart from options and tries, which are lists in this order.
_APART = ("id", "options", "tries", "wasted_usd", "control")
_PLAIN = tuple(f.name for f in fields(Trace) if f.name not in _APART)
_COLUMNS = tuple(field.name for field in fields(Option))
_SIGNALS = tuple(field.name for field in fields(Signals))


def to_fields(trace: Trace) -> dict[str, str]:
    """Flat fields for the stream of decisions, each of them JSON."""
    flat = {name: json.dumps(getattr(trace, name), ensure_ascii=False) for name in _PLAIN}
    rows = [[getattr(option, name) for name in _COLUMNS] for option in trace.options]
    flat["options"] = json.dumps(rows, separators=(",", ":"))
    flat["tries"] = json.dumps([_row(tried) for tried in trace.tries], ensure_ascii=False)
    flat["wasted_usd"] = json.dumps(trace.wasted_usd, ensure_ascii=False)
    if trace.control is not None:
        flat["control"] = json.dumps(astuple(trace.control))
    return flat


def _row(tried: Attempt) -> list[Any]:
    signals = [getattr(tried.signals, name) for name in _SIGNALS]
    plain = [tried.model, round(tried.seconds, 4), tried.output_tokens, tried.failure]
    return [*plain, signals, tried.input_tokens]


def _tried(
    model: str,
    seconds: float,
    output_tokens: int | None,
    failure: str | None,
    signals: list[bool | None],
    input_tokens: int | None = None,
) -> Attempt:
    return Attempt(model, seconds, output_tokens, failure, Signals(*signals), input_tokens)


def of_fields(identity: str, flat: Mapping[str, str]) -> Trace:
    """Inverse of `to_fields`.

    Raises:
        DataError: the fields are of another version, or damaged.
    """
    try:
        plain: dict[str, Any] = {name: json.loads(flat[name]) for name in _PLAIN}
        options = tuple(Option(*row) for row in json.loads(flat["options"]))
        tries = tuple(_tried(*row) for row in json.loads(flat.get("tries", "[]")))
        wasted = {str(n): float(usd) for n, usd in json.loads(flat.get("wasted_usd", "{}")).items()}
        stored = json.loads(flat.get("control", "null"))
        control = None if stored is None else Control(*stored)
        plain |= {"tries": tries, "wasted_usd": wasted, "control": control}
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
