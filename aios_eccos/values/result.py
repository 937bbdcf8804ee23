"""What came of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aios_eccos.records import Signals
from aios_eccos.values.decision import Decision
from aios_eccos.values.query import Query

#: What a model's server may refuse that another model can do: a prompt or an answer of that
#: length, an ability, the content, or something else that it does not support.
Refused = Literal["context", "output", "tools", "json", "vision", "filter", "other"]


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
        cached_tokens: of the input, as far as the provider says.
    """

    value: Any = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    failure: Failure | None = None
    signals: Signals = field(default_factory=Signals)
    metered: bool = True
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one model, without what it said.

    Attributes:
        seconds: from the request to its answer, or to its being given up.
        output_tokens, input_tokens: from the provider's usage, of a failed request too.
        failure: short reason, None for a good answer.
        cached_tokens: of the input.
    """

    model: str
    seconds: float
    output_tokens: int | None = None
    failure: str | None = None
    signals: Signals = field(default_factory=Signals)
    input_tokens: int | None = None
    cached_tokens: int = 0


#: Gives the text and the tool calls in an answer's value.
Said = Callable[[Any], tuple[str | None, Sequence[Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """How to ask models once more what a call asked, for an audit: requests, and nothing else.

    Attributes:
        ask: (model, seconds) -> the model's answer to the call's own request.
        plain: (model, messages, seconds) -> its answer to other messages, without tools.
        said: the text and the tool calls in an answer's value.
        instruction: gives what the call asked, as text.
    """

    ask: Callable[[str, float], Answer]
    plain: Callable[[str, Sequence[Mapping[str, str]], float], Answer]
    said: Said
    instruction: Callable[[], str]


#: What a plan's members said: the same, or not; nothing to compare, in a final answer or at all.
VoteOutcome = Literal["agreed", "differed", "no form", "failed"]


@dataclass(frozen=True, slots=True)
class Vote:
    """What came of a plan.

    Attributes:
        members: asked at once. escape: asked unless they agreed.
        answered_by: the model whose answer was given; None: there was none.
        spent_usd: by model, what its answer cost, in the trace's unit; failed requests are not in.
    """

    members: tuple[str, ...]
    escape: str
    outcome: VoteOutcome
    answered_by: str | None
    spent_usd: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class CallResult:
    """A call that is over: served, failed, or given up.

    Attributes:
        answer, decision: the last attempt's, of a plan what it gave and the decision for it; no
            decision if it never got one.
        attempts: model requests made.
        waited_s: arrival to first start, seconds.
        served_s: first start to end, seconds; 0 if it never started.
        tries: these requests, in order.
        closed: why models were closed to it at the last decision, in words that follow their
            names; models that could never serve it are not among them.
        repeat: gives what an audit asks with, taken down as it is now; None: it is not audited.
        vote: what came of its plan, if one served it.
        said: by model, the good answers of a plan's models.
    """

    query: Query
    answer: Answer
    decision: Decision | None
    attempts: int
    waited_s: float
    served_s: float
    tries: tuple[Attempt, ...] = ()
    closed: Mapping[str, str] = field(default_factory=dict)
    repeat: Callable[[], Repeat] | None = None
    vote: Vote | None = None
    said: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """The model whose answer it has, or that was asked last; None where none was."""
        if self.vote is not None:
            return self.vote.answered_by
        return None if self.decision is None else self.decision.model
