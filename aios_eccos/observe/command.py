"""`/eccos ...` in AIOS's terminal: one line in, plain text of at most 80 columns out."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from aios_eccos.config import parse_floor
from aios_eccos.errors import DataError, EccosError
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.text import clean_line, wrap

HELP = """\
/eccos status           load, calls, spending, success, whether the floor holds
/eccos models           prices, limits, abilities, forecast and real success
/eccos load             how busy each model is
/eccos last [N]         the last N decisions (10)
/eccos explain ID|last  why a call went where it did, and what others would cost
/eccos explain "TEXT"   what would be decided for a text now
/eccos savings [MODEL]  money and success beside one model for every call
/eccos whatif floor=F   another floor, 0..1 or 95%, by forecast
/eccos events [N]       changes of floors, limits, prices and models"""


def answer(reader: Reader, words: str) -> str:
    """The reply to what follows `/eccos`; a mistake is answered with what to type instead."""
    try:
        parts = shlex.split(words)
    except ValueError:
        parts = words.split()
    verb, rest = (parts[0], parts[1:]) if parts else ("help", [])
    show = VERBS.get(verb)
    try:
        if show is None:
            return f"/eccos {clean_line(verb[:20])}: no such command\n{HELP}"
        return show(reader, rest)
    except (EccosError, ValueError) as error:
        return wrap(f"/eccos {verb}: {error}")


def _number(rest: list[str], default: int) -> int:
    word = rest[0] if rest else str(default)
    if not word.isdecimal() or not 1 <= int(word) <= 50:
        raise ValueError(f"{word[:20]!r}: wanted a number from 1 to 50")
    return int(word)


def _explain(reader: Reader, rest: list[str]) -> str:
    if len(rest) == 1 and (rest[0] == "last" or looks_like_id(rest[0])):
        return render_calls.explain(reader.explain(rest[0]))
    if not rest:
        raise DataError('which one? `explain last`, `explain ID` or `explain "a text"`')
    return render_calls.explain(reader.explain_text(" ".join(rest)))


def looks_like_id(word: str) -> bool:
    """Whether a word is an id of the stream (`1700000000000-0`) or of a call (hexadecimal)."""
    stream = word.replace("-", "", 1)
    return (stream.isdecimal() and "-" in word) or (
        len(word) >= 6 and all(c in "0123456789abcdef" for c in word)
    )


def _what_if(reader: Reader, rest: list[str]) -> str:
    name, _, value = "".join(rest).partition("=")
    if name != "floor" or not value:
        raise ValueError("wanted `whatif floor=0.8` or `whatif floor=95%`")
    return render_calls.what_if(reader.what_if(parse_floor(value)))


VERBS: dict[str, Callable[[Reader, list[str]], str]] = {
    "help": lambda reader, rest: HELP,
    "status": lambda reader, rest: render.status(reader.status()),
    "models": lambda reader, rest: render.models(reader.models()),
    "load": lambda reader, rest: render.load(reader.models()),
    "last": lambda reader, rest: render.last(reader.decisions(_number(rest, 10))),
    "explain": _explain,
    "savings": lambda reader, rest: render_calls.savings(reader.savings(rest[0] if rest else None)),
    "whatif": _what_if,
    "events": lambda reader, rest: render.events(reader.events(_number(rest, 10))),
}
