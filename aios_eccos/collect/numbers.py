"""Numbers as people and models write them: signs, commas, currencies, units, fractions, percent.

Values are exact fractions, so that 0.1 + 0.2 is no question; digits and exponents are bounded, so
that no text makes a number that fills the memory.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from aios_eccos.collect.extract import WRAPPED

#: Relative and absolute difference that a rounded decimal may have; integers must be equal.
CLOSE = Fraction(1, 1_000_000)

_MAGNITUDE = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(
    r"""(?<![\w.^_])(?P<sign>[-+]?)
    (?P<whole>\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d{1,3}(?:[ ]\d{3})+(?![\d/])|\d{1,60})?
    (?P<decimals>\.\d{1,60})?
    (?:(?<=\d)e(?P<exponent>[-+]?\d{1,3}))?
    (?:(?P<numerator>[ ]\d{1,30})?[ ]?/[ ]?(?P<denominator>\d{1,30}(?:\.\d{1,30})?))?
    (?:\s?(?P<magnitude>thousand|million|billion|trillion)\b)?
    (?P<percent>\s?(?:%|percent\b|per[ ]cent\b|pct\b))?""",
    re.VERBOSE | re.IGNORECASE,
)
_FRACTION = re.compile(r"\\[dtc]?frac\s?(?:\{([^{}]{1,80})\}|(\d))\s?(?:\{([^{}]{1,80})\}|(\d))")
_POWER_OF_TEN = re.compile(
    r"\s?(?:\\times|\\cdot|×|\*|x)\s?10\s?\^\s?(?:\{([-+]?\d{1,3})\}|([-+]?\d{1,3}))"
)
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_EXPONENT_SIGNS = re.compile(r"(?<=[A-Za-z])[²³]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: `value` without regard to the percent sign, if it had one."""

    value: Fraction
    percent: bool = False


def plain(text: str) -> str:
    """The text with LaTeX and typography reduced to what `numbers_in` reads."""
    text = _EXPONENT_SIGNS.sub("", _VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKC", text)
    text = text.replace("\u2212", "-").replace("\u2013", "-").replace("\u2044", "/")
    text = text.replace("{,}", ",").replace("\\%", "%")
    text = re.sub(r"\\[!,;: ]|[$€£¥]|\\(?=\$)", "", text)
    text = WRAPPED.sub(r" \1", text)
    text = re.sub(r"(?<=\d)(?=\\[dtc]?frac)", " ", text)
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    return _POWER_OF_TEN.sub(lambda m: f"e{m[1] or m[2]}", text)


def numbers_in(text: str) -> Iterator[Number]:
    """The numbers of a text that went through `plain`, in order."""
    for found in _NUMBER.finditer(text):
        number = _value(found)
        if number is not None:
            yield number


def parse_whole(text: str) -> Number | None:
    """The number that the whole text is, but for blanks; None if it is anything else."""
    found = _NUMBER.fullmatch(plain(text).strip())
    return _value(found) if found else None


def same(one: Number, other: Number, tolerance: float | None = None) -> bool:
    """Whether two written numbers mean one value.

    `50 %` equals `0.5`, and also `50`, as the percent sign is no part of the number in MATH; but
    `0.5` does not equal `50`, and of two percentages both must be the same.
    """
    if one.percent == other.percent:
        return _close(one.value, other.value, tolerance)
    percentage, bare = (one, other) if one.percent else (other, one)
    return any(_close(percentage.value / by, bare.value, tolerance) for by in (1, 100))


def _value(found: re.Match[str]) -> Number | None:
    whole, decimals, numerator = found["whole"], found["decimals"], found["numerator"]
    if not whole and not decimals:
        return None
    value = Fraction((re.sub(r"[ ,]", "", whole or "0")) + (decimals or ""))
    value *= Fraction(10) ** int(found["exponent"] or 0)
    if found["denominator"]:
        denominator = Fraction(found["denominator"])
        if not denominator:
            return None
        value = value + Fraction(numerator) / denominator if numerator else value / denominator
    value *= 10 ** _MAGNITUDE.get((found["magnitude"] or "").lower(), 0)
    return Number(-value if found["sign"] == "-" else value, bool(found["percent"]))


def _close(one: Fraction, other: Fraction, tolerance: float | None) -> bool:
    if tolerance is not None:
        # A tolerance of .01 means 0.01, not the binary fraction just below it.
        return abs(one - other) <= Fraction(str(tolerance))
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= CLOSE * min(Fraction(1), abs(one))
