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
#: The marks of Hermes and Qwen around a call. Behind a quotation mark one is spoken of.
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_QUOTES = tuple("`\"'“‘«")
#: How an answer begins that has no such marks, but perhaps arguments that hold some.
_PLAIN = ("{", "[{", "```", "~~~")
#: Marks of Mistral, Llama and Granite, behind which nothing but calls stands.
_OPENED = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>)\s*")
#: Between calls, and around them; matches in time linear in the text.
_BETWEEN = re.compile(r"(?:[\s,;]|(?:```|~~~)\w*)*")
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
    for part in _parts(text):
        for value in _values(part):
            yield from value if isinstance(value, list) else [value]


def _parts(text: str) -> Iterator[str]:
    """What must be calls: what stands between marks, else all. ValueError if marks are spoken of.

    Words may stand before the marks of Hermes, as models think aloud, but none behind them.
    """
    words, *tagged = [text] if text.startswith(_PLAIN) else text.split(_OPEN)
    if not tagged:
        mark = _OPENED.match(words)
        yield words[mark.end() :] if mark else words
    elif words.endswith(_QUOTES) or (words.count("```") + words.count("~~~")) % 2:
        raise ValueError("a text about calls")
    for part in tagged:
        inner, _, behind = part.partition(_CLOSE)
        if behind.strip():
            raise ValueError("a text with calls in it")
        yield inner


def _values(text: str) -> Iterator[Any]:
    """JSON values one after the other, as some models write calls that go together."""
    decoder, place = json.JSONDecoder(), 0
    while (place := _past(text, place)) < len(text):
        value, place = decoder.raw_decode(text, place)
        yield value


def _past(text: str, place: int) -> int:
    between = _BETWEEN.match(text, place)
    return between.end() if between else place


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
