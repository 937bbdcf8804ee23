"""What a model's client returned or raised, as an `Answer`. No AIOS type is needed here.

`read` takes a completion as the OpenAI and the LiteLLM client give it; `failure_of` takes whatever
they raise. Both clients use one tree of exceptions, so attributes are read, not classes.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from aios_eccos.records import Signals
from aios_eccos.values import Failure

#: Longest piece of a provider's own words that goes to the agent, characters.
QUOTE = 300
#: Longest Retry-After that is believed: a larger one would close the model for good.
RETRY_AFTER_MOST_S = 120.0
#: Statuses whose text may name the key.
_SECRET = (401, 403)
#: A server refuses the operator's key or credit, and will go on to; another model may well answer.
_OURS = (401, 402)
#: It refuses the key or the model's name, or, with some providers, this call.
_OURS_PERHAPS = (403, 404)
#: Exceptions of connections that broke off.
_BROKEN_OFF = ("RemoteProtocolError", "ReadError", "WriteError")
#: How many exceptions are looked through, each raised from the next.
MOST_WRAPPED = 12
NOTHING_SEEN = Signals()

#: Input and output tokens.
Usage: TypeAlias = tuple[int | None, int | None]


class Broken(Exception):
    """A 200 answer without anything to hand on.

    Args:
        reason: short, for the failure.
        retryable: whether another try can help.
        signals: what the answer shows all the same.
        usage: input and output tokens that it cost all the same, None where not given.
    """

    def __init__(
        self,
        reason: str,
        retryable: bool = True,
        signals: Signals = NOTHING_SEEN,
        usage: Usage = (None, None),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.signals = signals
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer: text, tool calls, or both.

    Attributes:
        tool_calls: AIOS's form, `{"name", "parameters", "id"}`; None where no tools were offered.
        truncated: None where the server does not say.
    """

    text: str | None
    tool_calls: list[dict[str, Any]] | None
    input_tokens: int | None
    output_tokens: int | None
    truncated: bool | None


def wire_tools(tools: list[Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Tools as providers accept them, and their names as the agent knows them.

    A slash is not allowed in a function's name there. The agent's own list is left alone: AIOS
    edits it in place, and a second attempt would then see other names.

    Raises:
        ValueError: an entry is no tool.
    """
    sent, names = [], {}
    for tool in deepcopy(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("every tool needs a function with a name")
        name = function["name"]
        function["name"] = name.replace("/", "__")
        names[function["name"]] = name
        sent.append({"type": "function", "function": function})
    return sent, names


def offered(
    tools: list[dict[str, Any]] | None, names: Mapping[str, str] | None
) -> dict[str, object]:
    """The tools' schemas of parameters by the agent's names, from what `wire_tools` gave."""
    functions = [tool["function"] for tool in tools or ()]
    return {(names or {})[f["name"]]: f.get("parameters") for f in functions}


def read(response: Any, names: Mapping[str, str] | None) -> Completion:
    """The first choice's text and tool calls.

    Args:
        names: names of the offered tools, as `wire_tools` gives them; None = none were offered.

    Raises:
        Broken: there is no choice, nothing in it, or a tool call that cannot be read.
    """
    counted = getattr(response, "usage", None)
    usage = getattr(counted, "prompt_tokens", None), getattr(counted, "completion_tokens", None)
    choices = getattr(response, "choices", None)
    if not choices:
        reason = "empty choices" if hasattr(response, "choices") else "invalid answer"
        raise Broken(reason, usage=usage)
    message = choices[0].message
    finish = choices[0].finish_reason
    truncated = None if finish is None else finish == "length"
    text = getattr(message, "content", None) or None
    raw_calls = getattr(message, "tool_calls", None) or []
    try:
        calls = None if names is None else [_tool_call(call, names) for call in raw_calls]
    except ValueError:
        malformed = Signals(tool_calls=False, truncated=truncated, empty=False)
        raise Broken("invalid tool call", signals=malformed, usage=usage) from None
    if text is None and not calls:
        # A reasoning model that used its whole allowance would do so again.
        nothing = Signals(truncated=truncated, empty=True)
        raise Broken("empty answer", retryable=not truncated, signals=nothing, usage=usage)
    return Completion(text, calls, *usage, truncated)


def _tool_call(call: Any, names: Mapping[str, str]) -> dict[str, Any]:
    parameters = call.function.arguments
    if isinstance(parameters, str):
        parameters = json.loads(parameters or "{}")
    sent = call.function.name or ""
    return {
        "name": names.get(sent, sent.replace("__", "/")),
        "parameters": parameters,
        "id": call.id or str(uuid.uuid4()),
    }


def failure_of(error: Exception) -> Failure:
    """A client's exception as a `Failure`: by its HTTP status, else by its class's name.

    LiteLLM makes a status 500 of whatever happened; what it wrapped tells more, unless that is a
    server's answer.
    """
    if isinstance(error, Broken):
        return Failure(error.reason, 502, error.retryable, rests=False)
    kinds = [type(wrapped).__name__ for wrapped in _wrapped(error)]
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    known = isinstance(status, int) and 400 <= status < 500 and status != 408
    if not known and "HTTPStatusError" not in kinds:
        if any("Timeout" in kind for kind in kinds):
            return Failure("timeout", 504)
        # First: LiteLLM calls that an APIConnectionError, for some providers.
        if "JSONDecode" in kinds[-1] or "Validation" in kinds[0]:
            return Failure("invalid answer", 502, rests=False)
        if any("Connect" in kind or kind in _BROKEN_OFF for kind in kinds):
            return Failure("no connection", 503)
    if not isinstance(status, int) or not 400 <= status < 600:
        return Failure(kinds[0], 500, rests=False)
    retryable = status in (408, 409, 425, 429) or status >= 500
    # LiteLLM knows no such provider, or cannot put the call into its words: no server was asked.
    unasked = status == 400 and type(error).__module__.startswith("litellm")
    unasked = unasked and "HTTPStatusError" not in kinds
    return Failure(
        str(status),
        status,
        retryable,
        _retry_after(response),
        rests=not unasked and status not in _OURS_PERHAPS,
        elsewhere=unasked or status in _OURS + _OURS_PERHAPS,
    )


def _wrapped(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it was raised from, outermost first."""
    for _ in range(MOST_WRAPPED):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def explain(failure: Failure, model: str | None, error: Exception | None = None) -> str:
    """The error text for the agent: what failed and where, with the provider's words if safe."""
    where = f"model '{model}'" if model else "aios-eccos"
    text = f"LLM error with {where}: {failure.reason}"
    if error is None or failure.status_code in _SECRET or not 400 <= failure.status_code < 500:
        return text
    return f"{text}: {str(error)[:QUOTE]}"


def _retry_after(response: Any) -> float | None:
    """Seconds of a Retry-After header; its other form, a date, is not worth a clock's skew."""
    headers = getattr(response, "headers", None)
    try:
        seconds = float(headers.get("retry-after", "")) if headers is not None else math.nan
    except (TypeError, ValueError):
        return None
    return min(seconds, RETRY_AFTER_MOST_S) if math.isfinite(seconds) and seconds >= 0 else None
