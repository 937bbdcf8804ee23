"""Solves a program of any size: whole rows, with the prices that prove how near the optimum is.

A large program is smoothed first (`smooth`), which gives near-optimal prices for all its rows. At
those prices most rows have one best column. The few hundred nearest to a tie, the core, are then
solved as an LP and rounded, all others keeping their choice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aios_eccos.decide.live.servable import servable
from aios_eccos.decide.live.transport import transport
from aios_eccos.decide.whole import lp
from aios_eccos.decide.whole.program import TOLERANCE, Program, Relaxed
from aios_eccos.decide.whole.rounding import exchange, fit
from aios_eccos.decide.whole.smooth import anneal, dealt
from aios_eccos.values import FloatArray, IntArray

SMALL = 120
"""Rows up to which a program is solved outright: smoothing takes longer."""

CORES = (120, 600)
"""Rows of the core; the second size if the first did not do."""

EXCHANGED = 2_000
"""Rows among which whole rows are exchanged after rounding."""

WIDTH = 3.0
"""A column is left out of the core where its reduced cost exceeds the row's least by more than this
many times the core's widest margin."""

GAP = 1e-6
"""Relative gap at which nothing more is tried."""

FEW, FAR = 100, 0.5
"""Rows up to which, and relative gap from which on, the best whole rows are searched for."""

HIGHEST = 1e9
"""Price at which gain is all that counts: one unit of it outweighs 1e9 objectives."""


def relax(program: Program) -> Relaxed:
    """A near-optimal assignment. Needs that cannot be met fall short by as little as they must."""
    count = len(program.need)
    choice: IntArray = np.argmin(program.objective, axis=1).astype(np.int64)
    if (program.free(choice) >= 0).all() and program.meets(choice):
        return Relaxed(choice, np.zeros(count + program.m), np.zeros(count))
    if program.n <= SMALL:
        return _outright(program)
    found = _large(program)
    return _at_the_edge(program, found) if found.misses else found


def _at_the_edge(program: Program, found: Relaxed) -> Relaxed:
    """Needs that `found` misses: out of reach, or met at prices too high for smoothing.

    The least shortfall comes first, the objective only breaks its ties.
    """
    weight = GAP / program.largest
    nearer = replace(program, objective=program.objective * weight)
    reached = _large(nearer, ceiling=1.0)
    if not reached.misses:  # within reach: the objective counts again
        settled = _settled(program, found.prices, reached.choice)
        return replace(reached, prices=settled.prices) if settled.misses else settled
    near = float(reached.short.sum()) <= GAP * program.n
    possible = not near and nearer.bound(reached.prices) <= GAP * program.n
    if possible and (answer := lp.relaxed(program)) is not None:
        return _settled(program, answer.prices, dealt(answer.shares.T))
    short = np.maximum(program.need - program.gained(reached.choice), 0.0)
    return replace(reached, prices=reached.prices / weight, short=short)


