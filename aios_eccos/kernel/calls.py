"""An agent's LLM call as a `Query`: what it asks, may use, needs and hints at. And its `Ticket`.

Hints ride in any entry of `llms`, under a key of ours that stock kernels ignore:
`{"name": "small", "eccos": {"floor": 0.9, "deadline_s": 5, "priority": 2, "private": true}}`.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from aios_eccos.config.checks import misspelt
from aios_eccos.forecast.query_text import asked as asked_text
from aios_eccos.providers.failures import MALFORMED
from aios_eccos.providers.tokens import images, prompt_tokens, text_of
from aios_eccos.providers.usage import MOST_TOKENS
from aios_eccos.providers.wire import written
from aios_eccos.values import Ability, CallResult, Failure, Query, Reading

#: Longest name of an agent, characters: it is kept with its records, and while it is served.
AGENT_MOST = 1_000
#: What an agent may hint at; others are those of later versions, and are left aside.
HINTS = ("floor", "deadline_s", "priority", "max_cost", "private")
#: AIOS's own words to an agent whose models do not exist.
UNAVAILABLE = "Selected LLMs are not all available. Please check the available LLMs."


class Syscall(Protocol):
    """A call of an agent that waits in one of the kernel's queues."""

    agent_name: str
    query: Any
    event: Any

    def set_status(self, status: str) -> None: ...
    def set_response(self, response: Any) -> None: ...
    def set_start_time(self, time: float) -> None: ...
    def set_end_time(self, time: float) -> None: ...
    def get_start_time(self) -> float | None: ...


def settle(syscall: Syscall, response: Any) -> None:
    """End a kernel's call: as `done`, whatever the response says, and the event last.

    Any other status makes AIOS submit the call again; an event that comes first lets the agent
    read a call that is half ended.
    """
    now = time.time()
    if syscall.get_start_time() is None:
        syscall.set_start_time(now)
    syscall.set_response(response)
    syscall.set_end_time(now)
    syscall.set_status("done")
    syscall.event.set()


class Refused(Exception):
    """The call cannot be served; text and HTTP status go to its agent."""

    def __init__(self, text: str, status_code: int) -> None:
        super().__init__(text)
        self.status_code = status_code


def fault_of(error: Exception) -> Failure:
    """What a call comes to that could not be taken up."""
    if isinstance(error, RecursionError):
        return replace(MALFORMED, reason="malformed call: nested too deep")
    return Failure(type(error).__name__, 500)


@dataclass(slots=True, eq=False)
class Caller:
    """The HTTP client behind some calls, so that those that wait can be dropped with it.

    The two methods write before they read, each what the other reads: no call is missed by both.
    """

    gone: bool = False
    waiting: set[str] = field(default_factory=set)

    def waits_for(self, query_id: str) -> bool:
        """Note a call; False if the client has gone already."""
        self.waiting.add(query_id)
        return not self.gone

    def leave(self) -> list[str]:
        """The client has gone: the ids of its calls."""
        self.gone = True
        return list(self.waiting)


#: The client that the current thread works for; set by the HTTP handler.
caller: ContextVar[Caller | None] = ContextVar("aios_eccos_caller", default=None)


@dataclass(frozen=True)
class Ticket:
    """A call under way: the kernel's side and ours.

    `asked` is what the agent asked for; in observe mode `query` allows AIOS's choice alone.
    """

    syscall: Syscall
    query: Query
    caller: Caller
    asked: Query

    @cached_property
    def turn(self) -> str:
        """Key under which the conversation's next call finds this one's model."""
        return turn(self.query.agent, self.syscall.query.messages)


def summary(settled: CallResult) -> dict[str, Any]:
    """What is shown of a call that is over; none of its text."""
    decision, failure = settled.decision, settled.answer.failure
    return {
        "id": settled.query.id,
        "agent": settled.query.agent[:64],
        "model": decision.model if decision is not None else None,
        "reason": decision.reason if decision is not None else "never decided",
        "error": failure.reason if failure is not None else None,
        "attempts": settled.attempts,
        "waited_s": round(settled.waited_s, 4),
        "served_s": round(settled.served_s, 4),
    }


def names_asked(query: Any) -> list[str]:
    names = []
    for entry in query.llms or ():
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name:
            names.append(name)
        elif not (isinstance(entry, Mapping) and "eccos" in entry):
            raise Refused("every entry of llms needs the name of a model", 400)
    return names


def ollama_names(query: Any, available: Collection[str]) -> list[str]:
    """Models of Ollama that the call names and AIOS has not registered yet."""
    return [
        entry["name"]
        for entry in query.llms or ()
        if isinstance(entry, dict)
        and entry.get("backend") == "ollama"
        and isinstance(entry.get("name"), str)
        and entry["name"] not in available
    ]


