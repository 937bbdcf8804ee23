"""The choice that an answer to a multiple-choice question states."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from aios_eccos.collect.extract import TAIL, WRAPPED, statements
from aios_eccos.collect.numbers import SeveralAnswers, parse_whole, same

LETTERS = "ABCDEFGHIJ"
#: Lines at the end of an answer in which a letter alone is the answer, if nothing states it.
LAST_LINES = 3

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
#: What makes another number of a number; as private characters they outlast `words_of`.
_KEPT = re.compile(r"(?<=\d)\.(?=\d)|(?<![\w-])-(?=\d)")
_WRAPPING = " \t\n*_`\"'$\\<>{}[]"
_NAMED = r"(?i:(?:the\s+)?(?:option|choice|letter|选项)\s*)?"
_LETTER = re.compile(
    rf"{_NAMED}(?P<open>[(\[]?)(?P<letter>[A-Ja-j])(?P<close>[)\].:。,;]?)(?![A-Za-z0-9'’])"
)
#: Words behind A and I that make letters of them, not the article and the pronoun.
_REASON = re.compile(
    r"\s+(?:because|since|as|while|whereas|given|for|due|and|or|but|not|is|was|with|by|when|if|which"
    r"|where|although|though|rather|over|instead)\b"
)
_SECOND = re.compile(
    rf"[)\].:]?\s*(?P<by>,|;|/|&|\+|\band\b|\bor\b|\bund\b|\boder\b|和|或|、)\s*{_NAMED}"
    r"[(\[]?(?P<letter>[A-J])[)\]]?(?![A-Za-z0-9'’])(?P<after>\s*\S*)"
)
#: The whole of an answer that is a letter, or begins with a label.
_LABEL = re.compile(r"[^\w\s]*(?:[A-Ja-j][)\]]|[A-J][.:](?=\s)|(?i:option\s)?\(?[A-Ja-j][^\w\s]*$)")
_CLAUSE = re.compile(r"[.;,:(—]|\s-\s|\b(?:because|since|as)\b")
_STANDING = re.compile(
    r"(?<![A-Za-z0-9])(?<![A-Za-z]['’])(?:[B-HJ]|[AI](?!\s+[a-z])|A(?=\s+(?:is|was)\b)|I(?=\s+is\b))"
    r"(?![A-Za-z0-9]|['’][A-Za-z])"
)
_RIGHT = r"(?:the\s+|an?\s+)?(?:only\s+|most\s+)?(?:correct|right|best|true|accurate)\b"
_PICKED = re.compile(
    r"(?:(?<![A-Za-z])(?i:choose|chose|pick|select|go with|opt for|it(?:'s| is| has to be| must be)"
    r"|(?:choice|option|pick)(?:\s*:| is))|故?选择?|答案)\s*[:：]?\s*"
    rf"{_NAMED}\(?(?P<picked>[B-HJ]|[AI](?:(?!\s+[a-z])|(?=\s+(?:because|since|as|over|and|not)\b)))"
    r"(?![A-Za-z0-9'’])(?!\s*项?\s*(?:不|错))"
    rf"|(?<![A-Za-z0-9]){_NAMED}\(?(?P<right>[A-J])\)?\s*"
    rf"(?:(?i:(?:is|was|must be|would be)\s+{_RIGHT})|是?正确)"
)
#: The first letters of the alphabets that MMLU's translations label choices with.
_OTHER_LETTERS = str.maketrans("أبجدঅবডঢАБВГ", "ABCDABCDABCD")


def final_choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the choice that an answer states; None if it states none, or several."""
    text = unicodedata.normalize("NFKC", text[-TAIL:]).replace("**", "").replace("__", "").strip()
    known = LETTERS[: len(choices)]
    stated = list(statements(text))
    try:
        for statement in stated:
            if statement.text is None:
                return None
            letter = _stated(statement.text, choices)
            if letter is not None:
                return letter
        lines = text.splitlines() or [""]
        bare = len(lines) == 1 and (_LABEL.match(text) or words_of(text) in map(words_of, choices))
        letter = _stated(text, choices) if bare else None
        letter = letter or _picked(text, known) or _opening(lines, choices)
        letter = letter or _last_letter("\n".join(lines[-LAST_LINES:]), known)
    except SeveralAnswers:
        return None
    ends = [statement.text or "" for statement in stated if statement.last] or [lines[-1]]
    return letter or _only_named(ends[0], choices)


