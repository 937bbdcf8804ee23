"""The passage of a long text that asks, which alone is embedded and described.

An embedder reads a few hundred tokens, and agents put documents before or behind their question:
two questions behind one context would have a cosine of 1. So the sentence is looked for that asks
(a question mark, a verb such as `find` first, a label such as `Task:`) and says something new
(words that few other sentences have, unlike logs and lists), with what belongs to it around it.
"""

from __future__ import annotations

import re
from collections import Counter

#: Texts up to this length, in characters, are left whole: so far, both ends together say more.
LONG = 1600
#: Longest gist, in characters: about the 256 tokens that the default model reads.
GIST = 900
#: Characters that are looked at of the beginning and of the end of a very long text.
LOOKED = 4_000, 12_000
#: Fewest words of a sentence that can ask.
WORDS = 3
#: A word is new in a sentence if at most so many sentences, or this share of them, have it.
FEW, FEW_SHARE = 3, 0.05
#: Share of new words below which a sentence beside the question is boilerplate; and by how much
#: more than usual are new in one that stands out although it has no mark of asking.
BOILERPLATE, STANDS_OUT = 0.34, 0.3

_SENTENCE = re.compile(
    r"(?:[^\n.?!。？！؟]|[.?!](?![^\w\s]{0,3}\s))+(?:[.?!。？！؟][^\w\s]{0,3})*\s*|[\n.?!。？！؟]\W*"
)
_PARAGRAPH = re.compile(r"\n\s*\n")
_LABEL = r"\W*(?:question|task|problem|query|instructions?|request|exercise)\b\W*:"
_VERBS = (
    "what which who whom whose when where why how find compute calculate determine evaluate solve "
    "prove show simplify express estimate list name give write explain describe translate "
    "summarize summarise rewrite implement complete fill choose select identify classify compare "
    "convert count answer generate create tell please help draw decide correct fix extract suggest "
    "plan design review check"
)
_BEFORE = (
    "and|then|now|for|in|to|at|can you|could you|your task is to|i need you to|i want you to|"
    "i need to|i want to|i'd like to"
)
_MARKS = [
    re.compile(pattern, re.I)
    for pattern in (
        r"(?s).*[?？؟][^\w\s]{0,3}\s*\Z",
        rf"\W*(?:(?:{_BEFORE})\W+)?(?:{_VERBS.replace(' ', '|')})\b",
        _LABEL,
    )
]
_ONLY_LABEL = re.compile(rf"{_LABEL}\W*\Z", re.I)


def gist(text: str) -> str:
    """The text itself up to `LONG` characters; else its passage that asks, at most `GIST`.

    Where nothing asks, both ends of the text.
    """
    if len(text) <= LONG:
        return text
    head, tail = LOOKED
    if len(text) > head + tail:
        text = f"{text[:head]}\n\n{text[-tail:]}"
    sentences = _SENTENCE.findall(text)
    news = _news(sentences)
    marks = [_marks(sentences, at) for at in range(len(sentences))]
    best = max(
        range(len(sentences)),
        key=lambda at: (len(sentences[at].split()) >= WORDS, marks[at] + news[at], at),
    )
    if not marks[best] and news[best] < sorted(news)[len(news) // 2] + STANDS_OUT:
        return f"{text[: GIST // 2].rstrip()}\n{text[-GIST // 2 :].lstrip()}"
    first, last = _passage(sentences, news, best)
    return "".join(sentences[first : last + 1]).strip()[:GIST]


def _news(sentences: list[str]) -> list[float]:
    """Share of each sentence's words that few other sentences have."""
    words = [frozenset(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    counts = Counter(word for each in words for word in each)
    few = max(FEW, int(FEW_SHARE * len(sentences)))
    return [sum(counts[word] <= few for word in each) / max(len(each), 1) for each in words]


def _marks(sentences: list[str], at: int) -> int:
    """How many marks of asking a sentence has."""
    labelled = at > 0 and _ONLY_LABEL.match(sentences[at - 1]) is not None
    return labelled + sum(mark.match(sentences[at]) is not None for mark in _MARKS)


def _passage(sentences: list[str], news: list[float], at: int) -> tuple[int, int]:
    """The first and last sentence of what belongs to one: its paragraph, without boilerplate."""
    first = last = at
    size = len(sentences[at])

    def belongs(near: int, before: int, most: int) -> bool:
        """Whether sentence `near` does, the paragraph possibly ending in sentence `before`."""
        return (
            0 <= near < len(sentences)
            and size + len(sentences[near]) <= most
            and news[near] >= BOILERPLATE
            and not _PARAGRAPH.search(sentences[before])
        )

    # What a question is about stands before it more often than behind it.
    for most in (GIST * 3 // 4, GIST):
        while belongs(first - 1, first - 1, most):
            first -= 1
            size += len(sentences[first])
        while most == GIST * 3 // 4 and belongs(last + 1, last, GIST):
            last += 1
            size += len(sentences[last])
    return first, last
