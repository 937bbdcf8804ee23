"""What is asked, and who can be asked."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aios_eccos.values.need import Rates

Ability = Literal["tools", "json", "vision"]
NOT_ALLOWED = "is not allowed to its agent"
#: Seconds for which hosted servers keep a prompt that they have read, at least.
CACHE_TTL_S = 300.0
NOT_LOCAL = "is not local, and the call is private"


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of the conversation that a call goes on with.

    Attributes:
        model: that served its last call; None = not known.
        read: model -> tokens of this prompt that it has read, and when (seconds since the epoch).
        in_tool_loop: whether the call brings results of tools that `model` has called.
        strained: whether what its tools gave asks for a stronger model.
        escalated: whether it has gone to a stronger model before.
    """

    model: str | None = None
    read: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    in_tool_loop: bool = False
    strained: bool = False
    escalated: bool = False

    @property
    def stay(self) -> str | None:
        """The model that serves the call unless it fails or the session escalates, if any must."""
        return self.model if self.in_tool_loop or self.escalated else None

    def cached(self, model: Model) -> int:
        """Tokens of the prompt that the model's server still keeps."""
        tokens, at = self.read.get(model.name, (0, 0.0))
        return tokens if time.time() - at <= model.cache_ttl_s else 0

    @property
    def escalates(self) -> bool:
        """Whether the call goes to a stronger model than `stay`, if there is one: once."""
        return self.strained and not self.escalated


@dataclass(frozen=True, slots=True)
class Reading:
    """Which part of a prompt a call is forecast on; never the part itself.

    Attributes:
        source: the message, in words; rule: by which the part was found.
        start, end: characters of the part in that message; of: the message's length.
    """

    source: str
    rule: str
    start: int
    end: int
    of: int


@dataclass(frozen=True, slots=True)
class Query:
    """One LLM call, as far as choosing a model for it goes.

    Attributes:
        text: what the forecast is made on; may be empty (then priors decide).
        id: unique per call.
        agent: who asks; agent floors, fairness and traces go by it.
        session: the conversation that it goes on with, if it does.
        input_tokens: length of the whole prompt.
        max_output_tokens: the answer's limit, if the caller set one.
        allowed: names of the models that may serve; None means any.
        needs: abilities that the serving model must have.
        observed: whether AIOS's own choice serves it, and the router only looks on.
        private: whether only local models may read it.
        floor: the caller's own quality floor (absolute success, 0..1), if it set one.
        max_cost: dollars that it may cost at most, if the caller says so.
        priority: higher goes first within an agent.
        deadline: `time.monotonic()` value after which an answer is of no use, if any.
        arrived: `time.monotonic()` at arrival.
        reading: which part of the prompt `text` is, if it is one.
    """

    text: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    agent: str = ""
    session: Session | None = None
    input_tokens: int = 0
    max_output_tokens: int | None = None
    allowed: tuple[str, ...] | None = None
    needs: frozenset[Ability] = frozenset()
    observed: bool = False
    private: bool = False
    floor: float | None = None
    max_cost: float | None = None
    priority: int = 0
    deadline: float | None = None
    arrived: float = field(default_factory=time.monotonic)
    reading: Reading | None = None

    @property
    def in_tool_loop(self) -> bool:
        """Whether it brings the results of tools to the model that has called them."""
        return self.session is not None and self.session.in_tool_loop

    def may_use(self, model: Model) -> bool:
        """Whether `model` is allowed, able and large enough."""
        return self.obstacle(model) is None

    def obstacle(self, model: Model) -> str | None:
        """What keeps `model` from serving it, in words; what is unknown is no obstacle."""
        if self.allowed is not None and model.name not in self.allowed:
            return NOT_ALLOWED
        if self.private and not model.local:
            return NOT_LOCAL
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
        cached_price: dollars per token of a prompt that its server has cached; None = as others.
        cache_ttl_s: seconds for which its server keeps a prompt that it has read.
        context_window: tokens, None = unknown.
        abilities: None = unknown, which counts as able.
        size_b: billions of parameters, if declared or readable from the name.
        strength: declared prior success rate in 0..1, used before there is history.
        local: whether what it is asked stays with the operator.
        rates: requests and tokens that its server takes in a minute, as declared.
    """

    name: str
    endpoint: str = ""
    limit: int = 32
    input_price: float | None = None
    output_price: float | None = None
    cached_price: float | None = None
    cache_ttl_s: float = CACHE_TTL_S
    context_window: int | None = None
    abilities: frozenset[Ability] | None = None
    size_b: float | None = None
    strength: float | None = None
    local: bool = False
    rates: Rates = field(default_factory=Rates)

    @property
    def slot(self) -> str:
        """Key of the model's slots: name plus a hash of the endpoint, equal in every kernel."""
        return f"{self.name}@{hashlib.sha256(self.endpoint.encode()).hexdigest()[:8]}"

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
