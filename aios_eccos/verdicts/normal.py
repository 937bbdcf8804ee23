"""The normal form of an answer: its final answer as a text that two equal answers share.

A form begins with its kind, so that the choice B is not the text `b`. Where no final answer can be
read with certainty there is none: a judge may say then, whereas two answers that wrongly count as
equal would be a verdict. Whatever an answer is, its form is found within 0.2 s.
"""

from __future__ import annotations

import json
import re
import unicodedata
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

from aios_eccos.collect.choices import LETTERS, final_choice
from aios_eccos.collect.extract import (
    TAIL,
    WRAPPED,
    fenced_blocks,
    final_json,
    final_part,
    statements,
)
from aios_eccos.collect.maths import latex, normalize
from aios_eccos.collect.numbers import parse_whole
from aios_eccos.verdicts.expression import MAX_CHARS, Value, value_of

#: Longer answers have no form, nor have tool calls with longer arguments.
MAX_ANSWER = 100_000
#: Characters of a text that is compared as it stands.
MAX_TEXT = 60
#: Characters of a literal of Python.
MAX_LITERAL = 2_000
#: Characters of prose around a fenced block that is the answer.
MAX_PROSE = 300
#: Fields beside `answer` that say why, and do not count.
_REASONS = {"reasoning", "reason", "rationale", "explanation", "thought", "thoughts", "thinking"}
_REASONS |= {"analysis", "steps", "solution", "confidence"}
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}

