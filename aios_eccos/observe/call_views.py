"""The shapes of what is shown of calls: decisions, explanations, savings, verdicts; see `views`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from aios_eccos.config import Floor, parse_floor
from aios_eccos.metrics import Interval
from aios_eccos.observe.shape import Usd, View
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.views import ObservedView


class DecisionsView(View):
    """`GET /eccos/decisions`, newest first."""

    schema_: Literal["aios-eccos/decisions/1"] = Field(
        default="aios-eccos/decisions/1", alias="schema"
    )
    decisions: list[Trace]
    verdicts: list[float | None]


class NeighborView(View):
    """A past query near this one.

    Attributes:
        similarity: cosine, 1 = the same direction.
        correctness: by model that has a verdict.
        text: only in the local command line, and only where it is stored.
    """

    id: str
    similarity: float
    task: str
    correctness: dict[str, float]
    text: str | None = None


class DrawView(View):
    """A copy that an audit drew; see `verdicts.draws.Draw`.

    Attributes:
        verdict: 1 = better than the reference, 0 = as good, -1 = worse; null: not compared.
        source: `agreement` (equal answers), `judge`, or `difference` (unequal, without a judge).
    """

    model: str
    chance: float
    verdict: int | None
    source: Literal["agreement", "judge", "difference"] | None


class ChoiceView(View):
    """One model in an explanation.

    Attributes:
        net_usd: cost less the worth of its success: the least of these is chosen while limits
            allow; null where no price of success is known.
        extra_usd: forecast cost beside the chosen model's.
    """

    model: str
    chosen: bool
    allowed: bool
    success: float
    output_tokens: float
    cost_usd: Usd
    extra_usd: float | None
    net_usd: float | None
    support: float
    free: int
    slot_price_usd: Usd
    why: str


class ExplainView(View):
    """`GET /eccos/decisions/{id}`: one decision, why, and what the others would have cost.

    Attributes:
        bound_by: the constraint that decided: `floor`, `limit of NAME`, `allowed models`,
            `whole batch` (so many at once that no single price decided), `no history`, or
            `nothing`.
        neighbors: nearest first; neighbors_note: why there are none.
        dry: True where no call was made (`explain "text"`).
        held, shadow, chance: as in the decision: whether the reference served by lot, what the
            price would choose, and the chance with which a call of that choice is routed.
        audited: what an audit of the call drew.
    """

    schema_: Literal["aios-eccos/explain/1"] = Field(default="aios-eccos/explain/1", alias="schema")
    money: bool = True
    decision: Trace
    verdict: float | None = None
    bound_by: str
    sentence: str
    choices: list[ChoiceView]
    neighbors: list[NeighborView] = Field(default_factory=list)
    neighbors_note: str | None = None
    dry: bool = False
    held: bool = False
    shadow: str | None = None
    chance: float = 1.0
    audited: list[DrawView] = Field(default_factory=list)


class SavedView(View):
    """A window's spending beside the baseline's forecast; see `savings`.

    Attributes:
        compared: answers for which the baseline stood to choice, in the unit of `money`; costs and
            what is saved are theirs.
        asked_baseline: those of them that the baseline gave.
    """

    name: str
    since: float | None
    answers: int
    compared: int = 0
    asked_baseline: int
    cost_usd: Usd
    baseline_cost_usd: Interval
    saved_usd: Interval
    saved_share: float | None
    promised: float | None
    realised: Interval | None
    verdict_share: float | None
    baseline_success: Interval | None


class SavingsView(View):
    """`GET /eccos/savings`. What `baseline` would have cost and reached is a forecast."""

    schema_: Literal["aios-eccos/savings/1"] = Field(default="aios-eccos/savings/1", alias="schema")
    at: float
    money: bool
    baseline: str | None
    chosen_as: str
    note: str
    windows: list[SavedView]
    observed: ObservedView | None = None


class WhatIfView(View):
    """`/eccos whatif floor=F`: a forecast, made by deciding the last calls again."""

    schema_: Literal["aios-eccos/whatif/1"] = Field(default="aios-eccos/whatif/1", alias="schema")
    floor: float
    reachable: float
    calls: int
    money: bool
    success_price_usd: Usd
    cost_now_usd: Usd
    cost_then_usd: Usd
    promised_now: float | None
    promised_then: float | None
    shares_now: dict[str, float]
    shares_then: dict[str, float]


class RouteRow(View):
    """One model: its forecast as in `ChoiceView`, rounded, and its slots."""

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
        floor: that the decision keeps on average.
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


class Request(BaseModel):
    """A body of POST: URLs are logged."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ExplainRequest(Request):
    """`POST /eccos/explain`: what would be decided for a text now."""

    text: str = Field(max_length=200_000)
    agent: str = Field(default="", max_length=200)


class RouteRequest(ExplainRequest):
    """`POST /eccos/route`.

    Attributes:
        floor: instead of the configured floor: 0..1, or `95 %` of the strongest.
    """

    floor: str | None = Field(default=None, max_length=20)

    @field_validator("floor")
    @classmethod
    def is_a_floor(cls, value: str | None) -> str | None:
        if value is not None:
            parse_floor(value)
        return value

    @property
    def asked(self) -> Floor | None:
        return None if self.floor is None else parse_floor(self.floor)


class FeedbackRequest(Request):
    """`POST /eccos/feedback`: a verdict on the answer of one decision."""

    id: str = Field(min_length=1, max_length=64, description="the decision's id")
    correctness: float = Field(ge=0, le=1, description="0 = wrong, 1 = right")


class FeedbackView(View):
    """The answer to a verdict.

    Attributes:
        before: an earlier verdict, which this one replaces.
        learnt: whether the history has it now; else it is handed over, or the record is gone.
    """

    schema_: Literal["aios-eccos/feedback/1"] = Field(
        default="aios-eccos/feedback/1", alias="schema"
    )
    id: str
    model: str
    correctness: float
    before: float | None
    learnt: bool
