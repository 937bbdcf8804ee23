"""Whether an answer is right: one pure function per grader, in a table.

They never raise on an answer, but some may take long or much memory on a hostile one; `sandbox`
bounds both.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from aios_eccos.collect import maths
from aios_eccos.collect.choices import final_choice, words_of
from aios_eccos.collect.extract import TAIL, WRAPPED, fenced_blocks, final_part, statements
from aios_eccos.collect.numbers import (
    Number,
    SeveralAnswers,
    numbers_in,
    parse_whole,
    plain,
    read_number,
    same,
)
from aios_eccos.collect.questions import Question

#: Longer answers are no JSON that anybody asked for.
MAX_JSON = 1_000_000
#: Characters at the end that may hold the last number of an answer without a final phrase.
LAST_NUMBER = 2_000


def grade(question: Question, content: str) -> bool:
    """Whether `content`, a model's whole answer, is right; thoughts in it do not count."""
    return _GRADERS[question.grader](question, final_part(content))


def _choice(question: Question, text: str) -> bool:
    return final_choice(text, question.choices) == question.answer


def _numeric(question: Question, text: str) -> bool:
    wanted = parse_whole(question.answer)
    if wanted is None:
        return False
    for statement in statements(text):
        if statement.text is None:
            return False
        try:
            got = read_number(statement.text, last=statement.last)
        except SeveralAnswers:
            return False
        if got is not None:
            return same(wanted, got, question.tolerance)
        if maths.is_expression(statement.text):
            return maths.equal(question.answer, statement.text)
    got = _last_number(text)
    return got is not None and same(wanted, got, question.tolerance)


def _last_number(text: str) -> Number | None:
    return next(iter(deque(numbers_in(plain(text[-LAST_NUMBER:])), maxlen=1)), None)


def _math(question: Question, text: str) -> bool:
    answer = maths.final_math(text)
    return answer is not None and maths.equal(question.answer, answer)


def _exact(question: Question, text: str) -> bool:
    wanted = {words_of(answer) for answer in (question.answer, *question.aliases)}
    stated = next(statements(text), None)
    given = [text if len(text) <= TAIL else "", (stated and stated.text) or ""]
    given = [WRAPPED.sub(r"\1", answer) for answer in given]
    return any(words_of(answer) in wanted for answer in given if answer.strip())


def _json(question: Question, text: str) -> bool:
    import jsonschema
    import referencing

    if len(text) > MAX_JSON:
        return False
    # An empty registry keeps every reference from the network.
    check = jsonschema.Draft202012Validator(question.schema, registry=referencing.Registry())
    for candidate in _json_texts(text):
        try:
            return bool(check.is_valid(json.loads(candidate, parse_constant=_no_constant)))
        except (ValueError, RecursionError):
            continue
    return False


def _json_texts(text: str) -> Iterator[str]:
    """The whole text, else the last fenced block that holds JSON: what a caller can use."""
    text = text.replace("\ufeff", "")
    yield text.strip()
    yield from reversed(fenced_blocks(text))


def _no_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, JSON has neither."""
    raise ValueError(f"{name} is not JSON")


def _judge(question: Question, text: str) -> NoReturn:
    raise ValueError(f"question {question.id!r} is for a judge model, not for a function")


_GRADERS: dict[str, Callable[[Question, str], bool]] = {
    "choice": _choice,
    "numeric": _numeric,
    "math": _math,
    "exact": _exact,
    "json": _json,
    "judge": _judge,
}