_CHOICE = re.compile(
    r"(?i:(?:the )?(?:option|choice|letter) )?(?:[A-J]\.?$|\([A-Ja-j]\)|\[[A-J]\]|[A-J]\)(?: |$)"
    r"|(?P<letter>[A-J]),? (?:because|since|as it)\b"
    r"|\(?[A-J]\)? is (?:the )?(?:correct|right|best)(?: \w+)?$)"
    r"|(?i:the (?:\w+ )?(?:option|choice) is )\W{0,3}[A-J]\W{0,3}$"
)
_LABEL = re.compile(r"^[A-Za-z](?:_\w|\([a-z]\))?\s*=\s*(?=[^=,;]+$)")
#: A number with a word or two before and after it.
_COUNTED = re.compile(
    r"(?:(?:about|approximately|approx\.|roughly|exactly|usd|eur|gbp) )?(?P<number>.*?[\d%)}]"
    r"(?: ?(?:thousand|million|billion|trillion|lakh|crore|mio|mrd|bn)\b)?)"
    r"(?P<unit> ?[a-zµ°²³/]+(?: [a-zµ°²³/]+){0,2})?",
    re.IGNORECASE,
)
#: Words behind a number that make another one of it, or none.
_NO_UNIT = re.compile(
    r"\b(?:or|and|to|than|plus|minus|times|over|by|squared|cubed|factorial|more|less|fewer|not)\b",
    re.IGNORECASE,
)
#: Units that others of the same measure stand beside: they make another number of a number.
_MEASURES = re.compile(
    r"(?<![a-z])(?:[mµnckd]?m|in(?:ch(?:es)?)?|f(?:ee|oo)?t|yards?|miles?|(?:kilo|centi|milli)?met(?:er|re)s?"
    r"|[mk]?g|(?:kilo|milli)?grams?|lbs?|pounds?|oz|ounces?|tons?|m?l|(?:milli)?lit(?:er|re)s?|dozens?"
    r"|[mµn]?s|(?:milli)?seconds?|min(?:ute)?s?|h|hours?|hrs?|days?|weeks?|months?|years?|[ap]\.?m"
    r"|[kmgt]?i?b|(?:kilo|mega|giga)?bytes?|[cf]|celsius|fahrenheit|rad(?:ian)?s?|cents?|hundred)\b",
    re.IGNORECASE,
)
#: What makes mathematics, and what makes code, of a text that is nothing else.
_MATHS = re.compile(r"\\[A-Za-z]|[\^√]")
_CODE = re.compile(r"[\\/_=<>{}$|#@*~^`\[\]]|(?:^|\s)-\w|[a-z][A-Z]|[A-Z]{2}[a-z]|\.\w")
#: What prompts write where an answer belongs, and small models say after them.
_PLACEHOLDER = re.compile(
    r"[NX]|\$?(?:LETTER|NUMBER|ANSWER)|\?+|\.{2,}|…|_{2,}|(?i:your (?:final )?answer(?: here)?"
    r"|[\[<{(](?:\w+[ _])?(?:answer|number|letter|value|result|choice|literal)(?:[ _]here)?[\]>})])"
)
_OPENED = re.compile(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", re.DOTALL)
#: Marks around a whole answer: emphasis, code, LaTeX.
_MARKED = re.compile(r"^(\*\*|\*|__|`|\$\$|\$)(?=[^*`$])(.+)(?<=[^*`$])\1$", re.DOTALL)
_END = re.compile(r"(?<=[\w)\]}\"'%$*`])[.。]$|(?<=[^\W\d])[!?]$")
_TYPOGRAPHY = str.maketrans("‘’“”‐‑–—−", "''\"\"-----")


def normal_form(
    content: str | None, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> str | None:
    """The form of an answer's tool calls, else of the final answer in its text; None = none.

    Args:
        tool_calls: of the kernel's shape (`name`, `parameters`) or OpenAI's (`function`).
    """
    try:
        form = _tools(tool_calls) if tool_calls else _answer(content or "")
        if form is not None:
            form.encode()  # a lone surrogate is no text
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError):
        return None
    return form


def _tools(calls: Sequence[Mapping[str, Any]]) -> str:
    if len(json.dumps(list(calls))) > MAX_ANSWER:
        raise ValueError("longer than any call")
    return "tools:" + "\n".join(sorted(map(_tool, calls)))


def _tool(call: Mapping[str, Any]) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TypeError("a tool without a name")
    arguments = function.get("parameters", function.get("arguments"))
    if isinstance(arguments, str):
        arguments = json.loads(arguments or "{}")
    return f"{json.dumps(function['name'])}({_value(arguments or {})})"


def _answer(content: str) -> str | None:
    if len(content) > MAX_ANSWER:
        return None
    text = _block(final_part(content).strip())
    if text[:1] in ("{", "["):
        with suppress(ValueError):
            return _of_json(final_json(text))
    said = next(statements(text), None)
    if said is None:
        return _literal(text) or (_of(text) if len(text) <= MAX_TEXT else None)
    form = _of(said.text or "")
    # Words in the middle of an answer may be anything.
    return form if said.last or not (form or "").startswith("text:") else None


def _block(text: str) -> str:
    """What the only fenced block of an answer holds, if little stands around it; else the text."""
    if not 0 <= max(text.find("```"), text.find("~~~")) <= MAX_PROSE or len(text) > TAIL:
        return text
    blocks = fenced_blocks(text)
    alone = len(blocks) == 1 and len(text) - len(blocks[0]) <= MAX_PROSE
    return blocks[0].strip() if alone else text


def _of_json(value: Any) -> str | None:
    fields = set(value) if isinstance(value, dict) else set()
    answer = fields & {"answer", "final_answer"}
    if len(answer) == 1 and fields - answer <= _REASONS:
        value = value[answer.pop()]
        return _of(value) if isinstance(value, str) else _of_json(value)
    return _kind(value) + _value(value)


def _kind(value: object) -> str:
    return "number:" if type(value) in (int, float) else "value:"


def _value(value: Any) -> str:
    """A value of JSON or of a Python literal; the order of keys and of sets does not count."""
    if value is None or isinstance(value, bool | str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int | float):
        text = str(value) if isinstance(value, int) else _number_text(Fraction(value))
    elif isinstance(value, dict):
        text = f"{{{','.join(sorted(f'{_value(k)}:{_value(v)}' for k, v in value.items()))}}}"
    elif isinstance(value, list):
        text = f"[{','.join(map(_value, value))}]"
    elif isinstance(value, tuple):
        text = f"({','.join(map(_value, value))})"
    elif isinstance(value, set):
        text = f"{{{','.join(sorted(map(_value, value)))}}}"
    else:
        text = repr(value)
    return text


def _of(said: str) -> str | None:
    """The form of what an answer states as its final answer, or is as a whole."""
    text = _END.sub("", WRAPPED.sub(r" \1", said).strip())
    text = _END.sub("", _MARKED.sub(r"\2", text)).strip()
    if _PLACEHOLDER.fullmatch(text):
        return None
    return _choice(text) or _literal(text) or _number(text) or _maths(text) or _text(text)


def _choice(text: str) -> str | None:
    found = _CHOICE.match(text)
    # A reason may name other letters.
    letter = found and final_choice(found["letter"] or text, [""] * len(LETTERS))
    return f"choice:{letter}" if letter else None


def _literal(text: str) -> str | None:
    if text in _WORDS:
        return f"value:{_value(_WORDS[text])}"
    if text[:1] not in tuple("[({'\"") or len(text) > MAX_LITERAL:
        return None
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return _kind(value) + _value(value)


def _number(text: str) -> str | None:
    text = _LABEL.sub("", " ".join(text.split())) if len(text) <= MAX_CHARS else ""
    if re.match(r"[-+]?0\d", text):
        return None  # a code: 007 is not 7
    number, counted, unit = parse_whole(text), _COUNTED.fullmatch(text), ""
    if number is None and counted is not None:
        unit = counted["unit"] or ""
        if _NO_UNIT.search(unit) or (unit[:1].isalpha() and not _MEASURES.fullmatch(unit)):
            return None  # a bound, an expression, or a name such as 3com
        number = parse_whole(counted["number"])
        unit = unit.strip().casefold() if _MEASURES.search(unit) else ""
    return f"number:{_number_text(number.value)} {unit}".strip() if number else None


def _maths(text: str) -> str | None:
    if len(text) > MAX_CHARS or re.match(r"[\d\s./:-]*$|\*|[A-Za-z]$", text):
        return None  # too long, or a date, a range, a score, a letter
    tex = _LABEL.sub("", latex(text))
    found = value_of(tex)
    if found is not None:
        value, variables = found
        return f"maths:{variables}:{_value_text(value)}" if variables else _of_value(value)
    return _members(tex) or (f"maths:{normalize(tex)}" if _MATHS.search(text) else None)


def _members(text: str) -> str | None:
    """A tuple, an interval, a set or a list of expressions."""
    text = re.sub(r"\\(?:left|right)(?=\W)", "", text).strip()
    opened = _OPENED.match(text)
    start, end = (opened[1], opened[3]) if opened else ("", "")
    parts = [value_of(part) for part in (opened[2] if opened else text).split(",")]
    if None in parts or (len(parts) < 2 and start != "\\{"):
        return None
    texts = [f"{part[1]}:{_value_text(part[0])}".removeprefix(":") for part in parts if part]
    if start == "\\{":
        return f"value:{{{','.join(sorted(texts))}}}"
    return f"value:{start}{','.join(texts)}{end}"


def _text(text: str) -> str | None:
    text = unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY)
    text = re.sub(r"\s*([,;])\s*", r"\1 ", " ".join(text.split()))
    if not text or len(text) > MAX_TEXT or any(unicodedata.category(c) == "Cc" for c in text):
        return None
    text = text if _CODE.search(text) else text.casefold()
    return f"text:{re.sub(r'^(?:the|an?) (?=.)', '', text, flags=re.IGNORECASE)}"


def _of_value(value: Value) -> str:
    real = isinstance(value, Fraction) or abs(value.imag) <= 1e-9 * max(1.0, abs(value))
    return f"{'number' if real else 'maths'}:{_value_text(value)}"


def _value_text(value: Value) -> str:
    if isinstance(value, Fraction):
        return _number_text(value)
    if abs(value.imag) > 1e-9 * max(1.0, abs(value)):
        return f"{value.real:.9g}{value.imag:+.9g}i"
    if 0 < abs(value) < 1e-9:
        raise OverflowError  # zero but for rounding, or not
    whole = abs(value) < 1e9 and abs(value.real - round(value.real)) < 1e-9
    return _number_text(Fraction(round(value.real) if whole else value.real))


def _number_text(value: Fraction) -> str:
    """Integers exactly, others to six places, or six digits below 1, as the graders round."""
    if abs(value) >= 1 or not value:
        return str(round(value, 6))
    return f"{Decimal(value.numerator) / Decimal(value.denominator):.5e}"
