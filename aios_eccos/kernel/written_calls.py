"""Tool calls that a model has written as the text of its answer.

Small models, and servers without a parser for a model's own notation, hand a call on as text. It
is one only where the answer is nothing else, names offered tools and brings their arguments: an
agent may have asked for a text about a tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from aios_eccos.collect.extract import final_part
from aios_eccos.providers.completion import ToolCall, tool_call

#: Longer answers are no calls.
MAX_CHARS = 100_000
#: Marks of Hermes and Qwen; of Mistral, Llama and Granite, behind which nothing else stands.
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_OPENED = re.compile(r"\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>)\s*")
_FENCED = re.compile(r"(?:```|~~~)\w*\s*(.*?)\s*(?:```|~~~)\s*", re.DOTALL)
_BETWEEN = re.compile(r"[\s,;]*")
#: What a call may hold; anything else, such as a description, makes another object of it.
_KEYS = {"name", "function", "arguments", "parameters", "input", "id", "type"}
#: What a call brings its arguments under.
_GIVEN = ("arguments", "parameters", "input")


def written_calls(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls of tools of these names that an answer consists of; none where it is a text."""
    if len(text) > MAX_CHARS:
        return ()
    try:
        found = [tool_call(_part(each)) for each in _objects(final_part(text).strip())]
    except (ValueError, RecursionError):
        return ()
    return tuple(found) if all(call.name in names for call in found) else ()


def _objects(text: str) -> Iterator[Any]:
    """The JSON values that a text consists of, those of lists one by one. ValueError if not."""
    for part in _TAGGED.findall(text) or [_OPENED.sub("", text, count=1)]:
        blocks = _FENCED.findall(part)
        if blocks and _FENCED.sub("", part):
            raise ValueError("a text with blocks in it")
        for block in blocks or [part]:
            for value in _values(block):
                yield from value if isinstance(value, list) else [value]


def _values(text: str) -> Iterator[Any]:
    """JSON values one after the other, as some models write calls that go together."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        value, end = decoder.raw_decode(text, place)
        yield value
        between = _BETWEEN.match(text, end)
        place = between.end() if between else end


def _part(value: Any) -> Mapping[str, Any]:
    """A call as OpenAI's clients give it, from what models write; ValueError if it is none."""
    inner = value.get("function") if isinstance(value, dict) else None
    call = inner if isinstance(inner, dict) else value
    if not isinstance(call, dict) or not {*call} | {*value} <= _KEYS:
        raise ValueError("no call")
    given = [call[key] for key in _GIVEN if key in call]
    if len(given) != 1 or (isinstance(given[0], dict) and {"type", "properties"} <= {*given[0]}):
        raise ValueError("no arguments, or a tool's own schema")
    name = call.get("name", inner)
    return {"name": name, "arguments": given[0], "id": value.get("id")}
