"""Reply: what came back from a model, and how it stands in the data set."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aios_eccos import files
from aios_eccos.collect.extract import split_thinking
from aios_eccos.collect.questions import Question
from aios_eccos.errors import DataError
from aios_eccos.providers.completion import read
from aios_eccos.providers.failures import INVALID, Broken
from aios_eccos.providers.tokens import Counter, estimated
from aios_eccos.providers.usage import Usage
from aios_eccos.values import Failure
from aios_eccos.verdicts.normal import normal_form

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
    """One model's reply to one prompt; `content` is the answer without thoughts.

    Attributes:
        error: short reason where there is no whole answer ("429", "timeout", "truncated", ...).
        input_tokens, output_tokens: as billed; output includes reasoning, input includes cached.
        latency_s: the last attempt's time, without earlier attempts and waits.
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


def read_reply(body: object, request: Mapping[str, Any]) -> Reply:
    """Read the body of the completion that a request of one message brought.

    Broken or StatusError if it is none, or a server's error.
    """
    found = read(body, request).counted(request["messages"][0]["content"])
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


@dataclass(frozen=True, slots=True)
class GradedReply:
    """A reply to a question; `correct` is None where nothing could be graded."""

    reply: Reply
    correct: bool | None = None


def row_of(question: Question, replies: Mapping[str, GradedReply]) -> dict[str, Any]:
    """The QAServe row; models in the order of `replies`."""
    lengths = [g.reply.input_tokens for g in replies.values() if g.reply.input_tokens]
    return {
        "query_id": question.id,
        "task": question.task,
        "query": question.query,
        "input_token_length": (
            statistics.median_low(lengths) if lengths else estimated(question.query)
        ),
        "outputs": [_output(name, graded) for name, graded in replies.items()],
    }


def _output(name: str, graded: GradedReply) -> dict[str, Any]:
    reply = graded.reply
    output: dict[str, Any] = {
        "model_name": name,
        "correctness": graded.correct,
        "output_token_length": reply.output_tokens if reply.tokens_from else None,
    }
    if reply.tokens_from:
        output["input_token_length"] = reply.input_tokens
    if reply.tokens_from not in ("usage", ""):
        output["tokens_from"] = reply.tokens_from
    for name in ("reasoning_tokens", "cached_tokens"):
        if getattr(reply, name):
            output[name] = getattr(reply, name)
    if reply.error:
        output["error"] = reply.error
    elif (form := normal_form(reply.content)) is not None:
        output["answer"] = form
    return output


class RowFile:
    """The data set on disk: rows are appended as they come, and put in order at the end.

    What the file held is replaced: a resumed run makes its rows anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replace(())

    def append(self, row: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a+b", buffering=0) as file:
                files.append(file, json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise self._failed(error) from error

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        try:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            files.write(self.path, lines, mode=0o644, synced=True)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DataError:
        return DataError(error.strerror or str(error), source=str(self.path))
