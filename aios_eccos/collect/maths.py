"""Whether two mathematical answers are one value, by Math-Verify.

What it lacks is here: plain notation, and numbers are compared exactly, within sets and tuples too,
where it would round. It may run without end on hostile input: call it in a `sandbox` only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from aios_eccos.collect.extract import TAIL, WORDS, WRAPPED, statements
from aios_eccos.collect.numbers import Number, parse_whole, same

#: Longer expressions are no final answers; they are compared as text alone.
MAX_SYMBOLIC = 400
#: Relative differences: of a rounded decimal, and what is left of two exact values at 50 digits.
ROUNDED, EXACT = 1.000001e-6, 1e-30

_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_PROSE = re.compile(r"[A-Za-z'’]{2,}[ ,]+[A-Za-z'’]+[ ,]+[A-Za-z'’]+")
_REASON = re.compile(r"(?:,? (?:because|as|since|which|where|so that)\b|\. [A-Z]).*", re.DOTALL)
_SPACES = re.compile(r"\\[!,;: ]|\\q?quad\b|~|\s")
_DELIMITERS = re.compile(r"^(?:\\\(|\\\[|\$\$?)|(?:\\\)|\\\]|\$\$?)$")
_DEGREES = re.compile(r"\^\{?\\circ\}?|°")
_UNIT = re.compile(
    r"(?<=[\d})])(?:\\[,;:! ]|[~\s]){0,9}"
    r"\\(?:text|mathrm|textrm|textnormal|textbf|mbox)\{[^{}]*\}(?:\^\{?\d\}?)?\.?$"
)
_UNIT_WORDS = re.compile(r"(?<=\d)\s(?:[a-z]{2,}\s?)+$")
_LABEL = re.compile(r"^([A-Za-z](?:_\w|\([a-z]\))?)\s{0,9}(?:=|\\in(?![a-z]))\s{0,9}(?=[^=]*$)")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
#: What stands in round brackets, with others in it one deep.
_INSIDE = r"((?:[^()]|\([^()]*\))*)"
_NAMES = "|".join(WORDS["functions"])
#: Plain notation as models write it, and the LaTeX that Math-Verify reads.
_REWRITTEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\*\*", "^"),
        (r"^\+\s?/?\s?-", r"\\pm "),
        (rf"(?<![\\A-Za-z])(?<!text\{{)(?<!mathrm\{{)(?<!name\{{)({_NAMES})(?![A-Za-z])", r"\\\1 "),
        (rf"√\s?(?:\({_INSIDE}\)|(\d+|[a-z]))", r"\\sqrt{\1\2}"),
        (rf"∛\s?(?:\({_INSIDE}\)|(\d+|[a-z]))", r"\\sqrt[3]{\1\2}"),
        (rf"\\sqrt\s?\({_INSIDE}\)", r"\\sqrt{\1}"),
        (rf"\\?\bexp\s?\({_INSIDE}\)", r"e^{\1}"),
        (r"\^(-\w+)", r"^{\1}"),
        (r"\\langle", "("),
        (r"\\rangle", ")"),
        (r"(?<=\d)i(?![A-Za-z])", " i"),
    )
]
_REPEATING = re.compile(
    r"(\d*)\.(?:(\d*)(?:\\overline\{(\d+)\}|\\(?:dot|bar)\{(\d+)\}|\((\d+)\))"
    r"|(\d*?)(\d{1,3}?)\7{2,}(?:\.{2,3}|\\l?dots))"
)


def final_math(text: str) -> str | None:
    """The expression, LaTeX or plain, that an answer ends with; None if it breaks off."""
    for statement in statements(text):
        if statement.text is None:
            return None
        span = _MATH.search(statement.text)
        if span or statement.last or not _PROSE.search(statement.text):
            return _span(span) if span else _REASON.sub("", statement.text)
    lines = text[-TAIL:].strip().splitlines()[-3:]
    spans = list(_MATH.finditer("\n".join(lines)))
    return _span(spans[-1]) if spans else "".join(lines[-1:])


def equal(reference: str, answer: str) -> bool:
    """Whether `answer` is `reference`, both LaTeX or plain; not symmetric where sets are given."""
    reference, answer = latex(reference), latex(answer)
    wanted, got = normalize(reference), normalize(answer)
    if not got:
        return False
    if wanted.casefold() == got.casefold():
        return wanted == got or wanted.isalpha()
    numbers = _number(reference, commas=False), _number(answer, commas="," not in reference)
    if numbers[0] and numbers[1]:
        return same(numbers[0], numbers[1])
    if max(len(wanted), len(got)) > MAX_SYMBOLIC or re.search(r"\d:\d", wanted + got):
        return False
    if {reference[:1], answer[:1]} in ({"(", "\\"}, {"[", "\\"}) and "\\{" in (
        reference[:2],
        answer[:2],
    ):
        return False  # a tuple or an interval, and a set
    return _symbolically_equal(*(_UNIT.sub("", side) for side in (reference, answer)))


def latex(expression: str) -> str:
    """The expression in LaTeX, whatever mix of LaTeX, plain and typographic notation it is in."""
    text = re.sub(r"(?<!\.)\.$", "", expression.strip("*_` \n")).strip("*_` ")
    text = _DELIMITERS.sub("", text).strip()
    text = re.sub(r"[⁰¹²³⁴-⁹⁻⁺]+", lambda m: "^{" + unicodedata.normalize("NFKC", m[0]) + "}", text)
    text = re.sub(r"(\d?)([¼-¾⅐-⅞])", _vulgar, text)
    text = text.translate(str.maketrans(WORDS["symbols"])).replace("\\\\boxed", "\\boxed")
    if len(text) <= MAX_SYMBOLIC:
        for pattern, replacement in _REWRITTEN:
            text = pattern.sub(replacement, text)
        text = _REPEATING.sub(_repeating, text)
    text = re.sub(r"(?<=\d)(?:,\\!\s?|\{,\})(?=\d{3})", ",", text)
    return _DEGREES.sub("", text).strip()


def normalize(expression: str) -> str:
    """The expression as text, without blanks, labels, units and the marks around words."""
    text = re.sub(r"\\?[$%]", "", expression).strip()
    text = _UNIT_WORDS.sub("", _UNIT.sub("", text))
    text = _SPACES.sub("", _LABEL.sub("", WRAPPED.sub(r"\1", text)))
    return re.sub(r"^\(([A-Za-z])\)$", r"\1", text)


def _span(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def _vulgar(found: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", found[2]).split("\u2044")
    return f"{found[1]}\\frac{{{top}}}{{{bottom}}}"


def _repeating(found: re.Match[str]) -> str:
    """A decimal whose last digits repeat for ever, as a fraction."""
    lead, head = found[1] or "0", found[2] or found[6] or ""
    again = found[3] or found[4] or found[5] or found[7]
    value = Fraction(int(lead + head + again) - int(lead + head), 10 ** len(head)) / (
        10 ** len(again) - 1
    )
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _number(expression: str, *, commas: bool) -> Number | None:
    """The number that it is, units left out; a comma is decimal only where no list can be meant."""
    text = _LABEL.sub("", expression)
    if "," in text and not commas and not _THOUSANDS.fullmatch(re.sub(r"[\s$\\%]", "", text)):
        return None
    bare = _UNIT_WORDS.sub("", WRAPPED.sub(r"\1", _UNIT.sub("", text)))
    return parse_whole(text) or parse_whole(bare)


def _symbolically_equal(reference: str, answer: str) -> bool:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # Its list of units has `t`, `s`, `m`: variables would be taken off.
    config = LatexExtractionConfig(
        normalization_config=NormalizationConfig(malformed_operators=True, boxed="none")
    )

    # The sandbox has the time limit; Math-Verify's own one needs signals and whole seconds.
    sides = [
        parse(f"${side}$", [config], "no_fallback", parsing_timeout=None)
        for side in (reference, answer)
    ]
    return all(sides) and _same(sides[0][0], sides[1][0])


def _same(one: Any, other: Any) -> bool:
    """Whether two parsed answers are one: numbers exactly, what holds numbers part by part."""
    from math_verify import verify
    from sympy import Eq, FiniteSet, Interval, Tuple
    from sympy.core.function import AppliedUndef

    values = _value(one), _value(other)
    if None not in values:
        return _same_value(*values)
    if isinstance(one, FiniteSet) and isinstance(other, FiniteSet):
        return _same_members(one.args, other.args)
    if isinstance(one, (FiniteSet, Interval, Tuple)) and isinstance(
        other, (FiniteSet, Interval, Tuple)
    ):
        sides = _parts(one), _parts(other)
        return len(sides[0]) == len(sides[1]) and all(map(_same, *sides))
    if isinstance(other, Eq) and not isinstance(one, Eq):
        # Math-Verify takes the right side of any equation; `2x = 10` is not 10.
        named = other.lhs.is_Symbol or isinstance(other.lhs, AppliedUndef)
        return (named or not other.lhs.free_symbols) and _same(one, other.rhs)
    return bool(verify([one], [other], allow_set_relation_comp=True, timeout_seconds=None))


def _same_members(wanted: Sequence[Any], got: Sequence[Any]) -> bool:
    left = list(got)
    for part in wanted:
        found = next((member for member in left if _same(part, member)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _parts(holder: Any) -> list[Any]:
    """The parts of a tuple, a set or an interval in their order, and which ends are open."""
    from sympy import Interval

    if isinstance(holder, Interval):
        ends = [] if holder.is_open else [holder.left_open, holder.right_open]
        return [holder.start, holder.end, *ends]
    return list(getattr(holder, "_unsorted_args", holder.args))


def _value(parsed: Any) -> Any:
    """The sympy number that an expression is; None for anything with a variable, and for sets."""
    from sympy import Expr

    number = parsed.doit() if isinstance(parsed, Expr) else None
    return number if number is not None and number.is_number and number.is_finite else None


def _same_value(one: Any, other: Any) -> bool:
    """Exactly the same, or, where either is a decimal, but for rounding."""
    from sympy import Float, N, Rational

    if isinstance(one, Rational) and isinstance(other, Rational):
        return bool(one == other)
    scale = min(1.0, abs(complex(N(one, 50))))
    relative = ROUNDED if one.has(Float) or other.has(Float) else EXACT
    return bool(abs(N(one - other, 50)) <= relative * scale)
