"""Numbers as people and models write them: signs, separators, currencies, units, words, percent.

Values are exact fractions; digits and exponents are bounded, so that no text makes a number that
fills the memory. An expression such as `\\sqrt{16}` is left to `maths`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from aios_eccos.collect.extract import WORDS, WRAPPED, statements

#: Relative and absolute difference that a rounded decimal may have; integers must be equal.
CLOSE = Fraction(1, 1_000_000)
#: Characters at the end that may hold the last number of an answer that states none.
LAST_NUMBER = 2_000

#: Powers of ten.
_MAGNITUDE = {"thousand": 3, "k": 3, "lakh": 5, "million": 6, "mio": 6, "m": 6, "crore": 7}
_MAGNITUDE |= {"billion": 9, "bn": 9, "b": 9, "mrd": 9, "trillion": 12}
#: Thousands apart by comma, blank, apostrophe or underscore, with a point; by point, with a comma;
#: the Indian grouping; a decimal comma where no thousands can be meant.
_DIGITS = r"""(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d{1,60})?
    |\d{1,3}(?:,[ ]\d{3}){2,}(?!\d)|\d{1,3},[ ]0\d\d(?!\d)
    |\d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?:\.\d{1,60})?|\d{1,3}(?:'\d{3})+(?!\d)(?:[.,]\d{1,60})?
    |\d{1,3}(?:_\d{3})+(?!\d)(?:\.\d{1,60})?|\d{1,3}(?:[ ]\d{3})+(?![\d/])(?:[.,]\d{1,60})?
    |\d{1,3}(?:\.\d{3}){2,}(?![\d.])(?:,\d{1,60})?|\d{1,3}(?:\.\d{3})+,\d{1,60}
    |(?:0,\d{1,60}|\d{1,60},(?:\d{1,2}|\d{4,60})|\d{4,60},\d{3})(?![\d/]|[,.]\d)|\d{1,60}(?:\.\d{1,60})?|[.,]\d{1,60})"""
_NUMBER = re.compile(
    rf"""(?<![\w.^_])(?P<sign>[-+]?)(?P<digits>{_DIGITS})
    (?:(?<=\d)e(?P<exponent>[-+]?\d{{1,3}})(?!\w))?
    (?:(?P<numerator>(?:[ ]|[ ]and[ ])\d{{1,30}})?[ ]?/[ ]?(?P<denominator>{_DIGITS}))?
    (?:\s?(?P<magnitude>thousand|million|billion|trillion|lakh|crore|mio|mrd|bn)\b
      |(?-i:(?P<letter>[KkMB]))(?!\w))?
    (?P<percent>\s?(?:%|percent(?:age)?\b|per[ ]cent\b|pct\b))?""",
    re.VERBOSE | re.IGNORECASE,
)
#: What may stand before the number of a final answer without making a sentence of it.
_BEFORE = re.compile(
    r"(?:(?:about|around|approximately|approx\.?|roughly|exactly|only|just|equal to|total"
    r"|a total of|the number|number|usd|eur|gbp|rs\.?|us)\b[.]?|[^\w\s.,+-]|\s)*",
    re.IGNORECASE,
)
_EQUALS, _ABOUT = re.compile(r"(?<![<>!:])="), re.compile(r"≈|\\approx")
#: What is said in brackets behind a number.
_ASIDE = re.compile(r"(?<=[\w%.])\s*\([^()]*[A-Za-z=][^()]*\)\s*$")
#: A second number, so that the first is not the only answer.
_SECOND = re.compile(r"\s?(?:[,;/-]|:(?!00\b)|or\b|and\b|to\b)\s?[-+]?\d")
_OPERATOR = re.compile(
    r"\s?(?:!|[x×·]\s?\d|[-+*^/]\s?[\w.({\\]|\\(?!text|mathrm|mbox|circ|degree|\s)[a-zA-Z])"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:\{([^{}]{1,80})\}|(\d))\s?(?:\{([^{}]{1,80})\}|(\d))")
_POWER_OF_TEN = re.compile(
    r"(?:(?<=\d)\s?(?:\\times|\\cdot|[×*·x])\s?|(?<![\w.)}])(?=10\s?(?:\^|\*\*)))10\s?(?:\^|\*\*)\s?"
    r"(?:\{([-+]?\d{1,3})\}|\(([-+]?\d{1,3})\)|([-+]?\d{1,3}))(?!\w)"
)
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
#: Typographic signs, and the decimal and thousands marks of Arabic, as ASCII.
_PLAIN = str.maketrans("\u2212\u2013\u2010\u2011\u2044\u2019\u066b\u066c", "----/'.,")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z])\^\{?-?\d\}?")
_SIGN_APART = re.compile(
    r"(^|=)([^\w\d=]*?)(?:[-]\s+|(?:minus|negative)\s+)(?=[\d.\w])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: `value` without regard to the percent sign, if it had one."""

    value: Fraction
    percent: bool = False


class SeveralAnswers(ValueError):
    """Raised when a final answer names more than one value where one is wanted."""


