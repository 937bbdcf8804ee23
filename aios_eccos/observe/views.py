"""The shapes of what is shown: JSON on the kernel and in the shell, drawn as text by `render`.

Times are seconds, moments are since the epoch (UTC), rates are 0..1; null = unknown, never zero.
Amounts are dollars, or size units: see `shape`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aios_eccos.floor.alarm import Alarm
from aios_eccos.metrics import Interval
from aios_eccos.observe.audit_views import AuditsView
from aios_eccos.observe.money import CapView
from aios_eccos.observe.shape import Usd, View

Stands = Literal["trial", "promoted", "rolled back"]


class ExploredView(View):
    """What is concluded from explored calls about a model's success on all calls: a forecast.

    Attributes:
        calls: given to it by chance; judged: those with a verdict.
        success: doubly robust estimate for all answered calls that could have explored it, as if
            which explored calls are judged were chance.
        effective: effective number of judged calls behind it.
    """

    calls: int
    judged: int
    success: Interval
    effective: float


class ModelView(View):
    """One model: its load over all kernels now, and its last 24 hours.

    Attributes:
        limit: in force, the smallest of all kernels; declared_limit: of this configuration.
        rpm, tpm: requests and tokens per minute in force; null = unlimited.
        requests, tokens: of the last minute, where one of these is limited.
        closed_s: seconds for which its server has asked to be left alone.
        input_price, output_price: dollars per token; null = unknown.
        hoped: mean forecast success if it had served every call of the day.
        slot_price_usd: what one more slot would have saved at the last decisions (their largest).
        explored: what calls given to it by chance have told; null while none was judged.
    """

    model: str
    in_use: int
    limit: int
    declared_limit: int
    cooling_s: float
    price: Literal["priced", "free", "unknown"]
    input_price: float | None
    output_price: float | None
    context_window: int | None
    abilities: list[str] | None
    calls: int
    failures: int
    share: float | None
    cost_usd: Usd
    verdicts: int
    realised: Interval | None
    hoped: float | None
    slot_price_usd: Usd
    explored: ExploredView | None = None
    rpm: int | None = None
    tpm: int | None = None
    requests: int = 0
    tokens: int = 0
    closed_s: float = 0.0


class PlanView(View):
    """One plan's last 24 hours.

    Attributes:
        share: of all calls. agreed: calls on which its members did; escaped: on which the escape
            was asked.
        cost_usd: of all its requests; each is in its model's cost as well.
        saved_usd: against asking its escape alone, by forecast.
    """

    plan: str
    calls: int
    share: float | None
    agreed: int
    escaped: int
    cost_usd: Usd
    saved_usd: Usd
    verdicts: int
    realised: Interval | None


class WindowView(View):
    """Some time's calls.

    Attributes:
        name: `start` (since the first call that was kept), `week` or `day`.
        promised: mean success promised over all answers; judged_promised: over the judged.
        realised: mean of the verdicts; verdict_share: share of the calls that have one.
        far_share: share of the forecast calls that lay far from all history.
        limited: calls that a limit kept from the model that their price would have chosen.
        unpriced: answers that are not in `cost_usd`, as their cost was counted in the other unit.
    """

    name: str
    since: float | None
    calls: int
    failures: int
    cost_usd: Usd
    promised: float | None
    verdicts: int
    verdict_share: float | None
    realised: Interval | None
    judged_promised: float | None
    mean_wait_s: float | None
    mean_decision_s: float | None
    far_share: float | None = None
    limited: int = 0
    unpriced: int = 0


class ObservedView(View):
    """Observe mode: forecasts of what the router would have done beside what AIOS chose."""

    calls: int = 0
    same_choice: int = 0
    forecast_cost_served_usd: Usd = 0.0
    forecast_cost_routed_usd: Usd = 0.0
    forecast_successes_served: float = 0.0
    forecast_successes_routed: float = 0.0


class CanaryView(View):
    """Mode `canary`: how it stands, and calls and failures of both sides since it began.

    Attributes:
        stands: `trial`, `promoted` (all are routed) or `rolled back` (none is).
        share: of the conversations that are routed while it is a trial.
    """

    stands: Stands
    why: str = ""
    since: float
    share: float
    routed: int
    routed_failed: int
    control: int
    control_failed: int


class EdgeView(View):
    """What only the kernel's own process knows.

    Attributes:
        undecided: decisions that had to do without forecasts, or fell back to AIOS's choice.
        lost_traces: settled calls that could not be kept.
        history: records in the history, null while it is not open.
        history_note: what keeps calls from being forecast, or success from being priced, by it.
        fairness: Jain's index over agents that wait or were served here in the last minutes, by
            weight: 1 = equally, 1/n = one of n had all; null while there are not two.
        floors_from: `verdicts` once the history has enough of them, else `priors`.
    """

    mode: str
    waiting: int
    running: int
    undecided: int = 0
    lost_traces: int = 0
    unlearnt: int = 0
    history: int | None = None
    history_note: str | None = None
    embedder: str | None = None
    floors_from: str = "priors"
    certificates: list[str] = Field(default_factory=list)
    observed: ObservedView | None = None
    fairness: float | None = None
    canary: CanaryView | None = None


class StatusView(View):
    """`GET /eccos/status`.

    Attributes:
        source: `kernel`, or `redis`: read past the kernel, which did not answer.
        set_aside: messages for the history that nobody could carry out, of the last week.
        success_price_usd: what one success was worth at the last decision that knew.
        audits: null where audits are off.
        plans: those that have served calls.
        caps: every `max_cost`.
        warnings: what this kernel lacks since its start, which models' servers fail or are silent,
            why calls are not learned from, and what is wrong with Redis.
    """

    schema_: Literal["aios-eccos/status/1"] = Field(default="aios-eccos/status/1", alias="schema")
    at: float
    source: Literal["kernel", "redis"]
    namespace: str
    floor: str
    budget_per_call: float | None
    money: bool
    degraded: bool
    kernels: int
    set_aside: int
    calls_per_s: float
    usd_per_h: Usd
    success_price_usd: float | None
    models: list[ModelView]
    windows: list[WindowView]
    alarms: list[Alarm]
    edge: EdgeView | None
    audits: AuditsView | None = None
    plans: list[PlanView] = Field(default_factory=list)
    caps: list[CapView] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def broken(self) -> list[Alarm]:
        """The floors that are not kept."""
        return [alarm for alarm in self.alarms if alarm.broken]


class ModelsView(View):
    """`GET /eccos/models`."""

    schema_: Literal["aios-eccos/models/1"] = Field(default="aios-eccos/models/1", alias="schema")
    at: float
    money: bool
    models: list[ModelView]


class EventView(View):
    """A change: of a floor, a limit, a price, the head, the mode, or of a floor's alarm."""

    id: str
    at: float
    what: str = ""
    before: str | None = None
    after: str | None = None


class EventsView(View):
    """`GET /eccos/events`, newest first."""

    schema_: Literal["aios-eccos/events/1"] = Field(default="aios-eccos/events/1", alias="schema")
    events: list[EventView]


class PointView(View):
    """One minute or hour of a chart."""

    at: float
    calls: int
    failures: int
    cost_usd: Usd
    promised: float | None
    realised: float | None
    by_model: dict[str, int]


class SeriesView(View):
    """`GET /eccos/series`: the last hour by minute and the last day by hour, oldest first."""

    schema_: Literal["aios-eccos/series/1"] = Field(default="aios-eccos/series/1", alias="schema")
    at: float
    money: bool = True
    minutes: list[PointView]
    hours: list[PointView]
