"""Reply: what came back from a model, read from the body of an OpenAI chat completion.

Three kinds. `ok` is an answer to grade. `truncated` was cut off by its token limit, or is empty
because the thoughts before it used the tokens: a missing outcome that was paid for. `error` is no
answer at all. Neither of the last two is ever wrong.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aios_eccos.collect.extract import split_thinking
from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed.embedding import find_embedder

log = logging.getLogger("aios_eccos.collect.reply")

Status = Literal["ok", "truncated", "error"]
#: Where token counts come from; "characters" is a quarter of the text's length.
Counted = Literal["usage", "tokenizer", "characters", ""]
#: Characters of an answer that are kept; no answer worth grading is longer.
MAX_CONTENT = 2_000_000
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """One model's reply to one prompt.

    Attributes:
        content: the answer without thoughts.
        error: short reason where there is no whole answer ("429", "timeout", "truncated", ...).
        input_tokens, output_tokens: as billed; output includes reasoning, input includes cached.
        reasoning_tokens, cached_tokens: the parts that the provider tells apart.
        tokens_from: who counted.
        latency_s: the last attempt's time, without earlier attempts and waits.
        attempts: requests sent.
    """

    status: Status
    content: str = ""
    error: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    tokens_from: Counted = ""
    latency_s: float = 0.0
    attempts: int = 1


def read_reply(body: object, prompt: str) -> Reply:
    """Read a completion's body.

    Raises:
        ValueError: it is no completion: no choice, or no text and no thoughts.
    """
    if not isinstance(body, Mapping):
        raise ValueError("no JSON object")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise ValueError("no choices")
    message = choices[0].get("message")
    message = message if isinstance(message, Mapping) else {}
    finish = choices[0].get("finish_reason")
    text = message.get("content")
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    inline, content = split_thinking(text[:MAX_CONTENT] if isinstance(text, str) else "")
    thoughts = f"{thoughts}{inline}"
    used = _usage(body.get("usage"), prompt, thoughts + content)
    thought = bool(thoughts) or used["reasoning_tokens"] > 0
    if finish == "content_filter":
        return Reply("error", content, "content_filter", **used)
    if finish == "length" or (thought and not content.strip()):
        return Reply("truncated", content, "truncated", **used)
    if not isinstance(text, str):
        raise ValueError("no content")
    return Reply("ok", content, **used)


def _usage(usage: object, prompt: str, written: str) -> dict[str, Any]:
    """Token counts from the provider's usage, else counted here."""
    if not isinstance(usage, Mapping) or not _whole(usage.get("prompt_tokens")):
        count, by = counter()
        return {
            "input_tokens": count(prompt),
            "output_tokens": count(written),
            "tokens_from": by,
        } | {
            "reasoning_tokens": 0,
            "cached_tokens": 0,
        }
    output, prompted = usage.get("completion_tokens_details"), usage.get("prompt_tokens_details")
    return {
        "input_tokens": _whole(usage.get("prompt_tokens")),
        "output_tokens": _whole(usage.get("completion_tokens")),
        "reasoning_tokens": _part(output, "reasoning_tokens"),
        "cached_tokens": _part(prompted, "cached_tokens"),
        "tokens_from": "usage",
    }


def _part(details: object, name: str) -> int:
    return _whole(details.get(name)) if isinstance(details, Mapping) else 0


def _whole(value: object) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


@functools.lru_cache(maxsize=1)
def counter() -> tuple[Callable[[str], int], Counted]:
    """Counts tokens where a provider does not: by the embedder's tokenizer, else by length."""
    from tokenizers import Tokenizer

    try:
        file = find_embedder().path / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else None
    except EmbedderError:
        tokenizer = None
    if tokenizer is None:
        log.warning(
            "no tokenizer on this machine; tokens without usage are a quarter of the length"
        )
        return lambda text: -(-len(text) // CHARACTERS_PER_TOKEN), "characters"
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), "tokenizer"