def plain(text: str) -> str:
    """The text with LaTeX and typography reduced to what `numbers_in` reads."""
    text = _RAISED.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = unicodedata.normalize("NFKC", _VULGAR.sub(" ", text))
    text = text.translate(_PLAIN).replace("\\%", "%").replace("**", "^" if "10**" in text else "")
    text = re.sub(r",\\!|\{,\}", ",", text)
    text = re.sub(r"(?<=\d)\\[,;: ](?=\d{3})", " ", text)
    text = re.sub(r"\\[!,;: ]|\\?\b(?:US|CA|AU|NZ|HK)?[$€£¥₹]|\\?[$€£¥₹]", "", text)
    text = WRAPPED.sub(r" \1", text)
    text = re.sub(r"(?<=\d)(?=\\[dtc]?frac)", " ", text)
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    text = _POWER_OF_TEN.sub(_exponent, text)
    return re.sub(r"[ \t]{2,}", " ", _UNIT_POWER.sub("", text))


def _exponent(found: re.Match[str]) -> str:
    power = found[1] or found[2] or found[3]
    return f"e{power}" if found[0][0] != "1" else f"1e{power}"


def numbers_in(text: str) -> Iterator[Number]:
    """The numbers of a text that went through `plain`, in order."""
    for found in _NUMBER.finditer(text):
        number = _value(found)
        if number is not None:
            yield number


def parse_whole(text: str) -> Number | None:
    """The number that the whole text is, but for blanks; None if it is anything else."""
    found = _NUMBER.fullmatch(_SIGN_APART.sub(r"\1\2-", plain(text).strip()))
    return _value(found) if found else None


def final_number(text: str) -> Number | None:
    """The number that an answer states, else its last; None if it states several, or a formula."""
    for statement in statements(text):
        try:
            number = statement.text and read_number(statement.text, last=statement.last)
        except SeveralAnswers:
            return None
        if number or not statement.text or is_expression(statement.text):
            return number or None
    return next(iter(deque(numbers_in(plain(text[-LAST_NUMBER:])), maxlen=1)), None)


def is_expression(text: str) -> bool:
    """Whether a final answer is a formula without variables, which Math-Verify can work out."""
    names = "|".join(WORDS["functions"])
    return bool(re.search(r"\d", text)) and not re.search(
        r"[A-Za-z]", re.sub(rf"\\[A-Za-z]+|{names}|exp", "", text)
    )


def read_number(text: str, *, last: bool = True) -> Number | None:
    """The number that a final answer says; None if it says none, or an expression.

    Args:
        last: nothing follows the answer, so that it may be a sentence that has the number first.

    Raises:
        SeveralAnswers: it names more than one.
    """
    parts = [_ABOUT.split(side) for side in reversed(_EQUALS.split(_ASIDE.sub("", plain(text))))]
    for part in (_SIGN_APART.sub(r"\1\2-", part.strip()) for side in parts for part in side):
        start = _BEFORE.match(part)
        place = start.end() if start else 0
        found = _NUMBER.match(part, place)
        number = _value(found) if found else in_words(part[place:])
        if number is None and last:
            found = _NUMBER.search(part, place)
            number = _value(found) if found and "\\" not in part[: found.start()] else None
        rest = part[found.end() :] if found else ""
        if number is None or _OPERATOR.match(rest):
            continue
        second = _SECOND.match(rest) and next(numbers_in(rest), None)
        if second and not same(number, second):
            raise SeveralAnswers(text)
        return number
    return None


def in_words(text: str) -> Number | None:
    """The number that a text begins with in English words; None without text2num."""
    words = re.match(r"(-?)\s?([a-z]+(?:[ -][a-z]+){0,12})", text.strip(), re.IGNORECASE)
    try:
        from text_to_num import alpha2digit
    except ImportError:
        return None
    found = _NUMBER.match(words[1] + alpha2digit(words[2], "en", 0)) if words else None
    return _value(found) if found else None


def same(one: Number, other: Number, tolerance: float | None = None) -> bool:
    """Whether two written numbers mean one value.

    `50 %` equals `0.5`, and also `50`, as the percent sign is no part of the number in MATH; but
    `0.5` does not equal `50`, and of two percentages both must be the same.
    """
    if one.percent == other.percent:
        return close(one.value, other.value, tolerance)
    percentage, bare = (one, other) if one.percent else (other, one)
    return any(close(percentage.value / by, bare.value, tolerance) for by in (1, 100))


def close(one: Fraction, other: Fraction, tolerance: float | None = None) -> bool:
    """Whether two values are one: integers exactly, others but for rounding, or the tolerance."""
    if tolerance is not None:
        # A tolerance of .01 means 0.01, not the binary fraction just below it.
        return abs(one - other) <= Fraction(str(tolerance))
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= CLOSE * min(Fraction(1), abs(one))


def _value(found: re.Match[str]) -> Number | None:
    value = _fraction(found["digits"]) * Fraction(10) ** int(found["exponent"] or 0)
    if found["denominator"]:
        denominator = _fraction(found["denominator"])
        if not denominator:
            return None
        numerator = found["numerator"]
        top = Fraction(numerator.removeprefix(" and")) if numerator else None
        value = value / denominator if top is None else value + top / denominator
    magnitude = (found["magnitude"] or found["letter"] or "").lower()
    value *= 10 ** _MAGNITUDE.get(magnitude, 0)
    return Number(-value if found["sign"] == "-" else value, bool(found["percent"]))


def _fraction(digits: str) -> Fraction:
    """The value of what `_DIGITS` matches: the last mark is the decimal one, if it can be."""
    digits = re.sub(r"[ '_]", "", digits)
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?", digits):
        digits = digits.replace(",", "")
    elif digits.count(".") > 1 or ("." in digits and "," in digits):
        digits = digits.replace(".", "")
    return Fraction(digits.replace(",", "."))