def words_of(text: str) -> str:
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


def _stated(answer: str, choices: Sequence[str]) -> str | None:
    """The letter that a final answer begins with, or whose choice's text it is."""
    number = parse_whole(answer.strip(" $"))
    answer = WRAPPED.sub(r"\1", answer).strip(_WRAPPING)
    answer = answer.translate(_OTHER_LETTERS) if len(answer) == 1 else answer
    for text in (answer, _CLAUSE.split(answer, maxsplit=1)[0]):
        meant = [k for k, c in zip(LETTERS, choices, strict=False) if words_of(c) == words_of(text)]
        if len(meant) == 1:
            return meant[0]
    values = [number and parse_whole(choice) for choice in choices]
    equal = [k for k, v in zip(LETTERS, values, strict=False) if number and v and same(number, v)]
    if len(equal) == 1:
        return equal[0]
    found = _LETTER.match(answer)
    known = LETTERS[: len(choices)]
    if found is None or found["letter"].upper() not in known or not _is_letter(found, answer):
        return None
    letter, rest = found["letter"].upper(), answer[found.end("letter") :]
    second = _SECOND.match(rest)
    if second and second["letter"] in known and second["letter"] != letter and _is_pair(second):
        raise SeveralAnswers(answer)
    return letter


def _opening(lines: Sequence[str], choices: Sequence[str]) -> str | None:
    """The letter that is all of the first line, or the only label with its choice's text."""
    labels = [line for line in lines if _LABEL.match(line)]
    return _stated(lines[0], choices) if labels == lines[:1] and len(lines[0]) < 100 else None


def _is_letter(found: re.Match[str], answer: str) -> bool:
    """Whether what looks like a choice's letter is no word of a sentence."""
    letter, rest = found["letter"], answer[found.end() :]
    if found["open"] or found["close"] or not rest.strip():
        return found["close"] != "." or letter.isupper() or not rest.strip()
    if not re.match(r"\s+[a-z]", rest):
        return letter.isupper() or not rest[:1].isspace()
    return letter.upper() not in "AI" or (letter.isupper() and bool(_REASON.match(rest)))


def _is_pair(second: re.Match[str]) -> bool:
    """Whether a second letter belongs to the answer, or begins a clause about another choice."""
    after = second["after"].strip()
    if second["by"] in (",", ";"):
        return after.rstrip(".,;)") in ("", "and", "or")
    return after not in ("is", "was", "has", "does", "cannot", "fails", "would")


def _picked(text: str, known: str) -> str | None:
    """The letter of the last "B is correct", "I choose B" and the like."""
    found = [m["picked"] or m["right"] for m in _PICKED.finditer(text)]
    pair = re.search(r"(?<![A-Za-z])([A-J])\s+(?:and|or)\s+[A-J]\s+are\b", text)
    if pair:
        raise SeveralAnswers(text)
    return next((letter for letter in reversed(found) if letter in known), None)


def _last_letter(text: str, known: str) -> str | None:
    """The last letter that stands alone; of two that stand together, none."""
    standing = [m for m in _STANDING.finditer(text) if m[0] in known]
    for before, last in zip(standing[-2:], standing[-1:] * 2, strict=False):
        between = text[before.end() : last.start()].strip(" ()")
        if before is not last and between in ("and", "or", "/", "&", ",") and before[0] != last[0]:
            raise SeveralAnswers(text)
    return standing[-1][0] if standing else None


def _only_named(text: str, choices: Sequence[str]) -> str | None:
    """The only choice whose text stands in `text`; of choices within each other, the longest."""
    padded = f" {words_of(text)} "
    known = zip(LETTERS, choices, strict=False)
    there = [(letter, words_of(c)) for letter, c in known if f" {words_of(c)} " in padded]
    longest = max((c for _, c in there), key=len, default="")
    letters = [letter for letter, c in there if c == longest]
    inside = all(c in longest for _, c in there)
    return letters[0] if longest and len(letters) == 1 and inside else None
