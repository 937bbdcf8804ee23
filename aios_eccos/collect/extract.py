"""The final answer within a model's text, by the conventions of the public benchmarks.

In order of preference: the last `"answer"` field of a JSON object (ZeroEval), then whatever stands
last of `\\boxed{...}` (MATH), a closing line `#### ...` (GSM8K) and `answer is ...` or
`Answer: ...` (MMLU-Pro, Minerva). Every search takes time linear in the text, and only the last
`TAIL` characters are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

#: Characters of an answer that are looked at; final answers stand at the end.
TAIL = 20_000
#: Candidates of each kind that are considered, from the end.
PLACES = 20

_JSON_KEY = re.compile(r'"answer"\s{0,9}:\s{0,9}', re.IGNORECASE)
_JSON_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_JSON_OTHER = re.compile(r"[^,}\]\n]+")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}(?=(\{)|([^\s{$][^$\n]*))")
_HASHES = re.compile(r"^####[ \t]{0,9}(\S[^\n]*)\Z", re.MULTILINE)
_PHRASE = re.compile(
    r"\banswer\*{0,2}(?:\s{1,9}is\b\s{0,9}:?|\s{0,9}:)(?!\s{1,9}not\b)\s{0,9}\*{0,2}\s{0,9}(?=\S)",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r"(?:\\\[|\$\$)(.*?)(?:\\\]|\$\$)", re.DOTALL)
#: Words in LaTeX's math: what stands in the braces is meant.
WRAPPED = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textrm|mbox)\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


def split_thinking(content: str) -> tuple[str, str]:
    """Split off what stands in `<think>...</think>`; a thought that does not end is all thought."""
    before, mark, after = content.rpartition("</think>")
    if mark:
        return before, after
    if content.lstrip().startswith("<think>"):
        return content, ""
    return "", content


def candidates(text: str) -> Iterator[str]:
    """The places that may hold the final answer, the most telling first."""
    text = text[-TAIL:].rstrip()
    for found in list(_JSON_KEY.finditer(text))[: -PLACES - 1 : -1]:
        yield _json_value(text, found.end())
    places = [(m.start(1) if m[1] else m.start(2), "box") for m in _BOX.finditer(text)]
    places += [(m.start(1), "line") for m in _HASHES.finditer(text)]
    places += [(m.end(), "line") for m in _PHRASE.finditer(text)]
    for place, kind in sorted(places, reverse=True)[:PLACES]:
        if kind == "box":
            inside = _braced(text, place)
            if inside is not None:
                yield inside
        else:
            yield _line(text, place)


def _json_value(text: str, place: int) -> str:
    literal = _JSON_STRING.match(text, place)
    if literal is not None:
        return _unescaped(literal)
    try:
        value, _ = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError):
        other = _JSON_OTHER.match(text, place)
        return other[0].strip() if other else ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _unescaped(literal: re.Match[str]) -> str:
    """Models often write LaTeX into JSON unescaped: `"\\frac"` would be a form feed and `rac`."""
    try:
        value = str(json.loads(literal[0], strict=False))
    except ValueError:
        return literal[1]
    return literal[1] if _CONTROL.search(value) else value


def _braced(text: str, place: int) -> str | None:
    """What stands in the braces that open at `place`; without braces, up to `$` or line's end."""
    if text[place] != "{":
        return re.split(r"[$\n]", text[place:], maxsplit=1)[0].strip()
    depth = 0
    for token in re.finditer(r"\\.|[{}]", text[place:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return text[place + 1 : place + token.start()].strip()
    return None


def _line(text: str, place: int) -> str:
    display = _DISPLAY.match(text, place)
    line = display[1] if display else text[place:].split("\n", 1)[0]
    return line.strip().strip("*_` ").removesuffix(".").strip("*_` ")
