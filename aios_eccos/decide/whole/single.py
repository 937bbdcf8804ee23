"""One linear row at most: the price is found exactly by intersecting two assignments.

At every price the transportation problem has a whole optimum. Of two such optima, one short of
the need and one that meets it, the price at which both cost the same is tried next; when nothing
is cheaper there, that price is the dual optimum (Handler and Zang, Networks 10, 1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.decide.live.transport import slot_prices, transport
from aios_eccos.decide.whole.program import TOLERANCE, Prices, Program
from aios_eccos.values import FloatArray, IntArray

HIGHEST = 1e9
"""Price at which gain is all that counts: one unit of it outweighs 1e9 objectives."""

STEPS = 200


@dataclass(frozen=True)
class Relaxed:
    """What a relaxation found.

    Attributes:
        choice: an assignment that keeps the limits, and the needs less `short`.
        prices: near the dual optimum.
        short: (K,) what the needs had to be lowered by to be met at all.
        split: rows that the relaxed optimum divides between columns.
    """

    choice: IntArray
    prices: Prices
    short: FloatArray
    split: int = 0


@dataclass(frozen=True)
class _Point:
    """An assignment with its objective and its gain in the one linear row."""

    choice: IntArray
    value: float
    gain: float


def solve_single(program: Program, guess: float = 0.0, ceiling: float = np.inf) -> Relaxed:
    """The dual optimum of a program with at most one linear row, and the assignment above it.

    Args:
        guess: where the price may be; saves most steps if it is near.
        ceiling: what a unit of unmet need costs; if finite, needs that cannot be met are weighed
            against the objective at that price, else they are lowered just as far as they must be.
    """
    if not len(program.need):
        point = _at(program, 0.0)
        return _relaxed(program, point, point, 0.0, np.zeros(0))
    need = float(program.need[0]) - TOLERANCE * program.n
    low, high = _around(program, need, guess)
    low = low or _at(program, 0.0)
    if low.gain >= need:
        return _relaxed(program, low, low, 0.0, np.zeros(1))
    highest = min(ceiling, HIGHEST * largest(program.objective))
    high = high or _at(program, highest)
    short = np.zeros(1)
    if high.gain < need:
        short = program.need - high.gain
        need = high.gain - TOLERANCE * program.n
        if ceiling < np.inf:
            return _relaxed(program, high, high, ceiling, short)
        if low.gain >= need:
            high = low
    price = 0.0
    for _ in range(STEPS if high is not low else 0):
        price = (high.value - low.value) / (high.gain - low.gain)
        middle = _at(program, price)
        known = low.value - price * low.gain
        if middle.value - price * middle.gain >= known - 1e-12 * max(1.0, abs(known)):
            break
        low, high = (low, middle) if middle.gain >= need else (middle, high)
    return _relaxed(program, low, high, price, short)


def _around(program: Program, need: float, guess: float) -> tuple[_Point | None, _Point | None]:
    """Assignments short of and above the need, at prices near the guess, where there are any."""
    low: _Point | None = None
    high: _Point | None = None
    if guess > 0:
        for factor in (0.99, 1.01, 0.9, 1.1):
            if (low if factor < 1 else high) is None:
                point = _at(program, factor * guess)
                low, high = (low, point) if point.gain >= need else (point, high)
    return low, high


def _at(program: Program, price: float) -> _Point:
    """The best assignment at a price, by limits alone."""
    reduced = program.objective
    if price:
        reduced = reduced - price * program.gains[0]
    choice = transport(reduced, program.capacity)
    gain = float(program.gained(choice)[0]) if len(program.need) else 0.0
    return _Point(choice, program.value(choice), gain)


def _relaxed(
    program: Program, low: _Point, high: _Point, price: float, short: FloatArray
) -> Relaxed:
    prices = Prices(np.full(len(short), price), np.zeros(program.m))
    slots = slot_prices(program.reduced(prices), low.choice)
    exact = price == 0 or high.gain <= program.need[0] - short[0] + TOLERANCE * program.n
    split = 0 if exact else int((low.choice != high.choice).sum())
    return Relaxed(high.choice, Prices(prices.rows, slots), short, split=split)


def largest(objective: FloatArray) -> float:
    """Largest finite magnitude, 1 if there is none but 0."""
    finite = np.abs(objective[np.isfinite(objective)])
    return float(finite.max(initial=0.0)) or 1.0
