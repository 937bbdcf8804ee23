"""Question: what is asked, and what a right answer is. One JSON object a line.

    {"id": "k-01", "task": "knowledge", "question": "...", "grader": "choice",
     "choices": ["Paris", "Rome"], "answer": "A"}

Optional: `choices` (grader choice: two to ten texts), `aliases` (grader exact: more right
answers), `tolerance` (grader numeric: largest absolute difference). For grader json `answer` is a
JSON Schema. An unknown or missing key, a repeated id or an answer that its grader cannot use stops
the reading: a file that is half understood would be paid for and graded wrongly.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
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
    """One question with its reference answer.

    Attributes:
        id: unique over all files of a run.
        task: label for reports.
        answer: the reference as text; a letter for grader choice.
        schema: the JSON Schema, for grader json (`answer` is then empty).
    """

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
    """Read question files in order.

    Raises:
        DataError: unreadable file, malformed line (named) or an id that stands twice.
    """
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
    _require_math(questions.values())
    return list(questions.values())


def parse_question(row: object) -> Question:
    """One question from its JSON object.

    Raises:
        ValueError: says which key is wrong and what is wanted.
    """
    if not isinstance(row, dict):
        raise ValueError("wanted a JSON object")
    _check_keys(row)
    grader = row["grader"]
    if grader not in GRADERS:
        raise ValueError(f"grader = {grader!r}: wanted one of {', '.join(GRADERS)}")
    for key in ("id", "task", "question"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise ValueError(f"{key}: wanted a text")
    choices, aliases = _texts(row, "choices"), _texts(row, "aliases")
    answer, schema = row["answer"], None
    if grader == "json":
        answer, schema = "", _schema(answer)
    elif isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError("answer: wanted a text or a number")
    answer = str(answer)
    if grader != "json" and not answer.strip():
        raise ValueError("answer: empty")
    if grader == "choice":
        answer = _letter(answer, choices)
    elif choices:
        raise ValueError(f"choices: only for grader choice, not {grader}")
    if grader == "numeric" and parse_whole(answer) is None:
        raise ValueError(f"answer = {answer!r}: wanted a number")
    tolerance = row.get("tolerance")
    if tolerance is not None and (not isinstance(tolerance, int | float) or tolerance < 0):
        raise ValueError("tolerance: wanted a number of at least 0")
    return Question(
        id=row["id"],
        task=row["task"],
        question=row["question"],
        answer=answer,
        grader=grader,
        choices=choices,
        aliases=aliases,
        tolerance=tolerance,
        schema=schema,
    )


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


def _letter(answer: str, choices: tuple[str, ...]) -> str:
    if not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"choices: wanted 2 to {len(LETTERS)} for grader choice")
    if len(set(choices)) < len(choices):
        raise ValueError("choices: two are the same")
    if answer in choices:
        return LETTERS[choices.index(answer)]
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
    if any(not str(reference).startswith("#") for reference in _references(schema)):
        raise ValueError("answer: a $ref may only lead to a place within the schema")
    return schema


def _references(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _require_math(questions: Iterable[Question]) -> None:
    needy = [q.id for q in questions if q.grader == "math"]
    if needy and importlib.util.find_spec("math_verify") is None:
        raise DataError(
            f"question {needy[0]!r} has grader math, which needs math-verify; install it with "
            "pip install 'aios-eccos[collect]'"
        )
