"""Solves a program of a few hundred rows outright, and rounds it to whole rows.

With one linear row at most, its price is found exactly by intersecting two assignments: at every
price the transportation problem has a whole optimum. Of two such optima, one short of the need and
one that meets it, the price at which both cost the same is tried next; when nothing is cheaper
there, that price is the dual optimum (Handler and Zang, Networks 10, 1980). With several, the
linear program is solved and its divided rows are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.live.transport import slot_prices, transport
from aios_eccos.decide.whole import lp
from aios_eccos.decide.whole.exchange import exchange
from aios_eccos.decide.whole.fit import fit
from aios_eccos.decide.whole.program import TOLERANCE, Prices, Program, Relaxed, largest
from aios_eccos.values import FloatArray, IntArray

HIGHEST = 1e9
"""Price at which gain is all that counts: one unit of it outweighs 1e9 objectives."""

BY_PRICE = 256
"""Rows up to which a price is found by assignments, which take n^3 each; beyond, by the LP."""

STEPS = 200
"""Prices tried at most; a dozen do."""

RAISES = 50
"""Times that prices are raised until every need is met."""


def outright(program: Program, near: Prices | None = None, ceiling: float = np.inf) -> Relaxed:
    """The dual optimum, and a whole assignment at it.

    Args:
        near: prices from which to start; saves most steps if they are near.
        ceiling: what a unit of unmet need costs; if finite, needs that cannot be met are weighed
            against the objective at that price, else they are lowered just as far as they must be.
    """
    if len(program.need) > 1 or program.n > BY_PRICE:
        return _by_lp(program, ceiling)
    if not len(program.need):
        point = _at(program, 0.0)
        return _between(program, point, point, 0.0, np.zeros(0))
    return _by_price(program, 0.0 if near is None else float(near.rows.sum()), ceiling)


@dataclass(frozen=True)
class _Point:
    """An assignment with its objective and its gain in the one linear row."""

    choice: IntArray
    value: float
    gain: float


def _by_price(program: Program, guess: float, ceiling: float) -> Relaxed:
    """One linear row."""
    need = float(program.need[0]) - TOLERANCE * program.n
    low, high = _around(program, need, guess)
    low = low or _at(program, 0.0)
    if low.gain >= need:
        return _between(program, low, low, 0.0, np.zeros(1))
    high = high or _at(program, min(ceiling, HIGHEST * largest(program.objective)))
    short = np.zeros(1)
    if high.gain < need:
        short = program.need - high.gain
        if ceiling < np.inf:
            return _between(program, high, high, ceiling, short)
        need = high.gain - TOLERANCE * program.n
        if low.gain >= need:
            return _between(program, low, low, 0.0, short)
    price = 0.0
    for _ in range(STEPS):
        price = (high.value - low.value) / (high.gain - low.gain)
        middle = _at(program, price)
        known = low.value - price * low.gain
        if middle.value - price * middle.gain >= known - 1e-12 * max(1.0, abs(known)):
            break
        low, high = (low, middle) if middle.gain >= need else (middle, high)
    return _between(program, low, high, price, short)


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


def _between(
    program: Program, low: _Point, high: _Point, price: float, short: FloatArray
) -> Relaxed:
    """The assignment above the need, made cheaper, and the price at which both cost the same."""
    prices = Prices(np.full(len(short), price), np.zeros(program.m))
    slots = slot_prices(program.reduced(prices), low.choice)
    prices = replace(prices, slots=slots)
    if high is low:
        return Relaxed(high.choice, prices, short)
    choice = exchange(program.lowered(short), high.choice, prices)
    exact = price == 0 or high.gain <= program.need[0] - short[0] + TOLERANCE * program.n
    split = 0 if exact else int((low.choice != high.choice).sum())
    return Relaxed(choice, prices, short, split)


def _by_lp(program: Program, ceiling: float) -> Relaxed:
    """Several linear rows: the whole LP, then rounding."""
    short = np.zeros(len(program.need))
    answer = lp.relaxed(program, penalty=ceiling if ceiling < np.inf else None)
    if answer is None:  # out of reach: first what is missing at least
        blank = np.where(program.columns(), 0.0, np.inf)
        missing = lp.relaxed(replace(program, objective=blank), penalty=1.0)
        if missing is not None:
            short = missing.short
            answer = lp.relaxed(program.lowered(short))
    if answer is None:  # no LP was solved: as much gain as there is
        prices = Prices(np.full(len(program.need), HIGHEST), np.zeros(program.m))
        choice, split = transport(program.reduced(prices), program.capacity), 0
    else:
        prices, short = answer.prices, short + answer.short
        choice, split = _rounded(program.lowered(short), answer, met=not short.any())
    gone = program.need - short - program.gained(choice)
    short = short + np.where(gone > TOLERANCE * program.n, gone, 0.0)
    return Relaxed(choice, prices, short, split)


def _rounded(program: Program, answer: lp.LpAnswer, *, met: bool) -> tuple[IntArray, int]:
    """Whole rows from an LP's shares: exchanges, raised prices, exact search.

    Only of needs that the shares have met: no whole rows meet what was lowered to the shares.
    """
    choice: IntArray = np.argmax(answer.shares, axis=1).astype(np.int64)
    split = np.flatnonzero(answer.shares.max(axis=1) < 1 - 1e-6)
    if not len(split):
        return choice, 0
    choice = fit(program.reduced(answer.prices), choice, program.capacity)
    choice = exchange(program, choice, answer.prices)
    if program.meets(choice) or not met:
        return choice, len(split)
    whole = _raised(program, answer.prices) if program.n <= BY_PRICE else None
    if whole is None:
        whole = lp.exact(program)
    if whole is None:
        whole = transport(program.reduced(answer.prices), program.capacity)
    return exchange(program, whole, answer.prices), len(split)


def _raised(program: Program, prices: Prices) -> IntArray | None:
    """Raises the prices of needs that are missed until none is; None if that does not help."""
    raised, step = prices.rows.copy(), np.full(len(prices.rows), 1e-4)
    for _ in range(RAISES):
        choice = transport(program.reduced(Prices(raised, np.zeros(program.m))), program.capacity)
        short = program.gained(choice) < program.need - TOLERANCE * program.n
        if not short.any():
            return choice
        raised[short] = raised[short] * (1 + step[short]) + 1e-3 * step[short]
        step[short] *= 2
    return None
