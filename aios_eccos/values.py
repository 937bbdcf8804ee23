"""The values that pass between the stages, in the order of the data path.

    Query -> Forecast -> (optimize: AssignmentProblem -> Solution) -> Assignment -> Lease -> Outcome

All are frozen, none knows AIOS, Redis or Chroma. Arrays are float64 unless said otherwise and are
indexed [query, model]; a missing outcome is NaN, never zero. Money is US dollars.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from aios_eccos.records import Outcome as Outcome
from aios_eccos.records import Record as Record
from aios_eccos.records import Signals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.float64]
    BoolArray: TypeAlias = NDArray[np.bool_]
    IntArray: TypeAlias = NDArray[np.int64]
else:
    # numpy takes a tenth of a second to import; a look-up from a shell handles no arrays.
    FloatArray = BoolArray = IntArray = Any


@functools.lru_cache(maxsize=1024)
def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


Ability = Literal["tools", "json", "vision"]
#: What a model's server may refuse that another model can do: a prompt or an answer of that
#: length, an ability, the content, or something else that it does not support.
Refused = Literal["context", "output", "tools", "json", "vision", "filter", "other"]
NOT_ALLOWED = "is not allowed to its agent"
#: Status of a decision by chance, made to learn about a model: no price chose it.
EXPLORED = "explored"


@dataclass(frozen=True, slots=True)
class Query:
    """One LLM call, as far as choosing a model for it goes.

    Attributes:
        text: what the forecast is made on; may be empty (then priors decide).
        id: unique per call.
        agent: who asks; agent floors, fairness and traces go by it.
        session: key of the conversation (a hash, never text), if there is one.
        served_by: the model of the conversation's last call, if that is known.
        input_tokens: length of the whole prompt.
        max_output_tokens: the answer's limit, if the caller set one.
        allowed: names of the models that may serve; None means any.
        needs: abilities that the serving model must have.
        floor: the caller's own quality floor (absolute success, 0..1), if it set one.
        priority: higher goes first within an agent.
        deadline: `time.monotonic()` value after which an answer is of no use, if any.
        arrived: `time.monotonic()` at arrival.
    """

    text: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    agent: str = ""
    session: str | None = None
    served_by: str | None = None
    input_tokens: int = 0
    max_output_tokens: int | None = None
    allowed: tuple[str, ...] | None = None
    needs: frozenset[Ability] = frozenset()
    floor: float | None = None
    priority: int = 0
    deadline: float | None = None
    arrived: float = field(default_factory=time.monotonic)

    def may_use(self, model: Model) -> bool:
        """Whether `model` is allowed, able and large enough."""
        return self.obstacle(model) is None

    def obstacle(self, model: Model) -> str | None:
        """What keeps `model` from serving it, in words; what is unknown is no obstacle."""
        if self.allowed is not None and model.name not in self.allowed:
            return NOT_ALLOWED
        if model.abilities is not None and not self.needs <= model.abilities:
            return f"cannot serve {' or '.join(sorted(self.needs - model.abilities))}"
        wanted = self.input_tokens + (self.max_output_tokens or 0)
        if model.context_window is not None and wanted > model.context_window:
            return f"has a context window of {model.context_window} tokens, {wanted} are needed"
        return None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked.

    Attributes:
        name: unique within the kernel; history and forecasts go by it.
        endpoint: the hostname or backend that serves it; limits belong to (name, endpoint).
        limit: most calls in flight at once, over all kernels.
        input_price, output_price: dollars per token; None = unknown, 0 = declared free.
        context_window: tokens, None = unknown.
        abilities: None = unknown, which counts as able.
        size_b: billions of parameters, if declared or readable from the name.
        strength: declared prior success rate in 0..1, used before there is history.
    """

    name: str
    endpoint: str = ""
    limit: int = 32
    input_price: float | None = None
    output_price: float | None = None
    context_window: int | None = None
    abilities: frozenset[Ability] | None = None
    size_b: float | None = None
    strength: float | None = None

    @property
    def slot(self) -> str:
        """Key of the model's slots: name plus a hash of the endpoint, equal in every kernel."""
        return f"{self.name}@{_short_hash(self.endpoint)}"

    @property
    def price_state(self) -> Literal["priced", "free", "unknown"]:
        """Whether it is priced, declared free (0 in the configuration) or of unknown price."""
        if self.input_price is None or self.output_price is None:
            return "unknown"
        return "free" if self.input_price == 0 and self.output_price == 0 else "priced"


