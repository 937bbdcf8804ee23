"""Recorded final answers as models' texts, and a server that judges them when it is asked to."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aios_eccos.lab.replay_child import Replay, Server
from aios_eccos.records import Record

from .stream import worse

#: The judge's question: `aios_eccos.verdicts.judge`.
_COMPARISON = re.compile(
    r"\[(\w+) instruction\]\n(.*)\n\[\1 answer A\]\n(.*)\n\[\1 answer B\]\n(.*)\n\[\1 end\]",
    re.DOTALL,
)
NO_ANSWER, SPOILED = "I cannot say.", json.dumps({"answer": "another matter"})
GRADES = ("A", "B", "SAME")
CHARS_PER_TOKEN = 4


class Judge(Replay):
    """Knows the grades of all recorded answers; says a wrong one of its three grades by chance.

    Args:
        answers: to recorded questions, as `answers_of` gives them.
        error: chance of a wrong grade.

    Attributes:
        grades: correctness, 0..1, by question and answer, as they were sent.
        judged, unknown_answers: comparisons, and answers in them that it did not know.
    """

    def __init__(self, name: str, answers: dict[str, Any], error: float) -> None:
        unknown = {"content": "?", "truncated": False, "input_tokens": 1, "output_tokens": 1}
        job = {"answers": {name: answers}, "default": unknown, "seconds_per_token": 0.0}
        super().__init__(name, {**job, "retry_after_s": None, "faults": {}, "seed": 0})
        self.grades: Mapping[tuple[str, str], float] = {}
        self.judged = self.unknown_answers = 0
        self._error, self._draws = error, random.Random(0)

    def enter(self, text: str) -> tuple[int, dict[str, Any], str | None]:
        number, answer, fault = super().enter(text)
        if (asked := _COMPARISON.search(text)) is None:
            return number, answer, fault
        question = asked[2].rpartition("user: ")[2]
        with self.lock:
            said = self._grade(question, asked[3], asked[4])
        tokens = {"input_tokens": len(text) // CHARS_PER_TOKEN, "output_tokens": 1}
        return number, {"content": said, "truncated": False, **tokens}, None

    def _grade(self, question: str, first: str, second: str) -> str:
        self.judged += 1
        worth = [self.grades.get((question, answer)) for answer in (first, second)]
        self.unknown_answers += worth.count(None)
        one, other = (value or 0.0 for value in worth)
        right = "SAME" if one == other else "A" if one > other else "B"
        if self._draws.random() >= self._error:
            return right
        return self._draws.choice([grade for grade in GRADES if grade != right])


def serve(judge: Judge) -> str:
    """Serve in threads of this process until it ends; the OpenAI base URL."""
    server = Server(judge, {judge.name: judge})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def answering(
    records: Sequence[Record], answers: Mapping[str, Mapping[str, str | None]]
) -> list[Record]:
    """The records with their recorded final answers as what the models say."""

    def said(identity: str, model: str) -> str:
        answer = answers[identity][model]
        return NO_ANSWER if answer is None else json.dumps({"answer": answer}, ensure_ascii=False)

    return [
        replace(
            record,
            outcomes=tuple(
                replace(outcome, prediction=said(record.id, outcome.model))
                for outcome in record.outcomes
            ),
        )
        for record in records
    ]


def grades_of(records: Sequence[Record]) -> dict[tuple[str, str], float]:
    """Correctness by question and answer, as a judge is shown them."""
    found = {(record.text.strip(), SPOILED): 0.0 for record in records}
    return found | {
        (record.text.strip(), (outcome.prediction or "").strip()): outcome.correctness or 0.0
        for record in records
        for outcome in record.outcomes
    }


def spoiled(records: Sequence[Record], model: str) -> list[Record]:
    """The records with a model that is 30 points worse."""
    return [
        replace(
            record,
            outcomes=tuple(
                replace(outcome, prediction=outcome.prediction or SPOILED)
                for outcome in record.outcomes
            ),
        )
        for record in worse(records, model)
    ]
