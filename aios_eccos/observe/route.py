"""The shape of `aios-eccos route` and `POST /eccos/route`: who would serve a text, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from aios_eccos.config import Floor, parse_floor
from aios_eccos.observe.bound import case_of
from aios_eccos.observe.explain import choices
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.view import Usd, View


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


def route_view(trace: Trace, limits: Mapping[str, int], note: str) -> RouteView:
    """The decision as it is shown.

    Args:
        limits: of the models, under which it was made.
        note: as in `RouteView`.
    """
    return RouteView(
        model=trace.model,
        reason=trace.reason,
        note=note,
        floor=None if trace.floor is None else round(trace.floor, 4),
        money=trace.money,
        success_price_usd=trace.success_price_usd,
        novelty=None if trace.novelty is None else round(trace.novelty, 3),
        decision_s=float(f"{trace.decision_s:.4g}"),
        models=[
            RouteRow(
                model=row.model,
                chosen=row.chosen,
                success=round(row.success, 4),
                output_tokens=row.output_tokens,
                cost_usd=row.cost_usd,
                net_cost_usd=None if row.net_usd is None else float(f"{row.net_usd:.6g}"),
                support=round(row.support, 2),
                in_use=limits[row.model] - row.free,
                limit=limits[row.model],
                why=row.why,
            )
            for row in choices(trace, case_of(trace))
        ],
    )
