"""The shape of `aios-eccos route` and `POST /eccos/route`: who would serve a text, and why."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from aios_eccos.config import Floor, parse_floor
from aios_eccos.decide.rule import net_cost
from aios_eccos.decide.words import Case, why
from aios_eccos.observe.view import Usd, View
from aios_eccos.values import Decision, Slots


class RouteRequest(BaseModel):
    """`POST /eccos/route` (in a body: URLs are logged).

    Attributes:
        floor: instead of the configured floor: 0..1, or `95 %` of the strongest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(max_length=200_000)
    agent: str = Field(default="", max_length=200)
    floor: str | None = Field(default=None, max_length=20)

    @field_validator("floor")
    @classmethod
    def is_a_floor(cls, value: str | None) -> str | None:
        if value is not None:
            parse_floor(value)
        return value

    @property
    def asked(self) -> Floor | None:
        """The floor, read."""
        return None if self.floor is None else parse_floor(self.floor)


class RouteRow(View):
    """One model.

    Attributes:
        net_cost_usd: cost less the worth of its success; null where no price of success is known.
        support: the effective number of records behind the forecast.
        in_use, limit: its slots.
    """

    model: str
    chosen: bool
    success: float
    output_tokens: float
    cost_usd: Usd
    net_cost_usd: float | None
    support: float
    in_use: int
    limit: int
    why: str


class RouteView(View):
    """A decision for a text that nobody asked.

    Attributes:
        note: what the reader should know of the forecasts; "" = nothing.
        floor: that the decision keeps on average; null where no floor is known.
        success_price_usd: what a success is worth; null where that is not known.
        novelty: how far the text is from all history, 0..1; null without a history.
        models: the cheapest first.
    """

    schema_: Literal["aios-eccos/route/1"] = Field(default="aios-eccos/route/1", alias="schema")
    model: str | None
    reason: str
    note: str
    floor: float | None
    money: bool
    success_price_usd: float | None
    novelty: float | None
    decision_s: float
    models: list[RouteRow]


def route_view(decision: Decision, slots: Slots, note: str, money: bool) -> RouteView:
    """The decision as it is shown.

    Args:
        slots: the load that it was made under.
        money: whether costs are dollars.
    """
    candidate = decision.candidate
    return RouteView(
        model=decision.model,
        reason=decision.reason,
        note=note,
        floor=None if math.isnan(candidate.worth.floor) else round(candidate.worth.floor, 4),
        money=money,
        success_price_usd=candidate.price if math.isfinite(candidate.price) else None,
        novelty=None if math.isnan(candidate.novelty) else round(candidate.novelty, 3),
        decision_s=float(f"{decision.decision_s:.4g}"),
        models=_rows(decision, slots),
    )


def _rows(decision: Decision, slots: Slots) -> list[RouteRow]:
    p = decision.candidate
    resting = np.array([name in slots.cooling for name in p.models])
    column = p.models.index(decision.model) if decision.model is not None else None
    case = replace(Case.of(p, column, decision.free), allowed=p.allowed & ~resting)
    net = net_cost(p.total_cost[None], p.success[None], p.price)[0]
    return [
        RouteRow(
            model=name,
            chosen=name == decision.model,
            success=round(float(p.success[j]), 4),
            output_tokens=round(float(p.output_tokens[j]), 1),
            cost_usd=float(f"{p.cost[j]:.6g}"),
            net_cost_usd=float(f"{net[j]:.6g}") if math.isfinite(p.price) else None,
            support=round(float(p.support[j]), 2),
            in_use=slots.limits[name] - slots.free[name],
            limit=slots.limits[name],
            why=why(case, j, "rests after an error" if resting[j] else ""),
        )
        for j, name in sorted(enumerate(p.models), key=lambda at: (p.cost[at[0]], at[1]))
    ]