def dollars_known(models: Sequence[Model]) -> bool:
    """Whether costs of the pool are dollars: some price is known, or all are declared free."""
    states = {model.price_state for model in models}
    return "priced" in states or "unknown" not in states


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
        shape = (len(self.success), len(self.models))
        for name in ("success", "output_tokens", "support"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, wanted {shape}")
        if self.novelty.shape != shape[:1]:
            raise ValueError(f"novelty has shape {self.novelty.shape}, wanted {shape[:1]}")

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


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One query with what every model would do for it and what a success is worth: a row to assign.

    Attributes:
        query: the query.
        models: the m model names; all arrays are (m,) in their order.
        success, output_tokens, support: the query's row of the `Forecast`.
        cost: forecast dollars (or the price-free stand-in, see `forecast.pricing`).
        allowed: which models may serve this query at all.
        novelty: as in `Forecast`.
        worth: what a success is worth here.
        forecast_s: seconds spent on the forecast (the batch's, divided by its size).
        switch: what leaving the conversation's last model costs beside `cost`, in its unit; None
            where there is none. It counts in choosing, not in what a call is said to cost.
        embedding: (d,) float32 of the text, where the forecast needed one: the history learns
            the call under it without embedding the text a second time.
        lot: uniform in 0..1, by which the call explores a model or does not; None: it must not.
        explorable: models that may be explored, beyond `allowed` where a certificate closes some
            to the price's choice; None: `allowed`.
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
    switch: FloatArray | None = None
    embedding: NDArray[np.float32] | None = field(default=None, repr=False)
    lot: float | None = None
    explorable: BoolArray | None = None

    @property
    def price(self) -> float:
        """Dollars that one whole success is worth."""
        return self.worth.value

    @property
    def total_cost(self) -> FloatArray:
        """(m,) what a choice is weighed by: cost, and that of a switch."""
        return self.cost if self.switch is None else self.cost + self.switch


@dataclass(frozen=True, slots=True)
class Slots:
    """The models' load at one moment, over all kernels.

    Attributes:
        free: slots left by model name, 0 or more.
        limits: slots in all by model name.
        cooling: seconds that models still rest after an error, by name; they are used only where
            nothing else may serve.
    """

    free: Mapping[str, int]
    limits: Mapping[str, int]
    cooling: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """One slot of one model, lent to one call until it is released or expires.

    Attributes:
        call_id: the query's id. An attempt gives its slot back before the next one borrows, so
            that no two attempts of a call hold a slot of one model.
        slot: `Model.slot` of the lender.
    """

    call_id: str
    slot: str


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Which model serves a query, and everything needed to say why.

    Attributes:
        candidate: the forecasts that were used.
        model: the chosen model's name, None while the query has to wait.
        lease: the slot that was lent; None while waiting.
        free: (m,) slots that were free at the decision.
        slot_prices: (m,) dollars that one more slot of each model would have saved.
        status: the optimizer's status for the batch; `EXPLORED` for a choice made by chance.
        reason: one sentence in plain words.
        batch: how many queries were assigned together.
        whole: whether they were assigned as one, under their floors; else each by its own price.
        decision_s: seconds spent on forecast and assignment (the batch's, divided by its size).
        at: seconds since the epoch, UTC.
        chances: (m,) with which each model would have been explored; None: it could not.
    """

    candidate: Candidate
    model: str | None
    lease: Lease | None
    free: IntArray
    slot_prices: FloatArray
    status: str
    reason: str
    batch: int
    decision_s: float
    at: float
    chances: FloatArray | None = None
    whole: bool = False

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
    """The decisions for all queries that were assigned together.

    Attributes:
        decisions: one per query, in the order given.
        status: the optimizer's status.
    """

    decisions: tuple[Decision, ...]
    status: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a model gave no usable answer.

    Attributes:
        reason: short, free of prompts and keys ("429", "timeout", "empty answer").
        status_code: HTTP status for the agent.
        retryable: whether another try can help (429, 5xx, timeout, broken answer).
        retry_after_s: how long the server asks to wait, if it does.
        rests: False where it is not for the server to recover: a fault of the code that asked, or
            an answer that arrived and cannot be used. Another try then need not wait.
        elsewhere: not retryable, but another model may be tried: this one's server refuses the
            operator's key, credit or model name, or what only this model cannot do.
        refused: what only this model cannot do, where its server says that.
        window: the context window that the server names, tokens.
    """

    reason: str
    status_code: int = 500
    retryable: bool = True
    retry_after_s: float | None = None
    rests: bool = True
    elsewhere: bool = False
    refused: Refused | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one model call.

    Attributes:
        value: the answer in the caller's own form; the plugin does not look inside.
        input_tokens, output_tokens: None where unknown; what cannot be used is paid for too.
        failure: None for a good answer.
        signals: what whoever asked could see of it.
        metered: whether the provider counted the tokens; else they were counted here.
    """

    value: Any = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    failure: Failure | None = None
    signals: Signals = field(default_factory=Signals)
    metered: bool = True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one model, without what it said.

    Attributes:
        seconds: from the request to its answer, or to its being given up.
        output_tokens, input_tokens: from the provider's usage, of a failed request too.
        failure: short reason, None for a good answer.
    """

    model: str
    seconds: float
    output_tokens: int | None = None
    failure: str | None = None
    signals: Signals = field(default_factory=Signals)
    input_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CallResult:
    """A call that is over: served, failed, or given up.

    Attributes:
        query: the query.
        answer: the last attempt's answer.
        decision: the last attempt's decision; None if it never got one.
        attempts: model requests made.
        waited_s: arrival to first start, seconds.
        served_s: first start to end, seconds; 0 if it never started.
        tries: the requests made, in order.
        closed: why models were closed to it at the last decision, in words that follow their
            names; models that could never serve it are not among them.
    """

    query: Query
    answer: Answer
    decision: Decision | None
    attempts: int
    waited_s: float
    served_s: float
    tries: tuple[Attempt, ...] = ()
    closed: Mapping[str, str] = field(default_factory=dict)
