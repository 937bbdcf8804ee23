"""What a model's client returned, in AIOS's form; what failed, in words for the agent.

And what an answer shows of itself, as `records.Signals`: nobody's verdict, never taken for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from aios_eccos.errors import hide
from aios_eccos.kernel.written_calls import written_calls
from aios_eccos.observe.text import page
from aios_eccos.providers.completion import Completion
from aios_eccos.providers.completion import read as read_completion
from aios_eccos.providers.failures import INVALID, Broken, failure_of
from aios_eccos.providers.refusals import LOOKED_AT
from aios_eccos.providers.wire import clean
from aios_eccos.records import Signals
from aios_eccos.values import Failure

__all__ = ["explain", "failure_of", "fits", "offered", "read", "signals_of", "wire_tools"]

#: Longest piece of a provider's own words that goes to the agent, characters.
QUOTE = 300
#: Statuses whose text may name the key.
_SECRET = (401, 403)
TRUNCATED = Failure("truncated", 502, retryable=False, rests=False)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}


def wire_tools(tools: list[Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Tools as providers accept them, and their names as the agent knows them.

    A slash is not allowed in a function's name there. The agent's own list is left alone: AIOS
    edits it in place, and a second attempt would then see other names.
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


def read(
    response: Any, names: Mapping[str, str] | None, request: Mapping[str, Any] | None = None
) -> Completion:
    """The first choice's text and tool calls, these by the agent's names; its tokens are counted.

    `names` are as `wire_tools` gives them; None = no tools were offered. JSON that the request
    asks for is the answer, whatever it looks like. Raises as `completion.read`, and `Broken` where
    there is nothing in it, or an unreadable tool call.
    """
    found, asked = read_completion(response, request), (request or {}).get("response_format")
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
    text, made = found.text or None, found.calls
    if known and text and not made and not truncated and not (asked and _asked_for(text, asked)):
        made = written_calls(text, {*known, *known.values()})
        text = None if made else text
    calls = (
        replace(call, name=known.get(call.name, call.name.replace("__", "/"))) for call in made
    )
    return replace(found, text=text, calls=tuple(calls)).counted(None)


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
    return f"{text}: {page([hide(clean(words[:LOOKED_AT]))])[:QUOTE]}" if words else text


def signals_of(
    query: Any,
    offered: Mapping[str, object],
    text: str | None,
    calls: Sequence[Mapping[str, Any]] | None,
    truncated: bool | None,
) -> Signals:
    """The signals of a usable answer; `offered` are schemas of parameters by the agent's names."""
    asked = query.message_return_type == "json" or bool(query.response_format)
    return Signals(
        valid_json=_valid(text, _schema(query.response_format)) if asked and text else None,
        tool_calls=all(_well_formed(call, offered) for call in calls) if calls else None,
        truncated=truncated,
        empty=not text and not calls,
    )


def _asked_for(text: str, response_format: Mapping[str, Any]) -> bool:
    return response_format.get("type") != "text" and _valid(text, _schema(response_format))


def _valid(text: str, schema: object) -> bool:
    try:
        return fits(json.loads(text), schema)
    except (ValueError, RecursionError):  # no JSON, or nested past all use
        return False


def _schema(response_format: object) -> object:
    """The schema in a `response_format`; without one, JSON mode promises an object."""
    asked = response_format if isinstance(response_format, Mapping) else {}
    inner = asked.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return schema if isinstance(schema, Mapping) else {"type": "object"}


def _well_formed(call: Mapping[str, Any], offered: Mapping[str, object]) -> bool:
    name, parameters = call.get("name"), call.get("parameters")
    if not isinstance(name, str) or name not in offered or not isinstance(parameters, dict):
        return False
    try:
        return fits(parameters, offered[name])
    except RecursionError:
        return False


def fits(value: object, schema: object) -> bool:
    """Whether a value has a JSON schema's shape: type, enum, required, properties, items.

    What else a schema may say is let pass: its patterns and references could take any time, and
    this runs while an agent waits.
    """
    if not isinstance(schema, Mapping):
        return True
    kinds = schema.get("type", ())
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    known = [_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES]
    odd = isinstance(value, bool) and "boolean" not in names  # Python's booleans are integers
    if known and (odd or not any(isinstance(value, kind) for kind in known)):
        return False
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema)
    items = schema.get("items")
    return not isinstance(value, list) or all(fits(item, items) for item in value)


def _object_fits(value: Mapping[str, object], schema: Mapping[str, Any]) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    names = [n for n in required if isinstance(n, str)] if isinstance(required, list) else []
    if not all(name in value for name in names):
        return False
    known = properties if isinstance(properties, Mapping) else {}
    return all(fits(each, known.get(name)) for name, each in value.items())