def read_query(agent: str, query: Any, available: Collection[str]) -> Query:
    """AIOS's LLMQuery as the router sees it; `available` are the kernel's models.

    `Refused` are: no messages, a name of an agent beyond all use, a malformed `llms` entry or hint,
    no model that is available.
    """
    messages = query.messages
    if not isinstance(messages, list) or not messages:
        raise Refused("Syscall query must contain a non-empty list of messages.", 400)
    asked = names_asked(query)
    allowed = tuple(name for name in dict.fromkeys(asked) if name in available)
    if asked and not allowed:
        raise Refused(UNAVAILABLE, 404)
    now = time.monotonic()
    deadline_s = _hint(query, "deadline_s", 0.0, math.inf)
    if len(agent) > AGENT_MOST:
        raise Refused(f"the agent's name has {len(agent):,} signs: allowed {AGENT_MOST:,}", 400)
    # JSON may carry halves of characters, which no log, store or answer could hold.
    agent = agent.encode("utf-8", "replace").decode()
    text, source = asked_text(messages)
    return Query(
        text=text,
        reading=Reading(source, "whole", 0, len(text), len(text)),
        agent=agent,
        input_tokens=prompt_tokens(messages, query.tools),
        max_output_tokens=_output_tokens(query.max_new_tokens),
        allowed=allowed or None,
        needs=_needs(query),
        floor=_hint(query, "floor", 0.0, 1.0),
        max_cost=_hint(query, "max_cost", 0.0, 1e6),
        private=_private(query),
        priority=int(_hint(query, "priority", -1000, 1000) or 0),
        deadline=None if deadline_s is None else now + deadline_s,
        arrived=now,
    )


def last_user_text(messages: Sequence[Any]) -> str:
    """What a user said last: the last user message, else the last with any text."""
    turns = [m for m in reversed(messages) if isinstance(m, Mapping)]
    users = [m for m in turns if m.get("role") == "user"]
    return next((text for m in users + turns if (text := text_of(m.get("content")))), "")


def conversation(agent: str, messages: Sequence[Any]) -> str | None:
    """Key of the conversation so far: the messages before the last assistant or tool turns.

    That is what the previous call of the conversation consisted of, so it equals `turn` of that
    call. None for an opening call.
    """
    end = len(messages)
    while end and not _is_reply(messages[end - 1]):
        end -= 1
    while end and _is_reply(messages[end - 1]):
        end -= 1
        if messages[end].get("role") == "assistant":
            break
    return turn(agent, messages[:end]) if end else None


def turn(agent: str, messages: Sequence[Any]) -> str:
    """Key of a whole call, under which its model is remembered for the next turn. Never text."""
    whole = written([agent, *messages], sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def lot_of(agent: str, messages: Sequence[Any]) -> float:
    """A conversation's own number, 0..1, by how it opened: equal for all its calls, everywhere."""
    replies = (i for i, message in enumerate(messages) if _is_reply(message))
    opening = messages[: next(replies, len(messages))]
    return int(turn(agent, opening), 16) / 16**32


def _is_reply(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("assistant", "tool")


def _needs(query: Any) -> frozenset[Ability]:
    needs: set[Ability] = set()
    if query.tools:
        needs.add("tools")
    if query.message_return_type == "json" or query.response_format:
        needs.add("json")
    if any(images(message) for message in query.messages):
        needs.add("vision")
    return frozenset(needs)


def _output_tokens(asked: object) -> int | None:
    if asked is None:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or not 1 <= asked <= MOST_TOKENS:
        # It would spoil the decision for all that are decided with it.
        raise Refused(f"max_new_tokens = {str(asked)[:20]}: allowed 1 to {MOST_TOKENS}", 400)
    return asked


def _hint(query: Any, key: str, low: float, high: float) -> float | None:
    """A number from the `eccos` part of any `llms` entry."""
    for value in _hints(query, key):
        number = _number(value)
        if number is None or not low <= number <= high:
            raise Refused(f"hint {key} = {value!r:.60}: allowed {low:g} to {high:g}", 400)
        return number
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # of 309 digits and more
        return None


def _private(query: Any) -> bool:
    """Whether any hint wants the call private; none can make one public whose agent is private."""
    wanted = list(_hints(query, "private"))
    wrong = [value for value in wanted if not isinstance(value, bool)]
    if wrong:
        raise Refused(f"hint private = {wrong[0]!r:.60}: allowed true and false", 400)
    return any(wanted)


def _hints(query: Any, key: str) -> Iterator[Any]:
    """What the `eccos` parts of the `llms` entries say of a key."""
    for entry in query.llms or ():
        hints = entry.get("eccos") if isinstance(entry, Mapping) else None
        if hints is not None and not isinstance(hints, Mapping):
            raise Refused("the eccos part of an llms entry must be a mapping of hints", 400)
        for name in islice(hints or (), len(HINTS)):
            meant = misspelt(name, HINTS)
            if meant is not None:  # a `privat` call would go out
                raise Refused(f"hint {name!r:.60} is unknown; did you mean {meant!r}?", 400)
        if hints and hints.get(key) is not None:
            yield hints[key]
