"""The passage of a long text that asks, which alone is embedded and described.

An embedder reads a few hundred tokens, and agents put documents before or behind their question:
two questions behind one context would have a cosine of 1. So a long text is cut into units (a
paragraph, a labelled part, of a long paragraph its lines or sentences), each gets a score for how
much it looks like a question among the others, and the best one is read with its neighbors that
score like it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.units import APART, OTHER, QUESTION, units_of

#: Texts up to this length, in characters, are read whole; of longer ones no more is read.
LONG = 1600
#: A neighbor belongs to the question if its score lies this far from the best to the median.
BELONGS = 0.55
#: Log-odds of being the question, per feature of a unit. Fitted on 900 questions of math10, mixed4
#: and tools10 (training rows) inside made-up stories and JSON and the descriptions of Python
#: packages, with and without labels; but for the weights of labels, which are set by hand.
WEIGHTS = {
    "ends with a question mark": 1.9,
    "has a question mark": 1.0,
    "begins with a verb": 0.9,
    "says I or we": 0.7,
    "says what is wanted": 0.8,
    "labelled as a question": 4.0,
    "labelled as something else": -1.5,
    "words of no other unit": 3.3,
    "words of few units": 3.6,
    "last": 1.5,
    "first": 1.5,
    "log of its words": 1.3,
    "capitalized": 1.9,
    "begins like others": -1.3,
}

_ASKS = re.compile(r"[?？؟]")
_END_ASKS = re.compile(r"[?？؟][^\w\s]{0,3}\Z")
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|my|me|we)\b")
_WANTED = re.compile(r"(?i)\bplease\b|\?\?|\bhow (?:many|much)\b|\bfind\b|\bwhat\b")
_WORD = re.compile(r"\w+")
_CLOSED = re.compile(r"\s*</[A-Za-z][\w-]*>\s*\Z")
_VERB = re.compile(
    r"\W*(?:(?:and|then|now|for|in|to|at|can you|could you|your task is to|i need you to|"
    r"i want you to|i need to|i want to|i'd like to|you are)\W+)?(?:"
    "what which who whom whose when where why how find compute calculate determine evaluate solve "
    "prove show simplify express estimate list name give write explain describe translate "
    "summarize summarise rewrite implement complete fill choose select identify classify compare "
    "convert count answer generate create tell please help draw decide correct fix extract suggest "
    "plan design review check can could is are do does if let suppose given".replace(" ", "|")
    + r")\b",
    re.I,
)


class Passage(NamedTuple):
    """Where what is read of a text begins and ends, and by which rule.

    `whole`; `question`: the passage that asks; `beginning`, of a text without words.
    """

    start: int
    end: int
    rule: str


def gist(text: str) -> str:
    """What is read of a text."""
    start, end, _ = passage(text)
    return text[start:end]


def passage(text: str) -> Passage:
    """The text itself up to `LONG` characters; else its passage that asks, at most `LONG`."""
    if len(text) <= LONG:
        return Passage(0, len(text), "whole")
    if units := units_of(text):
        scores = _features(text, units) @ np.array([*WEIGHTS.values()])
        first, last = _around(text, units, scores)
        start, end = units[first][0], units[last][1]
        if label := QUESTION.match(text, start, end):
            start = label.end()
        asked = _CLOSED.sub("", text[start:end]).rstrip()
        if asked:
            return Passage(start, start + len(asked), "question")
    return Passage(0, LONG, "beginning")


def _features(text: str, units: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """(n, f) what the units look like, in the order of `WEIGHTS`."""
    said = [text[start:end].strip() for start, end in units]
    words = [frozenset(_WORD.findall(each.lower())) for each in said]
    counts = Counter(word for each in words for word in each)
    shapes = [_WORD.sub("w", each[:6]) for each in said]
    alike, last = Counter(shapes), len(units) - 1
    few = max(2, len(units) / 50)
    rows = []
    for at, (each, bag) in enumerate(zip(said, words, strict=True)):
        label = QUESTION.match(text, *units[at]) is not None
        size = max(len(bag), 1)
        rows.append(
            (
                _END_ASKS.search(each) is not None,
                _ASKS.search(each) is not None,
                _VERB.match(each) is not None,
                _FIRST_PERSON.search(each) is not None,
                _WANTED.search(each) is not None,
                label,
                not label and OTHER.match(each) is not None,
                sum(counts[word] == 1 for word in bag) / size,
                sum(counts[word] <= few for word in bag) / size,
                at == last,
                at == 0,
                min(math.log1p(len(bag)), 4.0),
                each[0].isupper(),
                alike[shapes[at]] / len(units),
            )
        )
    return np.array(rows, dtype=float)


def _around(
    text: str, units: Sequence[tuple[int, int]], scores: NDArray[np.float64]
) -> tuple[int, int]:
    """The first and last unit of the passage around the best one; a label begins it."""
    first = last = int(scores.argmax())
    best = float(scores[first])
    least = best - BELONGS * (best - float(np.median(scores)))

    def belongs(at: int) -> bool:
        inside = 0 <= at < len(units) and scores[at] >= least
        if not inside or APART.match(text, *units[max(at, first)]):
            return False
        if at < first and QUESTION.match(text, *units[first]):
            return False
        return max(units[last][1], units[at][1]) - min(units[first][0], units[at][0]) <= LONG

    while near := [at for at in (first - 1, last + 1) if belongs(at)]:
        at = max(near, key=lambda each: scores[each])
        first, last = min(first, at), max(last, at)
    return first, last
