"""What is kept of a decision: numbers and names, never message text, never keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any

from pydantic import TypeAdapter

from aios_eccos.errors import DataError
from aios_eccos.providers.wire import strict_json
from aios_eccos.records import Signals
from aios_eccos.values import Attempt, Control, Reading, Vote
from aios_eccos.workload.notes import LATEST

#: Largest number in a decision that is believed.
NUMBER_MOST = 1e15


@dataclass(frozen=True, slots=True)
class Option:
    """One model as it stood at a decision.

    Attributes:
        success, output_tokens: forecast, 0..1 before the correction for optimism, and length.
        cost_usd: forecast dollars; in size units where no price is known (`Trace.money`).
        switch_usd: of the cost, what a prompt costs more because another model has read it before,
            or because the model has to be loaded first.
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
        status: the optimizer's, `explored` for a choice by chance, `held` for the reference instead
            of the price's choice, `fallback`, or `undecided` for a call that never got a model.
        whole: whether the batch was assigned as one, under its floors.
        floor: absolute success asked for on average.
        success_price_usd: what one success was worth at that floor; None: no history to tell.
        promised: success to be expected of the choice, corrected for optimism.
        metered: whether the tokens come from the provider; else `cost_usd` is the forecast.
        cost_usd: dollars spent on the answer; None for a call without one.
        wasted_usd: by model, dollars spent on requests that brought no answer, as far as known.
        money: False where no price is known and costs are in size units.
        failure: short reason, None for a good answer.
        control: how its outcome may move the price; None where there was nothing to choose.
        held: whether the reference served by lot, as part of the sample that tells of a policy.
        shadow: the model that the price would choose, or has chosen, where routing is earned.
        chance: with which a call of that choice is routed; 1 where nothing has to be earned.
        reading: which part of the prompt it was forecast on.
        vote: what came of the plan; None where a model served, whose name is `model`.
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
    reading: Reading | None = None
    whole: bool = False
    held: bool = False
    shadow: str | None = None
    chance: float = 1.0
    vote: Vote | None = None
    id: str = ""

    @property
    def chosen(self) -> Option | None:
        return next((option for option in self.options if option.model == self.model), None)

    @property
    def answered_by(self) -> tuple[str, ...]:
        """The models whose answer it was: a verdict on it is one on each of them."""
        if self.vote is None:
            return () if self.model is None else (self.model,)
        if self.vote.outcome == "agreed":
            return self.vote.members
        return () if self.vote.answered_by is None else (self.vote.answered_by,)


_NAMES = tuple(f.name for f in fields(Trace) if f.name != "id")
_ROW = attrgetter(*(f.name for f in fields(Option)))


def to_fields(trace: Trace) -> dict[str, str]:
    """Flat fields for the stream of decisions, each of them JSON; values in values are lists."""
    values = {name: getattr(trace, name) for name in _NAMES}
    values["options"] = [_ROW(option) for option in trace.options]
    values["tries"] = [astuple(replace(t, seconds=round(t.seconds, 4))) for t in trace.tries]
    for name in ("control", "reading", "vote"):
        if (value := values.pop(name)) is not None:
            values[name] = astuple(value)
    short = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
    return {name: short.encode(value) for name, value in values.items()}


def of_fields(identity: str, flat: Mapping[str, str]) -> Trace:
    """Inverse of `to_fields`.

    Raises:
        DataError: the fields are of another version, or damaged.
    """
    try:
        values = {name: _value(flat[name]) for name in _NAMES if name in flat}
        values["options"] = [_named(Option, row) for row in values["options"]]
        values["tries"] = [_tried(row) for row in values.get("tries", ())]
        for name, kind in (("control", Control), ("reading", Reading), ("vote", Vote)):
            if (row := values.get(name)) is not None:
                values[name] = _named(kind, row)
        trace = _shape().validate_python({"id": identity, **values})
        if not 0 <= trace.at <= LATEST:
            raise ValueError("its moment cannot be")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"decision {identity} cannot be read: {type(error).__name__}") from error
    return trace


@cache
def _shape() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)


def _value(text: str) -> Any:
    """The value of a field; a ValueError where it holds a number that cannot be."""
    value = strict_json(text)
    if any(abs(number) > NUMBER_MOST for number in _numbers(value)):
        raise ValueError("a number is too large")
    return value


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def _named(kind: Any, row: Sequence[Any]) -> dict[str, Any]:
    """A row's values by the names of a value's fields; those at the end may be missing."""
    names = [f.name for f in fields(kind)]
    if len(row) > len(names):
        raise ValueError(f"{kind.__name__} has no {len(row)} fields")
    return dict(zip(names, row, strict=False))


def _tried(row: Sequence[Any]) -> dict[str, Any]:
    found = _named(Attempt, row)
    return found | {"signals": _named(Signals, found["signals"])}


def read_traces(entries: Sequence[tuple[str, Mapping[str, str]]]) -> list[Trace]:
    """The traces among stored entries; what another version wrote is left out."""
    found = []
    for identity, flat in entries:
        with suppress(DataError):
            found.append(of_fields(identity, flat))
    return found
