"""Question: what is asked, and what a right answer is. One JSON object a line.

    {"id": "k-01", "task": "knowledge", "question": "...", "grader": "choice",
     "choices": ["Paris", "Rome"], "answer": "A"}

Optional: `choices` (grader choice: two to ten), `aliases` (exact: more right answers), `tolerance`
(numeric: largest absolute difference). For grader json `answer` is a JSON Schema. What is wrong in
any line stops the reading: a file that is half understood would be paid for and graded wrongly.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from aios_eccos.collect.choices import LETTERS
from aios_eccos.collect.numbers import parse_whole
from aios_eccos.errors import DataError

Grader = Literal["choice", "numeric", "math", "exact", "json", "judge"]
GRADERS: tuple[Grader, ...] = get_args(Grader)
SHIPPED = Path(__file__).parent.parent / "data" / "questions.jsonl"

_REQUIRED = ("id", "task", "question", "answer", "grader")
_OPTIONAL = ("choices", "aliases", "tolerance")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its reference answer: a letter for grader choice, `schema` for json."""

    id: str
    task: str
    question: str
    answer: str
    grader: Grader
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    tolerance: float | None = None
    schema: Any = None

    @property
    def query(self) -> str:
        """The question as an agent would send it: without instructions, with the choices."""
        lines = [f"{LETTERS[i]}. {text}" for i, text in enumerate(self.choices)]
        return "\n".join([self.question, *lines])


def load_questions(paths: Sequence[Path]) -> list[Question]:
    """Read question files in order; DataError names the file and line that is wrong."""
    questions: dict[str, Question] = {}
    for path in paths:
        try:
            # Texts may hold U+2028 and others that splitlines() would split at.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read: {error}", source=str(path)) from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                question = parse_question(json.loads(line))
                if question.id in questions:
                    raise ValueError(f"id {question.id!r} stands twice")
            except (ValueError, RecursionError) as error:
                raise DataError(str(error), source=str(path), line=number) from error
            questions[question.id] = question
    if not questions:
        raise DataError("no questions", source=", ".join(map(str, paths)))
    if not importlib.util.find_spec("math_verify"):
        needy = next((q.id for q in questions.values() if q.grader == "math"), None)
        if needy:
            raise DataError(f"question {needy!r} has grader math: pip install math-verify")
    return list(questions.values())


def parse_question(row: object) -> Question:
    """One question from its JSON object; ValueError says which key is wrong and what is wanted."""
    if not isinstance(row, dict):
        raise ValueError("wanted a JSON object")
    _check_keys(row)
    grader, answer, tolerance = row["grader"], row["answer"], row.get("tolerance")
    if grader not in GRADERS:
        raise ValueError(f"grader = {grader!r}: wanted one of {', '.join(GRADERS)}")
    for key in ("id", "task", "question"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise ValueError(f"{key}: wanted a text")
    choices, aliases = _texts(row, "choices"), _texts(row, "aliases")
    if choices and grader != "choice":
        raise ValueError(f"choices: only for grader choice, not {grader}")
    if tolerance is not None and (not isinstance(tolerance, int | float) or tolerance < 0):
        raise ValueError("tolerance: wanted a number of at least 0")
    schema = _schema(answer) if grader == "json" else None
    answer = "" if grader == "json" else _reference(grader, answer, choices)
    texts = (row["id"], row["task"], row["question"], answer)
    return Question(*texts, grader, choices, aliases, tolerance, schema)


def _check_keys(row: Mapping[str, Any]) -> None:
    for key in _REQUIRED:
        if key not in row:
            raise ValueError(f"{key}: missing")
    for key in row:
        if key not in _REQUIRED + _OPTIONAL:
            near = difflib.get_close_matches(key, _REQUIRED + _OPTIONAL, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{key}: unknown key{hint}")


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError(f"{key}: wanted a list of texts")
    return tuple(value)


def _reference(grader: str, given: object, choices: tuple[str, ...]) -> str:
    """The right answer as text, a letter for grader choice."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError("answer: wanted a text or a number")
    answer = str(given)
    if not answer.strip():
        raise ValueError("answer: empty")
    if grader == "numeric" and parse_whole(answer) is None:
        raise ValueError(f"answer = {answer!r}: wanted a number")
    if grader != "choice":
        return answer
    if not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"choices: wanted 2 to {len(LETTERS)} for grader choice")
    if len(set(choices)) < len(choices):
        raise ValueError("choices: two are the same")
    answer = LETTERS[choices.index(answer)] if answer in choices else answer
    if len(answer) != 1 or answer not in LETTERS[: len(choices)]:
        raise ValueError(f"answer = {answer!r}: wanted a letter or the text of one of the choices")
    return answer


def _schema(schema: object) -> object:
    """Check the schema itself; references out of the schema would be fetched from the network."""
    import jsonschema

    if not isinstance(schema, dict | bool):
        raise ValueError("answer: wanted a JSON Schema for grader json")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"answer: no valid JSON Schema: {error.message}") from error
    if re.search(r'"\$(?:dynamicRef|ref)": "(?!#)', json.dumps(schema)):
        raise ValueError("answer: a $ref may only lead to a place within the schema")
    return schema
