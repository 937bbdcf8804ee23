"""Record: a question's answers as one row in QAServe's shape.

A row holds what the models did, not how fast the machine was that day: times and costs stay in the
journal, so that a resumed run's file equals an uninterrupted one's.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aios_eccos import files
from aios_eccos.collect.questions import Question
from aios_eccos.collect.reply import Reply
from aios_eccos.errors import DataError
from aios_eccos.providers.tokens import estimated


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
    return output


class RowFile:
    """The data set on disk: rows are appended as they come, and put in order at the end.

    What the file held is replaced: a resumed run makes its rows anew.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replace(())

    def append(self, row: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
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
