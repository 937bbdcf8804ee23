"""What an answer shows of itself, as `records.Signals`. Nobody's verdict, never taken for one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aios_eccos.records import Signals

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}


def signals_of(
    query: Any,
    offered: Mapping[str, object],
    text: str | None,
    calls: Sequence[Mapping[str, Any]] | None,
    truncated: bool | None,
) -> Signals:
    """The signals of a usable answer.

    Args:
        query: AIOS's LLMQuery.
        offered: the tools' schemas of parameters, by the names that the agent knows.
        calls: the tool calls of the answer, in AIOS's form.
        truncated: whether it ends at its token limit, None where the server does not say.
    """
    asked = query.message_return_type == "json" or bool(query.response_format)
    return Signals(
        valid_json=_valid(text, _schema(query.response_format)) if asked and text else None,
        tool_calls=all(_well_formed(call, offered) for call in calls) if calls else None,
        truncated=truncated,
        empty=not text and not calls,
    )


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
