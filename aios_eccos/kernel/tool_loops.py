"""Tool loops, read off a call's messages: whether it is in one, and whether its tools are of use.

Agents write tool calls and results as OpenAI, Anthropic or AIOS's SDK do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aios_eccos.providers.tokens import text_of
from aios_eccos.providers.wire import written

#: Results in a row that are errors, or the same call's same result, and ask for a stronger model.
TROUBLE = 3
RESULT_ROLES = ("tool", "function")
#: How results begin that tell of a failure, AIOS's own ("Tool calling error: ...") among them.
_FAILED = re.compile(
    r"\W*(?!(?:no|0|zero|without)\b)(?:[\w.]+\s+){0,3}"
    r"[\w.]*(?:error|exception|traceback|failed|failure|not found|denied|timed out)"
    r"(?:\W*$|\s*[:(!\n]|\s+(?:with|to|at|on|in|while|when|after|because|code)\b)",
    re.IGNORECASE,
)
#: Characters of a result in which that is looked for, and of the longest that is read as JSON.
_BEGINNING, _READ_MOST = 200, 100_000


class Called(NamedTuple):
    """A tool call as it stands in a message; its id, "" = none."""

    id: str
    raw: Mapping[str, Any]

    @property
    def asked(self) -> str:
        """The tool and its arguments, canonically."""
        inner = self.raw.get("function")
        function = inner if isinstance(inner, Mapping) else self.raw
        keys = ("arguments", "parameters", "input")
        arguments = next((function[key] for key in keys if key in function), None)
        return written([function.get("name"), _parsed(arguments)], sort_keys=True)


class Result(NamedTuple):
    """What a tool gave, as it stands in a message; the id of its call, "" = none."""

    id: str
    raw: Mapping[str, Any]

    @property
    def text(self) -> str:
        return text_of(self.raw.get("content"))

    @property
    def failed(self) -> bool:
        """Whether it tells of a failure."""
        said = bool(self.raw.get("is_error")) or self.raw.get("status") == "error"
        return said or _tells_of_failure(self.text)


def in_tool_loop(messages: Sequence[Any]) -> bool:
    """Whether the last tool calls' results have not been answered by a model yet."""
    for message in reversed(_turns(messages)):
        if message.get("role") == "assistant":
            return bool(calls_in(message))
        if [*_results(message)]:
            return True
    return False


def first_call(messages: Sequence[Any]) -> str:
    """Id of the first of the last tool calls; "" where there is none, or it has none."""
    given = ""
    for message in reversed(_turns(messages)):
        if message.get("role") == "assistant":
            return next((call.id for call in calls_in(message)), given)
        given = next((found.id for found in _results(message)), given)
    return given


def strained(messages: Sequence[Any]) -> bool:
    """Whether the last results since the user's last word are errors, or one repeated."""
    called: dict[str, Called] = {}
    last_call: Called | None = None
    outcomes: list[tuple[Called | None, Result]] = []
    for message in _turns(messages):
        for last_call in calls_in(message) if message.get("role") == "assistant" else ():
            called[last_call.id] = last_call
        results = [*_results(message)]
        if message.get("role") == "user" and not results:
            outcomes.clear()
        outcomes += [(called.get(result.id, last_call), result) for result in results]
    last = outcomes[-TROUBLE:]
    if len(last) < TROUBLE:
        return False
    # Only of the last is read what may be long.
    if all(result.failed for _, result in last):
        return True
    same = {(call.asked if call else None, result.text) for call, result in last}
    return len(same) == 1 and last[0][0] is not None


def calls_in(message: Mapping[str, Any]) -> list[Called]:
    """The tool calls of an assistant's message, or of AIOS's answer as a mapping."""
    listed = message.get("tool_calls")
    found = [*listed] if isinstance(listed, list | tuple) else []
    if message.get("function_call"):
        found.append(message["function_call"])
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    found += [p for p in parts if isinstance(p, Mapping) and p.get("type") == "tool_use"]
    return [Called(str(c.get("id") or ""), c) for c in found if isinstance(c, Mapping)]


def _results(message: Mapping[str, Any]) -> Iterator[Result]:
    """Results of tools in a message that is no assistant's."""
    role, content = message.get("role"), message.get("content")
    if role in RESULT_ROLES:
        yield Result(str(message.get("tool_call_id") or ""), message)
        return
    for part in content if isinstance(content, list) and role != "assistant" else ():
        if isinstance(part, Mapping) and part.get("type") == "tool_result":
            yield Result(str(part.get("tool_use_id") or ""), part)


def _tells_of_failure(text: str) -> bool:
    body = _parsed(text) if len(text) <= _READ_MOST else text
    if isinstance(body, Mapping):
        told = [bool(body.get(key)) for key in ("error", "isError", "is_error", "errors")]
        return any(told) or body.get("success") is False or body.get("ok") is False
    return _FAILED.match(text[:_BEGINNING]) is not None


def _parsed(value: object) -> object:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        found: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found


def _turns(messages: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [message for message in messages if isinstance(message, Mapping)]
