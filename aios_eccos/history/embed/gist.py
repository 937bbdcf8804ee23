"""The passage of a long text that asks, which alone is embedded and described.

An embedder reads a few hundred tokens, and agents put documents before or behind their question:
two questions behind one context would have a cosine of 1. So a long text is cut into units, and of
all runs of units that are short enough the one is read that looks most like a question and has
least to do with the rest of the text: its words stand nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aios_eccos.history.embed.units import APART, LABEL, OTHER, QUESTION, units_of
from aios_eccos.values import FloatArray, IntArray

#: Texts up to this length, in characters, are read whole; of longer ones no more is read.
LONG = 1600
#: Most units of a passage.
WIDEST = 32
#: Log-odds of being what is asked, per feature of a passage. Fitted on 900 questions of math10,
#: mixed4 and tools10 (training rows) and on 400 pairs and triples of them, inside made-up stories
#: and JSON and inside descriptions and code of Python packages. By hand are the weights of labels
#: (what stands behind "Task:" is read even if nothing in it asks), and those of other words and of
#: the number of words, smaller than fitted: short questions are rare in these files. Which
#: features there are was chosen on validation rows.
WEIGHTS = {
    "labelled as a question": 4.0,
    "labelled as something else": -1.5,
    "begins with a verb": 1.2,
    "begins a line with a capital": 3.3,
    "says I or we": 1.6,
    "says what is wanted": 1.3,
    "has a question mark, times log of all units": 0.5,
    "is the first, times log of all units": 0.7,
    "is the last, times log of all units": 0.8,
    "share of words that stand nowhere else": 5.1,
    "the same, up to .6": 3.4,
    "number of such words, up to 120, in forties": 2.0,
    "number of its other words, up to 80, in forties": -1.0,
    "log of the number of words, up to 4": 0.8,
    "labelled parts behind the first with words of their own, up to 1": 2.1,
    "share of the words of all units": -2.1,
    "blank lines within, up to 12": -0.8,
}

_ASKS = re.compile(r"[?？؟]")
_I = re.compile(r"\bI\b")
_MANY = re.compile(r"\?\?|(?i:\bhow (?:many|much)\b)")
_FIRST_PERSON = frozenset(("my", "me", "we"))
_WANTED = frozenset(("please", "find", "what"))
_WORD = re.compile(r"\w+")
_CLOSED = re.compile(r"\s*</[A-Za-z][\w-]*>\s*\Z")
_VERB = re.compile(
    r"\W*(?=\w)(?:(?:and|then|now|for|in|to|at|can you|could you|your task is to|i need you to|"
    r"i want you to|i need to|i want to|i'd like to|you are)\W+(?=\w))?(?:"
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
    if cut := units_of(text):
        first, last = runs(text, cut)
        best = int((features(text, cut, first, last) @ np.array([*WEIGHTS.values()])).argmax())
        start, end = cut[first[best]][0], cut[last[best]][1]
        if label := QUESTION.match(text, start, end):
            start = label.end()
        asked = _CLOSED.sub("", text[start:end]).rstrip()
        if asked:
            return Passage(start, start + len(asked), "question")
    return Passage(0, LONG, "beginning")


def runs(text: str, cut: Sequence[tuple[int, int]]) -> tuple[IntArray, IntArray]:
    """(r,) first and last unit of each run that may be read: short, and nothing apart inside."""
    starts = np.array([start for start, _ in cut])
    ends = np.array([start + len(text[start:end].rstrip()) for start, end in cut])
    apart = np.cumsum([_begins_anew(text, unit) for unit in cut])
    first, width = np.divmod(np.arange(len(cut) * WIDEST), WIDEST)
    last = np.minimum(first + width, len(cut) - 1)
    short = (ends[last] - starts[first] <= LONG) & (apart[last] == apart[first])
    kept = (first + width < len(cut)) & (short | (width == 0))
    return first[kept], last[kept]


def _begins_anew(text: str, unit: tuple[int, int]) -> bool:
    return any(label.match(text, *unit) is not None for label in (APART, QUESTION))


def features(
    text: str, cut: Sequence[tuple[int, int]], first: IntArray, last: IntArray
) -> FloatArray:
    """(r, f) what the runs of units look like, in the order of `WEIGHTS`."""
    said = [text[start:end] for start, end in cut]
    words = [_WORD.findall(each.lower()) for each in said]
    bags = [frozenset(each) for each in words]
    # Lines that end before a unit: none behind a sentence, two behind a paragraph.
    gaps = [2, *(each[len(each.rstrip()) :].count("\n") for each in said[:-1])]
    begins = np.array([_begins(text, *each) for each in zip(cut, gaps, strict=True)], dtype=float)
    sums = np.cumsum([_says(*each) for each in zip(said, bags, words, strict=True)], axis=0)
    person, wanted, asks, distinct, count = (sums[last] - sums[first - 1] * (first > 0)[:, None]).T
    all_own = _own_words(bags)
    own = all_own[first, last - first]
    # A label counts as far as what it labels has words of its own.
    labels = [LABEL.match(text, *unit) is not None for unit in cut]
    labelled = labels * np.minimum(all_own[:, 0] / [0.3 * max(len(bag), 3) for bag in bags], 1)
    behind = np.cumsum([labelled, np.array(gaps) > 1], axis=1)
    share, many = own / np.maximum(distinct, 3), math.log(len(cut))
    rest = (
        person > 0,
        wanted > 0,
        (asks > 0) * many,
        (first == 0) * many,
        (last == len(cut) - 1) * many,
        share,
        np.minimum(share, 0.6),
        np.minimum(own, 120) / 40,
        np.minimum(distinct - own, 80) / 40,
        np.minimum(np.log1p(count), 4),
        np.minimum(behind[0, last] - behind[0, first], 1),
        distinct / max(sum(map(len, bags)), 1),
        np.minimum(behind[1, last] - behind[1, first], 12),
    )
    return np.column_stack([begins[first], *rest])


def _begins(text: str, unit: tuple[int, int], gap: int) -> tuple[bool, ...]:
    """How a unit begins: the first of `WEIGHTS`."""
    label = QUESTION.match(text, *unit) is not None
    return (
        label,
        not label and OTHER.match(text, *unit) is not None,
        _VERB.match(text, *unit) is not None,
        gap > 0 and text[unit[0] : unit[1]].lstrip()[0].isupper(),
    )


def _says(said: str, bag: frozenset[str], words: Sequence[str]) -> tuple[int, ...]:
    """Whether a unit says I or we, what is wanted, asks; its different words, and all."""
    return (
        not bag.isdisjoint(_FIRST_PERSON) or ("i" in bag and _I.search(said) is not None),
        not bag.isdisjoint(_WANTED) or _MANY.search(said) is not None,
        _ASKS.search(said) is not None,
        len(bag),
        len(words),
    )


def _own_words(bags: Sequence[frozenset[str]]) -> FloatArray:
    """(n, WIDEST) number of words of the w + 1 units from a unit on that stand in no other."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, bag in enumerate(bags):
        for word in bag:
            first.setdefault(word, at)
            last[word] = at
    own = np.zeros((len(bags) + 1, WIDEST))
    for word, at in first.items():
        if last[word] - at < WIDEST:
            own[at, last[word] - at] += 1
    # A run has the words of the run that is one shorter at its end and of the one at its beginning.
    for width in range(1, WIDEST):
        own[:-1, width] += own[:-1, width - 1] + own[1:, width - 1]
        if width > 1:
            own[:-1, width] -= own[1:, width - 2]
    return own[:-1]
