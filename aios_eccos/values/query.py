"""What is asked, and who can be asked."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Ability = Literal["tools", "json", "vision"]
NOT_ALLOWED = "is not allowed to its agent"
NOT_LOCAL = "is not local, and the call is private"


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
        private: whether only local models may read it.
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
    private: bool = False
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
        context_window: tokens, None = unknown.
        abilities: None = unknown, which counts as able.
        size_b: billions of parameters, if declared or readable from the name.
        strength: declared prior success rate in 0..1, used before there is history.
        local: whether what it is asked stays with the operator.
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
    local: bool = False

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
