"""One linear row at most: the price is found exactly by intersecting two assignments.

At every price the transportation problem has a whole optimum. Of two such optima, one short of
the need and one that meets it, the price at which both cost the same is tried next; when nothing
is cheaper there, that price is the dual optimum (Handler and Zang, Networks 10, 1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.optimize.program import TOLERANCE, Prices, Program
from aios_eccos.optimize.transport import slot_prices, transport
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
        slot_gains: (m,) gain that one more slot would add, where needs had to be lowered.
        split: rows that the relaxed optimum divides between columns.
        timed_out: whether time ran out before all this was settled.
    """

    choice: IntArray
    prices: Prices
    short: FloatArray
    slot_gains: FloatArray | None = None
    split: int = 0
    timed_out: bool = False


def solve_single(program: Program) -> Relaxed:
    """The dual optimum of a program with at most one linear row, and the assignment above it."""
    short, reach = np.zeros(len(program.need)), None
    low = high = transport(program.objective, program.capacity)
    price, gains, need = 0.0, np.zeros_like(program.objective), -np.inf
    if len(program.need) and not program.meets(low):
        gains = program.gains[0]
        steepest = program.objective - HIGHEST * gains
        high = transport(steepest, program.capacity)
        need = float(program.need[0]) - TOLERANCE * program.n
        if _gain(program, high) < need:
            short = program.need - program.gained(high)
            need = _gain(program, high) - TOLERANCE * program.n
            reach = slot_prices(steepest, high) / HIGHEST
    for _ in range(STEPS):
        if len(short) == 0 or _gain(program, low) >= need:
            break
        more = _gain(program, high) - _gain(program, low)
        price = (program.value(high) - program.value(low)) / more
        reduced = program.objective - price * gains
        middle = transport(reduced, program.capacity)
        gain = _gain(program, middle)
        ends = _total(reduced, low), _total(reduced, high)
        if _total(reduced, middle) >= min(ends) - 1e-12 * max(1.0, abs(ends[0])):
            break
        low, high = (low, middle) if gain >= need else (middle, high)
    slots = slot_prices(program.objective - price * gains, low)
    exact = price == 0 or _gain(program, high) <= need + 2 * TOLERANCE * program.n
    split = 0 if exact else int((low != high).sum())
    return Relaxed(high, Prices(np.full(len(short), price), slots), short, reach, split)


def _gain(program: Program, choice: IntArray) -> float:
    return float(program.gained(choice)[0])


def _total(reduced: FloatArray, choice: IntArray) -> float:
    return float(reduced[np.arange(len(choice)), choice].sum())
