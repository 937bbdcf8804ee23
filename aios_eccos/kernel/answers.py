"""What a model's client returned, in AIOS's form; what failed, in words for the agent."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from aios_eccos.errors import hide
from aios_eccos.providers.completion import Completion
from aios_eccos.providers.completion import read as read_completion
from aios_eccos.providers.failures import INVALID, Broken, failure_of
from aios_eccos.providers.wire import clean
from aios_eccos.records import Signals
from aios_eccos.values import Failure

__all__ = ["explain", "failure_of", "offered", "read", "wire_tools"]

#: Longest piece of a provider's own words that goes to the agent, characters.
QUOTE = 300
#: Statuses whose text may name the key.
_SECRET = (401, 403)
TRUNCATED = Failure("truncated", 502, retryable=False, rests=False)


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
    """The first choice's text and tool calls, these by the agent's names; its tokens are counted.

    Args:
        names: names of the offered tools, as `wire_tools` gives them; None = none were offered.

    Raises:
        Broken: there is no choice, nothing in it, or a tool call that cannot be read.
        StatusError: it carries a server's error.
    """
    found = read_completion(response)
    truncated = found.truncated
    if names is None:
        found = replace(found, calls=())
    if found.calls is None:
        seen = Signals(tool_calls=False, truncated=truncated, empty=False)
        raise Broken(replace(INVALID, reason="invalid tool call"), found.usage, seen)
    if not found.text and not found.calls:
        # A reasoning model that used its whole allowance would do so again.
        nothing = TRUNCATED if truncated else replace(INVALID, reason="empty answer")
        raise Broken(nothing, found.usage, Signals(truncated=truncated, empty=True))
    known = names or {}
    calls = (
        replace(call, name=known.get(call.name, call.name.replace("__", "/")))
        for call in found.calls
    )
    return replace(found, text=found.text or None, calls=tuple(calls)).counted(None)


def explain(failure: Failure, model: str | None, error: BaseException | None = None) -> str:
    """The error text for the agent: what failed and where, with the provider's words if safe."""
    where = f"model '{model}'" if model else "aios-eccos"
    text = f"LLM error with {where}: {failure.reason}"
    told = failure.refused or (
        400 <= failure.status_code < 500 and failure.status_code not in _SECRET
    )
    if error is None or not told:
        return text
    words = str(error.__cause__ or "") if isinstance(error, Broken) else str(error)
    return f"{text}: {hide(clean(words))[:QUOTE]}" if words else text
