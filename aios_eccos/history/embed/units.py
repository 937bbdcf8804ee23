"""A long text cut into units: paragraphs, labelled parts, of long paragraphs lines or sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

#: Longest paragraph that is one unit, in characters.
LONGEST = 900
#: Characters looked at of the beginning and of the end of a very long text.
LOOKED = 16_000, 32_000
#: Units looked at, of the beginning and of the end, where there are more: it must not take long.
MOST = 300, 900

#: What labels the question.
QUESTION = re.compile(
    r"(?i)[ \t]*(?:#{1,6}[ \t]+|\*\*|<)?(?:(?:the|your|main|current|user|user's|final|original|new)"
    r"[ _]+)*(?:question|task|problem|query|instructions?|request|exercise|goal|objective)\b"
    r"[^\n:>*]{0,12}?(?:\*\*[ \t]*:?|:(?:\*\*)?|>|(?=\n))\s*"
)
#: What labels something else.
OTHER = re.compile(
    r"(?i)[ \t]*(?:#{1,6}[ \t]+|\*\*|</?)?(?:(?:final|helpful|relevant|retrieved|your)[ _]+)*"
    r"(?:thought|plan|result|reflection|action|observation|answer|assistant|ai|context|"
    r"documents?|sources?|passages?|history|memory|examples?|tools?|output|response|format|note)\b[^\n:>*]{0,12}?"
    r"(?:\*\*[ \t]*:?|:(?:\*\*)?|>|(?=\n))\s*"
)
_LABEL = r"[ \t]*[A-Z][\w' ]{0,24}:(?=\s|\Z)"
#: A label of whatever name.
LABEL = re.compile(_LABEL)
_HEADING = r"[ \t]*(?:#{1,6}[ \t]|</?[A-Za-z][\w-]*>"
#: What begins with it belongs to no question before it.
APART = re.compile(rf"{OTHER.pattern}|{_HEADING})")
#: Where a unit begins: behind a blank line; at a heading, a tag, a label.
_EDGE = re.compile(rf"\n[ \t]*\n\s*|(?m:^)(?={_LABEL}|{_HEADING}|\*\*[A-Z][^*\n]{{0,30}}\*\*))")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"[.?!][\"'”’)\]]*\s+|[。？！؟]")


def units_of(text: str) -> list[tuple[int, int]]:
    """(start, end) of the units; a label on a line of its own belongs to what follows."""
    head, tail = LOOKED
    parts = [(0, len(text))]
    if len(text) > head + tail:
        parts = [(0, head), (len(text) - tail, len(text))]
    units: list[tuple[int, int]] = []
    for start, end in parts:
        for a, b in itertools.pairwise([start, *_edges(_EDGE, text, start, end), end]):
            units += ((x, y) for x, y in _cut(text, a, b, (_LINE, _SENTENCE)) if text[x:y].strip())
    joined: list[tuple[int, int]] = []
    for unit in units:
        label = QUESTION.match(text, *joined[-1]) if joined else None
        if label is not None and label.end() >= joined[-1][1] - 1:
            unit = joined.pop()[0], unit[1]
        joined.append(unit)
    head, tail = MOST
    return joined if len(joined) <= head + tail else joined[:head] + joined[-tail:]


def _edges(edge: re.Pattern[str], text: str, start: int, end: int) -> Iterator[int]:
    return (match.end() for match in edge.finditer(text, start, end) if start < match.end() < end)


def _cut(
    text: str, start: int, end: int, edges: Sequence[re.Pattern[str]]
) -> Iterator[tuple[int, int]]:
    """A part in pieces of at most `LONGEST`, cut at the first kind of edge that makes them so."""
    if end - start <= LONGEST:
        yield start, end
    elif not edges:
        yield from ((at, min(at + LONGEST, end)) for at in range(start, end, LONGEST))
    else:
        for a, b in itertools.pairwise([start, *_edges(edges[0], text, start, end), end]):
            yield from _cut(text, a, b, edges[1:])
