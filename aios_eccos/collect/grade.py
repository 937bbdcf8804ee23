"""Whether an answer is right: one pure function per grader, in a table.

They never raise on an answer, but some may take long or much memory on a hostile one; `sandbox`
bounds both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from aios_eccos.collect import maths
from aios_eccos.collect.choices import final_choice, words_of
from aios_eccos.collect.extract import TAIL, WRAPPED, final_json, final_part, final_text
from aios_eccos.collect.numbers import final_number, is_expression, parse_whole, same
from aios_eccos.collect.questions import Question

#: Longer answers are no JSON that anybody asked for.
MAX_JSON = 1_000_000


def grade(question: Question, content: str) -> bool:
    """Whether `content`, a model's whole answer, is right; thoughts in it do not count."""
    return _GRADERS[question.grader](question, final_part(content))


def _choice(question: Question, text: str) -> bool:
    return final_choice(text, question.choices) == question.answer


def _numeric(question: Question, text: str) -> bool:
    wanted, got = parse_whole(question.answer), final_number(text)
    if wanted is not None and got is not None:
        return same(wanted, got, question.tolerance)
    formula = final_text(text) or ""
    return is_expression(formula) and maths.equal(question.answer, formula)


def _math(question: Question, text: str) -> bool:
    answer = maths.final_math(text)
    return answer is not None and maths.equal(question.answer, answer)


def _exact(question: Question, text: str) -> bool:
    wanted = {words_of(answer) for answer in (question.answer, *question.aliases)}
    given = [text if len(text) <= TAIL else "", final_text(text) or ""]
    given = [WRAPPED.sub(r"\1", answer) for answer in given]
    return any(words_of(answer) in wanted for answer in given if answer.strip())


def _json(question: Question, text: str) -> bool:
    import jsonschema
    import referencing

    # An empty registry keeps every reference from the network.
    check = jsonschema.Draft202012Validator(question.schema, registry=referencing.Registry())
    try:
        return len(text) <= MAX_JSON and bool(check.is_valid(final_json(text)))
    except (ValueError, RecursionError):
        return False


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
