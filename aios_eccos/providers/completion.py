"""An answer of a chat completion, in every shape in which servers give it.

`read` never fails on a shape: what it cannot make out is missing; an error in it is raised.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from aios_eccos.providers.failures import FILTERED, INVALID, Broken, raise_error
from aios_eccos.providers.tokens import Counter, counted
from aios_eccos.providers.usage import Usage, read_usage
from aios_eccos.providers.wire import clean, cleaned, mapping, strict_json

#: Why an answer ends: by itself, at its token limit, held back by a filter, or broken off.
Finish = Literal["stop", "length", "filter", "error"]
#: Words for that in lower case, of OpenAI, Anthropic, Bedrock, Gemini, Mistral, Cohere, Ollama,
#: TGI, OpenRouter, vLLM, SGLang, DeepSeek and Zhipu; every other word is a `stop`.
_WORDS: Mapping[Finish, str] = {
    "length": "length max_tokens max_output_tokens max_new_tokens max_length model_length"
    " token_limit model_context_window_exceeded incomplete truncated",
    "filter": "content_filter content_filtered guardrail_intervened safety image_safety recitation"
    " prohibited_content blocklist spii language refusal sensitive error_toxic",
    "error": "error abort malformed_function_call unexpected_tool_call insufficient_system_resource"
    " network_error cancelled failed timeout",
}
FINISHES = {word: finish for finish, words in _WORDS.items() for word in words.split()}
#: Types of parts that are thoughts, and those that are calls of tools.
_THOUGHTS = ("thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text")
_CALLS = ("tool_use", "tool_call", "function_call", "function")
_THOUGHT_KEYS = ("thinking", "text", "reasoning", "summary")
_TEXT_KEYS = ("text", "refusal", "content", "value")
#: A text of JSON may be encoded in a text of JSON, and that once more.
_ENCODED_MOST = 3


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called; its name is the model's, not yet the agent's."""

    name: str
    parameters: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of an answer.

    None stands for no text at all, calls of which one cannot be read, and an end that is not told.
    Of a reasoning model, `thoughts` are what its server tells apart. `counted_by` counted what the
    server did not; None = it counts all that is known.
    """

    text: str | None
    thoughts: str
    calls: tuple[ToolCall, ...] | None
    finish: Finish | None
    usage: Usage
    counted_by: Counter | None = None

    @property
    def truncated(self) -> bool | None:
        return None if self.finish is None else self.finish == "length"

    @property
    def input_tokens(self) -> int | None:
        return self.usage.input

    @property
    def output_tokens(self) -> int | None:
        return self.usage.output

    def counted(self, prompt: str | None) -> Completion:
        """The same with the tokens that the server does not count; `prompt` None = not its own."""
        usage, by = self.usage, self.counted_by
        if usage.output is None:
            calls = "".join(c.name + json.dumps(c.parameters) for c in self.calls or ())
            output, by = counted(f"{self.thoughts}{self.text or ''}{calls}")
            usage = replace(usage, output=output)
        if usage.input is None and prompt is not None:
            tokens, by = counted(prompt)
            usage = replace(usage, input=tokens)
        return replace(self, usage=usage, counted_by=by)


def read(body: object, request: Mapping[str, Any] | None = None) -> Completion:
    """Read a completion: the body itself, or the object that a client made of it.

    `request` is what it answers: counts that it cannot have are left out. Raises `Broken` where
    there is no choice in it, or that was broken off; `StatusError` where it carries a server's
    error.
    """
    dump = getattr(body, "model_dump", None)
    # Servers give other types than the client's classes say, which it lets pass with a warning.
    found = mapping(dump(warnings=False) if dump is not None else body)
    raise_error(found)
    usage = read_usage(found, request)
    choices = found.get("choices")
    listed = choices if isinstance(choices, list) else []
    choice = next((each for each in listed if isinstance(each, Mapping)), None)
    if choice is None:
        reason = "empty choices" if "choices" in found else "invalid answer"
        raise Broken(replace(INVALID, reason=reason), usage)
    raise_error(choice)
    finish = _finish(choice)
    if finish == "filter":
        raise Broken(FILTERED, usage)
    if finish == "error":
        raise Broken(replace(INVALID, reason="answer broken off"), usage)
    message = mapping(choice.get("message"))
    content = message.get("content", choice.get("text"))
    text, thoughts = _texts(content)
    refusal = message.get("refusal")
    if not text and isinstance(refusal, str):
        text = refusal
    beside = [message.get(key) for key in ("reasoning_content", "reasoning", "thinking")]
    thoughts += next((part for part in beside if isinstance(part, str)), "")
    return Completion(
        text=None if text is None else clean(text),
        thoughts=clean(thoughts),
        calls=_calls(message),
        finish=finish,
        usage=usage,
    )


def _finish(choice: Mapping[str, Any]) -> Finish | None:
    # OpenRouter tells the provider's own word beside its own; vLLM's `stop_reason` is a text.
    keys = ("finish_reason", "native_finish_reason")
    if not choice.get("finish_reason"):
        keys = ("finishReason", "stop_reason")
    words = [word for key in keys if isinstance(word := choice.get(key), str) and word]
    plain = [word.rpartition(".")[2].strip().lower().replace("-", "_") for word in words]
    known: Finish = next((FINISHES[word] for word in plain if word in FINISHES), "stop")
    return known if words else None


def _texts(content: object) -> tuple[str | None, str]:
    """Text and thoughts of a message's content: a text, a part, or a list of parts."""
    if content is None or isinstance(content, str):
        return content, ""
    if isinstance(content, list):
        found = [_texts(part) for part in content]
        texts = [text for text, _ in found if text is not None]
        return "".join(texts) if texts else None, "".join(thoughts for _, thoughts in found)
    if not isinstance(content, Mapping):
        return str(content), ""
    kind, inside = content.get("type"), content.get("parts")
    if isinstance(inside, list):
        return _texts(inside)
    if kind in _CALLS:
        return None, ""
    if kind in _THOUGHTS or content.get("thought"):
        return None, "".join(text or "" for text in _texts(_first(content, _THOUGHT_KEYS)))
    said = _first(content, _TEXT_KEYS)
    if said is None and kind is None:
        return json.dumps(content), ""  # an answer in JSON, parsed
    return _texts(said)


def _first(part: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((part[key] for key in keys if part.get(key)), None)


def _calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...] | None:
    calls, old, content = (message.get(key) for key in ("tool_calls", "function_call", "content"))
    parts = [mapping(call) for call in (calls if isinstance(calls, list) else ())]
    parts += [old] if isinstance(old, Mapping) else []
    inside = map(mapping, content if isinstance(content, list) else ())
    parts += [part for part in inside if part.get("type") in _CALLS]
    try:
        return tuple(map(tool_call, parts))
    except ValueError:
        return None


def tool_call(part: Mapping[str, Any]) -> ToolCall:
    """One call, from a part of a message; a ValueError if it has no name, or other arguments."""
    function = mapping(part.get("function")) or part
    name, given = function.get("name"), function.get("arguments", function.get("input"))
    for _ in range(_ENCODED_MOST):
        if not isinstance(given, str):
            break
        given = strict_json(given) if given.strip() else None
    # Nothing, in the words of some languages.
    parameters = {} if given is None or given == [] else cleaned(given)
    if not isinstance(name, str) or not name or not isinstance(parameters, dict):
        raise ValueError("a call without a name, or with other arguments than an object")
    identity = part.get("id") or part.get("call_id")
    return ToolCall(clean(name), parameters, clean(str(identity or uuid.uuid4())))
