"""Whether an answer is right: one pure function per grader, in a table.

They never raise on an answer, but some may take long or much memory on a hostile one; `sandbox`
bounds both.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn

from aios_eccos.collect.extract import TAIL, WRAPPED, candidates, split_thinking
from aios_eccos.collect.maths import equal
from aios_eccos.collect.numbers import Number, numbers_in, parse_whole, plain, same
from aios_eccos.collect.questions import LETTERS, Question

#: Longer answers are no JSON that anybody asked for.
MAX_JSON = 1_000_000
#: Characters at the end that may hold the last number of an answer without a final phrase.
LAST_NUMBER = 2_000

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
#: What makes another number of a number; as private characters they outlast `_norm`.
_KEPT = re.compile(r"(?<=\d)\.(?=\d)|(?<![\w-])-(?=\d)")
#: `B)`, `(b)`, `B. ...`, or nothing but the letter.
_LABEL = re.compile(r"\(([A-Ja-j])\)|([A-Ja-j])\)|([A-J])[.:](?=\s|$)|\[?([A-Ja-j])[\].]?$")
#: A letter that begins an answer, but no word and no sentence ("A good ...", "I think ...").
_FIRST_LETTER = re.compile(r"(?:(?i:option|choice)\s+)?\(?([A-J])(?![\w'’])(?!\s+[a-z])")
#: The pronoun and the article are no letters of choices.
_STANDING = re.compile(r"(?<!\w)(?<!\w['’])(?:[B-HJ]|[AI](?!\s+[a-z]))(?!\w|['’]\w)")
_NEAR_NUMBER = re.compile(r"(?:[A-Za-z']+[ ,]+){0,2}[^\w\s]{0,3}\s?[-+]?[.(\\]{0,2}(?:frac)?\{?\d")
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def grade(question: Question, content: str) -> bool:
    """Whether `content`, a model's whole answer, is right; thoughts in it do not count."""
    _, answer = split_thinking(content)
    return _GRADERS[question.grader](question, answer)


def _choice(question: Question, text: str) -> bool:
    text = text.replace("**", "")
    for candidate in candidates(text):
        letter = _choice_of(question, candidate)
        if letter is not None:
            return letter == question.answer
    lines = text[-TAIL:].strip().splitlines() or [""]
    letter = _labelled(question, lines[0]) if len(lines) == 1 else None
    letter = letter or _last_letter(question, text[-TAIL:]) or _named(question, lines[-1])
    return letter == question.answer


def _choice_of(question: Question, candidate: str) -> str | None:
    """The letter that a final answer means: by a choice's text, its letter, or a mention."""
    labelled = _labelled(question, candidate)
    if labelled is not None:
        return labelled
    found = _FIRST_LETTER.match(_bare(candidate))
    if found and found[1] in LETTERS[: len(question.choices)]:
        return found[1]
    return _named(question, candidate)


def _labelled(question: Question, answer: str) -> str | None:
    """The letter of an answer that is a choice's text, or begins with a label such as `B)`."""
    answer = _bare(answer)
    known = LETTERS[: len(question.choices)]
    meant = [k for k, c in zip(known, question.choices, strict=True) if _norm(c) == _norm(answer)]
    if len(meant) == 1:
        return meant[0]
    found = _LABEL.match(answer)
    letter = next((group for group in found.groups() if group), "").upper() if found else ""
    return letter if letter and letter in known else None


def _bare(answer: str) -> str:
    return WRAPPED.sub(r"\1", answer).strip(" \t\n*_`\"'$\\")


def _last_letter(question: Question, text: str) -> str | None:
    standing = [m[0] for m in _STANDING.finditer(text)]
    known = LETTERS[: len(question.choices)]
    return next((letter for letter in reversed(standing) if letter in known), None)


def _named(question: Question, text: str) -> str | None:
    """The only choice whose text stands in `text`; of choices within each other, the longest."""
    padded = f" {_norm(text)} "
    known = zip(LETTERS, question.choices, strict=False)
    there = [(letter, _norm(c)) for letter, c in known if f" {_norm(c)} " in padded]
    longest = max((c for _, c in there), key=len, default="")
    letters = [letter for letter, c in there if c == longest]
    inside = all(c in longest for _, c in there)
    return letters[0] if longest and len(letters) == 1 and inside else None


def _numeric(question: Question, text: str) -> bool:
    wanted = parse_whole(question.answer)
    if wanted is None:
        return False
    got = _final_number(text)
    return got is not None and same(wanted, got, question.tolerance)


def _final_number(text: str) -> Number | None:
    """The first number of the final answer, after its last `=`; else the text's last number."""
    for candidate in candidates(text):
        if not _NEAR_NUMBER.match(plain(candidate).strip()):
            continue
        for part in reversed(re.split(r"=|≈|\\approx", candidate)):
            number = next(numbers_in(plain(part)), None)
            if number is not None:
                return number
    return next(iter(deque(numbers_in(plain(text[-LAST_NUMBER:])), maxlen=1)), None)


def _math(question: Question, text: str) -> bool:
    candidate = next(candidates(text), None)
    if candidate is None:
        lines = text[-TAIL:].strip().splitlines()[-3:]
        candidate = lines[-1] if lines else ""
        spans = list(_MATH.finditer("\n".join(lines)))
        if spans:
            return equal(question.answer, _span(spans[-1]))
    span = _MATH.search(candidate)
    return equal(question.answer, _span(span) if span else candidate)


def _span(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def _exact(question: Question, text: str) -> bool:
    wanted = {_norm(answer) for answer in (question.answer, *question.aliases)}
    given = [text[-TAIL:] if len(text) <= TAIL else "", next(candidates(text), "")]
    given = [WRAPPED.sub(r"\1", answer) for answer in given]
    return any(_norm(answer) in wanted for answer in given if answer.strip())


def _norm(text: str) -> str:
    """SQuAD's rules: lower case, no punctuation, no articles, single blanks.

    Beyond them, accents do not count, and a number keeps its point and its sign.
    """
    folded = unicodedata.normalize("NFKD", _KEPT.sub(_mark, text.casefold()))
    bare = "".join(
        c for c in folded if c not in string.punctuation and unicodedata.category(c)[0] not in "PM"
    )
    without = " ".join(_ARTICLES.sub(" ", bare).split())
    return without or " ".join(bare.split()) or text.strip()


def _mark(found: re.Match[str]) -> str:
    return "\ue000" if found[0] == "." else "\ue001"


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
    """The whole text, else its last fenced block: what a caller that wants JSON can use."""
    yield text.strip()
    fenced = _FENCE.findall(text)
    if fenced:
        yield fenced[-1]


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
