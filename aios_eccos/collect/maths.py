"""Whether two LaTeX answers are one value: MATH's own rules first, then symbolic comparison.

`normalize` follows `math_equivalence.py` of the MATH data set (Hendrycks et al. 2021) and the
additions of Minerva (Lewkowycz et al. 2022, appendix D.1). What it leaves different goes to
math-verify (sympy). That may run without end on hostile input: call it in a `sandbox` only.
"""

from __future__ import annotations

import re

from aios_eccos.collect.extract import WRAPPED
from aios_eccos.collect.numbers import parse_whole, same

#: Longer expressions are no final answers; they are compared as text alone.
MAX_SYMBOLIC = 400

_SPACES = re.compile(r"\\[!,;: ]|\\q?quad\b|~|\s")
_DELIMITERS = re.compile(r"^(?:\\\(|\\\[|\$\$?)|(?:\\\)|\\\]|\$\$?)$")
_DEGREES = re.compile(r"\^\{?\\circ\}?|°")
_DROPPED = re.compile(r"\\left|\\right|\\?\$|\\?%")
_UNIT = re.compile(r"(?<=[\d})])\s{0,9}\\(?:text|mathrm|textrm|mbox)\{[^{}]*\}(?:\^\{?\d\}?)?\.?$")
_UNIT_SPACED = re.compile(r"\\(?:text|mbox)\{\s[^{}]*\}(?:\^\{?\d\}?)?$")
_LABEL = re.compile(r"^[A-Za-z]\w?\s{0,9}=\s{0,9}(?=[^=]*$)")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def normalize(expression: str) -> str:
    """The expression in the one form that MATH compares."""
    text = re.sub(
        r"\\[dtc]frac", r"\\frac", _bare(expression).replace("\\\\", "\\").replace("{,}", ",")
    )
    text = _DROPPED.sub("", text.replace("\\!", ""))
    text = _UNIT.sub("", _UNIT_SPACED.sub("", text.strip()))
    text = _SPACES.sub("", _LABEL.sub("", WRAPPED.sub(r"\1", text)))
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    text = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text)
    text = re.sub(r"^(-?\d+)/(\d+)$", r"\\frac{\1}{\2}", text)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    return re.sub(r"^(-?)0+(?=\d)", r"\1", text)


def equal(reference: str, answer: str) -> bool:
    """Whether `answer` is `reference`, both LaTeX or plain; not symmetric where sets are given."""
    wanted, got = normalize(reference), normalize(answer)
    if not got:
        return False
    if wanted.casefold() == got.casefold():
        return wanted == got or wanted.isalpha()
    numbers = parse_whole(reference), parse_whole(answer)
    if numbers[0] and numbers[1]:
        return same(numbers[0], numbers[1])
    if max(len(wanted), len(got)) > MAX_SYMBOLIC:
        return False
    return _symbolically_equal(reference, answer)


def _symbolically_equal(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    # The sandbox has the time limit; math-verify's own one needs signals and whole seconds.
    sides = [parse(f"${_bare(side)}$", parsing_timeout=None) for side in (reference, answer)]
    return bool(verify(sides[0], sides[1], timeout_seconds=None))


def _bare(expression: str) -> str:
    """Without delimiters, full stop and signs of degrees."""
    text = expression.strip().removesuffix(".").strip()
    return _DEGREES.sub("", _DELIMITERS.sub("", text)).strip()