def _large(program: Program, ceiling: float = np.inf) -> Relaxed:
    """Smoothed prices, then the rows that they leave open."""
    size = np.abs(program.objective[np.isfinite(program.objective)]).mean()
    noise = np.random.default_rng(0).random(program.objective.shape) * (GAP * size)
    program = replace(program, objective=program.objective + noise)  # tells ties apart
    prices, choice = anneal(program, unsettled=CORES[0] // 2, ceiling=ceiling)
    return _settled(program, prices, choice, ceiling)


def _settled(
    program: Program, prices: FloatArray, choice: IntArray, ceiling: float = np.inf
) -> Relaxed:
    """Solves the core outright, all other rows keeping their choice."""
    reduced = program.reduced(prices)
    base = fit(reduced, choice, program.capacity)
    order, margin = _by_nearness(program, reduced, base)
    wide = order[:EXCHANGED]
    for size in CORES:
        core = order[:size]
        part = program.part(core, base)
        widest = float(margin[core][np.isfinite(margin[core])].max(initial=0.0))
        found = _outright(_pruned(part, reduced[core], WIDTH * widest), ceiling)
        choice = base.copy()
        choice[core] = found.choice
        near = program.lowered(found.short).part(wide, choice)
        choice[wide] = exchange(near, choice[wide], found.prices)
        found = replace(found, choice=choice)
        # What the LP over all rows would cost, if the rows outside the core are right.
        whole = program.value(base) - part.value(base[core]) + part.bound(found.prices)
        near_enough = whole - program.bound(found.prices) <= GAP * abs(whole)
        if near_enough and not (found.misses and ceiling == np.inf):
            return found
    return replace(found, prices=max(found.prices, prices, key=program.bound))


def _by_nearness(
    program: Program, reduced: FloatArray, choice: IntArray
) -> tuple[IntArray, FloatArray]:
    """(n,) the rows, nearest to another column first, and (n,) their margins.

    Nearness is counted in the objective and as a share of what is at stake, by turns: with costs
    of many sizes, the row that settles a price may be far from a tie in dollars. Rows that are not
    on their best column are the nearest of all; ties are in random order.
    """
    n, every = program.n, np.arange(program.n)
    if program.m == 1:
        return every, np.full(n, np.inf)
    two = np.argpartition(reduced, 1, axis=1)
    first, second = two[:, 0], two[:, 1]
    margin = reduced[every, second] - reduced[every, first]
    margin[reduced[every, choice] > reduced[every, first]] = 0.0
    stake = np.abs(program.objective[every, second] - program.objective[every, first])
    share = np.full(n, np.inf)  # no second column
    np.divide(margin, stake + 1e-30, out=share, where=margin < np.inf)
    mixed, rank = np.random.default_rng(0).permutation(n), np.full(n, n)
    for measure in (margin, share):
        order = mixed[np.argsort(measure[mixed], kind="stable")]
        rank[order] = np.minimum(rank[order], every)
    return np.argsort(rank, kind="stable"), margin


def _pruned(program: Program, reduced: FloatArray, width: float) -> Program:
    """Without the pairs that are far from their row's best column, if the rows still fit."""
    near = reduced <= reduced.min(axis=1, keepdims=True) + width
    if not servable(near, program.capacity)[0].all():
        return program
    return replace(program, objective=np.where(near, program.objective, np.inf))


def _outright(program: Program, ceiling: float = np.inf) -> Relaxed:
    """The LP's prices, and a whole assignment at them.

    A unit of unmet need costs `ceiling`; if infinite, needs that cannot be met are lowered just as
    far as they must be.
    """
    short = np.zeros(len(program.need))
    answer = lp.relaxed(program, penalty=ceiling)
    if answer is None:  # out of reach: first what is missing at least
        blank = np.where(np.isfinite(program.objective), 0.0, np.inf)
        missing = lp.relaxed(replace(program, objective=blank), penalty=1.0)
        if missing is not None:
            short = missing.short
            answer = lp.relaxed(program.lowered(short))
    if answer is None:  # no LP was solved: as much gain as there is
        prices = np.append(np.full(len(program.need), HIGHEST), np.zeros(program.m))
        choice, split = transport(program.reduced(prices), program.capacity), 0
    else:
        prices, short = answer.prices, short + answer.short
        choice, split = _rounded(program.lowered(short), answer, met=not short.any())
    gone = program.need - short - program.gained(choice)
    short = short + np.where(gone > TOLERANCE * program.n, gone, 0.0)
    return Relaxed(choice, prices, short, split)


def _rounded(program: Program, answer: lp.LpAnswer, *, met: bool) -> tuple[IntArray, int]:
    """Whole rows from an LP's shares, by exchanges, else by exact search; and how many are split.

    Only of needs that the shares have met: no whole rows meet what was lowered to the shares.
    """
    choice: IntArray = np.argmax(answer.shares, axis=1).astype(np.int64)
    split = int((answer.shares.max(axis=1) < 1 - 1e-6).sum())
    if not split:
        return choice, 0
    choice = fit(program.reduced(answer.prices), choice, program.capacity)
    choice = exchange(program, choice, answer.prices)
    value = program.value(choice)
    far = program.n <= FEW and value - program.bound(answer.prices) > FAR * abs(value)
    if not met or (program.meets(choice) and not far):
        return choice, split
    whole = lp.exact(program)
    if whole is None:
        whole = transport(program.reduced(answer.prices), program.capacity)
    whole = exchange(program, whole, answer.prices)
    return min(
        choice, whole, key=lambda each: (not program.meets(each), program.value(each))
    ), split
