"""What is decided: forecasts, prices, slots, and which model serves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aios_eccos.values.arrays import BoolArray, Float32Array, FloatArray, IntArray
from aios_eccos.values.need import Lease
from aios_eccos.values.plan import Plan
from aios_eccos.values.query import Query

#: Status of a decision by chance, made to learn about a model: no price chose it.
EXPLORED = "explored"
#: Status of a call that the reference serves because its policy has yet to earn its routing, or as
#: part of the sample that shows whether it still does: no price chose it.
HELD = "held"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What each of m models would do on each of n queries.

    Attributes:
        models: the m model names, naming the columns.
        success: (n, m) probability of a good answer, 0..1.
        output_tokens: (n, m) expected output length.
        support: (n, m) effective number of records behind each number; 0 = prior only.
        novelty: (n,) quantile (0..1) of the query's distance from history among the history's own
            distances; 1 = farther than everything known. NaN where unknown.
    """

    models: tuple[str, ...]
    success: FloatArray
    output_tokens: FloatArray
    support: FloatArray
    novelty: FloatArray

    def __post_init__(self) -> None:
        n, m = len(self.success), len(self.models)
        shapes = {"success": (n, m), "output_tokens": (n, m), "support": (n, m), "novelty": (n,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, wanted {shape}")

    def __len__(self) -> int:
        return len(self.success)


@dataclass(frozen=True, slots=True)
class Price:
    """What a success of one call is worth, and what may move that.

    Attributes:
        policy: the agent pattern whose floor applies, "" for the general one.
        floor: success asked for, absolute 0..1; NaN under a budget, and where nothing is asked.
        value: dollars that one whole success is worth (the dual price of the floor, lambda); inf
            where nothing is known yet: then the strongest is taken.
        base: the value on history alone, before outcomes or spending moved it.
        least, greatest: ends of the value, in dollars.
        key: name of the stored factor on `base` that outcomes (or spending) move; "" = none does.
        own: whether the call brought the floor itself.
        budget: dollars per call that the price is to spend, instead of a floor.
        batch_floor: success that the forecasts of a batch must promise for the floor to be had.
        optimism: by how much the forecasts of what is chosen at this value exceeded the success
            had, on history (the winner's curse); promises are made without it.
        models: the models that the value may choose; None = all that may serve.
        careful: whether it goes by forecasts less their standard deviation: it is to be proven.
        levels: success by column that it goes by instead of forecasts: no price keeps the floor,
            and at the dearest one forecasts tell columns apart by noise.
    """

    policy: str = ""
    floor: float = math.nan
    value: float = math.inf
    base: float = math.inf
    least: float = 0.0
    greatest: float = math.inf
    key: str = ""
    own: bool = False
    budget: float | None = None
    batch_floor: float = math.nan
    optimism: float = 0.0
    models: tuple[str, ...] | None = None
    careful: bool = False
    levels: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """How one settled call stands to the price that chose its model; kept with its decision.

    Attributes:
        key: name of the stored factor that its outcome moves; "" = it moves none.
        low, high: ends of the factor, for the models that the call might use.
        own: whether the call brought its floor itself: then it says nothing about its policy's.
        budget: dollars per call that spending is held against; None under a floor.
        step: what the call has added to the log of the factor before anybody judged it.
    """

    key: str
    low: float
    high: float
    own: bool = False
    budget: float | None = None
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Gate:
    """How far a call of a policy that has yet to earn it, or has, may be routed.

    Attributes:
        reference: the strongest model that may serve; it does where the call is held.
        asked: the floor that is earned, in words; allowed: the net loss that it allows, 0..1.
        share, suspect_share: of calls routed, and of those whose choice is one of the `suspects`.
        lot: the call's own uniform number, 0..1.
        served: whether it is earned; shift: what audits have then added to the log of the price.
        error: the judge's error rate, as far as it is known.
        shadow: the model that the price would choose; None where there is no price yet.
    """

    reference: str
    asked: str
    allowed: float
    share: float
    suspect_share: float
    suspects: frozenset[str]
    lot: float
    served: bool = False
    shift: float = 0.0
    error: float = 0.0
    shadow: str | None = None

    @property
    def chance(self) -> float:
        """With which a call of this choice is routed."""
        return self.suspect_share if self.shadow in self.suspects else self.share

    @property
    def held(self) -> bool:
        """Whether the reference serves whatever the price would choose; by lot, a fair sample."""
        return self.lot >= self.chance

    @property
    def instead(self) -> bool:
        """Whether the reference serves instead of another choice."""
        return self.held and self.shadow not in (None, self.reference)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One query with what every model would do for it and what a success is worth: a row to assign.

    Attributes:
        models: the m columns' names: models, then plans; all arrays are (m,) in their order.
        success, output_tokens, support: the query's row of the `Forecast`.
        cost: forecast dollars (or the price-free stand-in, see `forecast.pricing`), a prompt's
            tokens that the model has read lately at their own price.
        allowed: which models may serve this query at all.
        novelty: as in `Forecast`.
        forecast_s: seconds spent on the forecast (the batch's, divided by its size).
        reread: what of the cost is due to another model's having read the conversation before, or
            to the model's having to be loaded first.
        embedding: (d,) float32 of the text, where the forecast needed one: the history learns
            the call under it without embedding the text a second time.
        lot: uniform in 0..1, by which the call explores a model or does not; None: it must not.
        explorable: models that may be explored, beyond `allowed` where a certificate closes some
            to the price's choice; None: `allowed`.
        gate: how far it may be routed; None: by its price alone.
        plans: those among the columns, each with the chance that its escape is asked.
    """

    query: Query
    models: tuple[str, ...]
    success: FloatArray
    output_tokens: FloatArray
    support: FloatArray
    cost: FloatArray
    allowed: BoolArray
    novelty: float
    worth: Price
    forecast_s: float = 0.0
    reread: FloatArray | None = None
    embedding: Float32Array | None = field(default=None, repr=False)
    lot: float | None = None
    explorable: BoolArray | None = None
    gate: Gate | None = None
    plans: Mapping[Plan, float] = field(default_factory=dict)

    def plan(self, column: str) -> Plan | None:
        """The plan of that name; None where the column is a model."""
        return next((plan for plan in self.plans if plan.name == column), None)

    def asks(self, column: str, models: Collection[str]) -> bool:
        """Whether a column may ask one of these models."""
        plan = self.plan(column)
        return any(name in models for name in ((column,) if plan is None else plan.models))

    @property
    def price(self) -> float:
        """Dollars that one whole success is worth."""
        return self.worth.value


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Which model serves a query, and everything needed to say why.

    Attributes:
        candidate: the forecasts that were used.
        model: the chosen column, a model's or a plan's name; None while the query has to wait.
        leases: the slots that were lent, of a plan one of each member; none while waiting.
        free: (m,) slots that were free at the decision.
        slot_prices: (m,) dollars that one more slot of each model would have saved.
        status: the optimizer's status for the batch; `EXPLORED` for a choice made by chance,
            `HELD` for the reference instead of the price's choice.
        reason: one sentence in plain words.
        batch: how many queries were assigned together.
        whole: whether they were assigned as one, under their floors; else each by its own price.
        decision_s: seconds spent on forecast and assignment (the batch's, divided by its size).
        at: seconds since the epoch, UTC.
        chances: (m,) with which each model would have been explored; None: it could not.
        gate: how far it could be routed, with the model that its price would have chosen.
    """

    candidate: Candidate
    model: str | None
    leases: tuple[Lease, ...]
    free: IntArray
    slot_prices: FloatArray
    status: str
    reason: str
    batch: int
    decision_s: float
    at: float
    chances: FloatArray | None = None
    whole: bool = False
    gate: Gate | None = None

    @property
    def plan(self) -> Plan | None:
        """The chosen plan; None where a model was chosen, or nothing."""
        return None if self.model is None else self.candidate.plan(self.model)

    @property
    def promised(self) -> float:
        """Success that may be expected of the choice, 0..1; NaN while waiting."""
        expected = self.of_choice(self.candidate.success) - self.candidate.worth.optimism
        return min(max(expected, 0.0), 1.0) if self.model is not None else expected

    def of_choice(self, row: FloatArray) -> float:
        """The chosen model's entry of a (m,) row; NaN while waiting."""
        if self.model is None:
            return float("nan")
        return float(row[self.candidate.models.index(self.model)])


@dataclass(frozen=True, slots=True)
class Assignment:
    """The decisions for all queries assigned together, in their order; the optimizer's status."""

    decisions: tuple[Decision, ...]
    status: str
