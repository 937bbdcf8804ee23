"""Token counts as servers name them, and what cannot be counted at all.

A server's count is a claim: it is taken where it can be true, and counted here where it cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from aios_eccos.providers.wire import mapping, written

log = logging.getLogger("aios_eccos.providers.usage")

#: Most tokens of one prompt or answer that are believed.
MOST_TOKENS = 10_000_000
#: Most tokens that servers add to what they are sent: instructions, tools, examples.
MOST_ADDED = 32_768
#: Tokens of an hour of video, the longest that a part of a message which is no text may stand for.
PART_TOKENS = 2**20
#: Longest answer of public models, and their longest thoughts: some servers count these beside the
#: limit that a request sets.
LONGEST = 131_072

#: Where the counts stand in an answer: OpenAI's and LiteLLM's, Gemini's, Cohere's, and Groq's
#: (beside its chunks); Ollama's own stand in the answer itself.
_PLACES = ("usage", "usageMetadata", "usage_metadata", "meta", "x_groq.usage")
#: Names of a count; the first that can be true is taken. Those of OpenAI's two interfaces (the
#: second is Anthropic's too), Gemini, Bedrock, Ollama and Cohere.
_PROMPT = (
    "prompt_tokens input_tokens promptTokenCount prompt_token_count inputTokens prompt_eval_count"
    " tokens.input_tokens billed_units.input_tokens"
)
_OUTPUT = (
    "completion_tokens output_tokens candidatesTokenCount candidates_token_count outputTokens"
    " eval_count tokens.output_tokens billed_units.output_tokens"
)
_TOTAL = "total_tokens totalTokenCount total_token_count totalTokens"
#: Cached tokens that are part of the prompt's count (the third is DeepSeek's) ...
_CACHED = (
    "prompt_tokens_details.cached_tokens input_tokens_details.cached_tokens"
    " prompt_cache_hit_tokens cachedContentTokenCount cached_tokens"
)
#: ... and those that Anthropic and Bedrock count beside it, unless LiteLLM has added them.
_CACHED_BESIDE = "cache_read_input_tokens cacheReadInputTokens"
_WRITTEN_BESIDE = "cache_creation_input_tokens cacheWriteInputTokens"
_REASONING = (
    "completion_tokens_details.reasoning_tokens output_tokens_details.reasoning_tokens"
    " reasoning_tokens"
)
#: Gemini counts thoughts beside the answer.
_REASONING_BESIDE = "thoughtsTokenCount thoughts_token_count"

_COUNT = TypeAdapter(Annotated[int, Field(ge=0, le=MOST_TOKENS)])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request as billed; None where the server does not say, or what cannot be.

    The prompt with its cached tokens, the answer with its thoughts, and these parts of them.
    """

    input: int | None = None
    output: int | None = None
    cached: int = 0
    reasoning: int = 0


def whole(value: object) -> int | None:
    """A count that can be true: a whole number in range, also as text or as a float."""
    try:
        return None if isinstance(value, bool) else _COUNT.validate_python(value)
    except ValidationError:
        return None


def read_usage(body: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Usage:
    """The token counts in an answer's body, as far as an answer to that request can have them.

    The request is of OpenAI's form; None: it is not known. Never raises.
    """
    counted = next((found for p in _PLACES if (found := mapping(_at(body, p)))), body)
    prompt, output = _count(counted, _PROMPT), _count(counted, _OUTPUT)
    cached, beside = _count(counted, _CACHED), _count(counted, _CACHED_BESIDE)
    if prompt is not None:
        if beside and "prompt_tokens" not in counted:
            prompt += beside + (_count(counted, _WRITTEN_BESIDE) or 0)
        elif (cached or beside or 0) > prompt:
            prompt += cached or beside or 0
    thoughts = _count(counted, _REASONING_BESIDE)
    reasoning = _count(counted, _REASONING)
    if output is not None and thoughts:
        output += thoughts
    elif output is not None:
        output += _thoughts_beside(counted, prompt, output, reasoning)
    prompt, output = whole(prompt), whole(output)  # a sum may be more than can be true
    cached = min(cached or beside or 0, prompt or 0)
    reasoning = min(reasoning or thoughts or 0, output or 0)
    usage = Usage(prompt or None, output or None, cached, reasoning)
    return usage if request is None else _believed(usage, request)


def _believed(usage: Usage, request: Mapping[str, Any]) -> Usage:
    """The counts without those that no server can have reached with the request."""
    limit = request.get("max_tokens") or request.get("max_completion_tokens")
    longest = (whole(limit) or LONGEST) + LONGEST
    if (usage.output or 0) > longest:
        _doubt(request, "an answer", usage.output, longest)
        usage = replace(usage, output=None, reasoning=0)
    if (usage.input or 0) > MOST_ADDED and (usage.input or 0) > (most := _most_read(request)):
        _doubt(request, "a prompt", usage.input, most)
        usage = replace(usage, input=None, cached=0)
    return usage


def _most_read(request: Mapping[str, Any]) -> int:
    """Most tokens that a server can count for the prompt: a token is at least a byte of it."""
    sent = len(written(request).encode("utf-8", "replace"))
    messages = request.get("messages")
    turns = messages if isinstance(messages, list | tuple) else ()
    contents = (mapping(message).get("content") for message in turns)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    others = sum(not isinstance(mapping(part).get("text"), str) for part in parts)
    return MOST_ADDED + sent + others * PART_TOKENS


def _doubt(request: Mapping[str, Any], what: str, claim: int | None, most: int) -> None:
    log.warning(
        "model %s counts %s tokens of %s that can have %d at most; they are counted here instead",
        str(request.get("model"))[:100],
        claim,
        what,
        most,
    )


def _thoughts_beside(
    counted: Mapping[str, Any], prompt: int | None, output: int, reasoning: int | None
) -> int:
    """Tokens of thoughts that are not in the answer's own count.

    The total, which holds them, tells; Gemini's OpenAI interface tells them by nothing else.
    """
    total = _count(counted, _TOTAL)
    more = 0 if total is None or prompt is None else max(total - prompt - output, 0)
    if reasoning is None:
        return more if "completion_tokens" in counted else 0
    return reasoning if reasoning in (more, 0) or reasoning > output else 0


def _count(counted: Mapping[str, Any], names: str) -> int | None:
    found = (whole(_at(counted, name)) for name in names.split())
    return next((count for count in found if count is not None), None)


def _at(body: Mapping[str, Any], path: str) -> object:
    value: object = body
    for key in path.split("."):
        value = mapping(value).get(key)
    return value
