"""The value of a mathematical expression, in bounded time and memory.

Math-Verify compares two expressions, and may run without end. A key needs the value of one alone:
exact as far as it is rational, else a complex number. A variable stands for a fixed fraction, so
that `(x+1)(x-1)` and `x^2-1` have one value.
"""

from __future__ import annotations

import cmath
import hashlib
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

#: Longer expressions are no final answers.
MAX_CHARS = 200
MAX_DEPTH = 30
#: Numbers beyond are refused.
MAX_BITS = 4_000

Value = Fraction | complex

_TOKEN = re.compile(r"\s*(\\?[A-Za-z]+|\d+(?:\.\d+)?|\.\d+|[-+*/^(){}\[\]!])")
_SHORT_FRACTION = re.compile(r"(\\[dtc]?frac)\s?(\d)")
_NOTHING = re.compile(r"\\(?:left|right|displaystyle|[!,;: ])(?![A-Za-z])")
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "ln": cmath.log,
    "exp": cmath.exp,
}
_CONSTANTS: dict[str, Value] = {"pi": complex(cmath.pi), "e": complex(cmath.e), "i": 1j}
#: Signs of products, and whether they divide.
_DIVIDES = {"*": False, "cdot": False, "times": False, "/": True, "div": True}
_CLOSED_BY = {"(": ")", "{": "}", "[": "]"}


def value_of(expression: str) -> tuple[Value, str] | None:
    """The value of an expression in LaTeX or plain notation, and its variables, sorted.

    None if it is no such expression, as words, equations, lists and sets are not.

    Raises:
        OverflowError: it is one, and its value is too big.
    """
    text = _SHORT_FRACTION.sub(r"\1{\2}", _NOTHING.sub(" ", expression))
    tokens = list(_tokens(text)) if len(text) <= MAX_CHARS else []
    if not tokens or "" in tokens:
        return None
    parser = _Parser(tokens)
    try:
        value = parser.sum()
    except (_Unreadable, ValueError, ZeroDivisionError):  # ValueError: ln 0
        return None
    return None if parser.next else (value, "".join(sorted(parser.variables)))


class _Unreadable(Exception):
    """Raised where a text is no expression."""


def _tokens(text: str) -> Iterator[str]:
    """The tokens, commands without their backslash; an empty one where there can be none."""
    place, end = 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        yield found[1].removeprefix("\\") if found else ""
        place = found.end() if found else end


class _Parser:
    """Reads sums of products of powers; products need no sign, as in `2x(y+1)`."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]
        self._depth = 0
        self.variables: set[str] = set()

    @property
    def next(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def _take(self, *wanted: str) -> str:
        if not self.next or (wanted and self.next not in wanted):
            raise _Unreadable
        return self._tokens.pop()

    def sum(self) -> Value:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise OverflowError
        value = self._product()
        while self.next in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value = _bounded(value + sign * self._product())
        self._depth -= 1
        return value

    def _product(self) -> Value:
        value = self._signed()
        while self.next in _DIVIDES or re.match(r"[A-Za-z({]", self.next):
            divides = self.next in _DIVIDES and _DIVIDES[self._take()]
            by = self._signed()
            value = _bounded(value / by if divides else value * by)
        return value

    def _signed(self) -> Value:
        sign = 1 if self.next not in ("+", "-") or self._take() == "+" else -1
        return sign * self._power()

    def _power(self) -> Value:
        base = self._atom()
        if self.next != "^":
            return base
        self._take()
        return _power(base, self._signed())

    def _atom(self) -> Value:
        token = self._take()
        if token in _CLOSED_BY:
            value = self.sum()
            self._take(_CLOSED_BY[token])
            return value
        if re.match(r"\.|0(?!\d)|[1-9]", token):  # 007 is not 7
            return Fraction(token)
        if token.endswith("frac"):
            top = self._atom()
            return _bounded(top / self._atom())
        if token == "sqrt":
            degree = self._atom() if self.next == "[" else Fraction(2)
            return _power(self._atom(), 1 / degree)
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](complex(self._power()))
        return _CONSTANTS.get(token) or self._variable(token)

    def _variable(self, token: str) -> Value:
        if not re.fullmatch("[A-Za-z]", token):
            raise _Unreadable
        self.variables.add(token)
        seed = hashlib.blake2b(token.encode(), digest_size=2).digest()
        return Fraction(1 + int.from_bytes(seed, "big"), 9973)


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if _bits(base) * abs(exponent) > MAX_BITS:
            raise OverflowError
        return base ** int(exponent)
    return _bounded(complex(base) ** complex(exponent))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Value) -> Value:
    fits = _bits(value) <= MAX_BITS if isinstance(value, Fraction) else cmath.isfinite(value)
    if not fits:
        raise OverflowError
    return value
