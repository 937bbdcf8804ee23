"""Reply: what came back from a model, read from the body of an OpenAI chat completion.

`ok` is an answer to grade. `truncated` was cut off by its token limit, or is empty because thoughts
used the tokens: a missing outcome that was paid for. `error` is none. These are never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aios_eccos.collect.extract import split_thinking
from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import INVALID, Broken
from aios_eccos.providers.tokens import Counter
from aios_eccos.providers.usage import Usage
from aios_eccos.values import Failure

Status = Literal["ok", "truncated", "error"]
#: Where token counts come from; "characters" is a quarter of the text's length.
Counted = Literal["usage", "tokenizer", "characters", ""]
#: Characters of an answer that are kept; no answer worth grading is longer.
MAX_CONTENT = 2_000_000
#: Reasons that a record gives in other words.
WORDS = {
    "no connection": "connection",
    "invalid answer": "malformed",
    "empty choices": "malformed",
    "content filter": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One model's reply to one prompt.

    Attributes:
        content: the answer without thoughts.
        error: short reason where there is no whole answer ("429", "timeout", "truncated", ...).
        input_tokens, output_tokens: as billed; output includes reasoning, input includes cached.
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
        Broken: it is no completion: no choice, or no text and no thoughts.
        StatusError: it carries a server's error.
    """
    found = read(body).counted(prompt)
    inline, content = split_thinking((found.text or "")[:MAX_CONTENT])
    thoughts = f"{found.thoughts}{inline}"
    used = _tokens(found.usage, found.counted_by)
    thought = bool(thoughts) or found.usage.reasoning > 0
    if found.truncated or (thought and not content.strip()):
        return Reply("truncated", content, "truncated", **used)
    if found.text is None:
        raise Broken(INVALID, found.usage)
    return Reply("ok", content, **used)


def failed_reply(failure: Failure, error: BaseException, attempts: int) -> Reply:
    """What is kept of a request that brought no answer; its tokens where it cost some all the same.

    Only what a filter holds back is told of so: whatever else is broken will be asked again.
    """
    reason = WORDS.get(failure.reason, failure.reason)
    usage = error.usage if isinstance(error, Broken) and failure.refused else None
    used = {} if usage is None or usage.output is None else _tokens(usage, None)
    return Reply("error", error=reason, attempts=attempts, **used)


def _tokens(usage: Usage, counted_by: Counter | None) -> dict[str, Any]:
    return {
        "input_tokens": usage.input or 0,
        "output_tokens": usage.output or 0,
        "reasoning_tokens": usage.reasoning,
        "cached_tokens": usage.cached,
        "tokens_from": counted_by or "usage",
    }
