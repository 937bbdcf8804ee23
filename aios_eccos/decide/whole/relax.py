"""Solves a program of any size: whole rows, with the prices that prove how near the optimum is.

A large program is smoothed first (`smooth`), which gives near-optimal prices for all its rows. At
those prices most rows have one best column. The few hundred nearest to a tie, the core, are then
solved outright (`small`), all others keeping their choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.live.servable import servable
from aios_eccos.decide.whole import lp
from aios_eccos.decide.whole.exchange import exchange
from aios_eccos.decide.whole.fit import fit
from aios_eccos.decide.whole.program import Prices, Program, Relaxed, largest
from aios_eccos.decide.whole.small import outright
from aios_eccos.decide.whole.smooth import Soft, anneal, dealt
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

STEEP = 1e3
"""Price of a need, in the largest objective, beyond which it is at its edge or out of reach."""

GAP = 1e-6
"""Relative gap at which nothing more is tried; also the noise by which ties are broken."""


def relax(program: Program) -> Relaxed:
    """A near-optimal assignment. Needs that cannot be met fall short by as little as they must."""
    choice: IntArray = np.argmin(program.objective, axis=1).astype(np.int64)
    if (program.free(choice) >= 0).all() and program.meets(choice):
        return Relaxed(choice, program.no_prices(), np.zeros(len(program.need)))
    if program.n <= SMALL:
        return outright(program)
    found = _large(program)
    return _at_the_edge(program, found) if found.misses(program.n) else found


def _at_the_edge(program: Program, found: Relaxed) -> Relaxed:
    """Needs that `found` misses: out of reach, or met at prices too high for smoothing.

    The least shortfall comes first, the objective only breaks its ties.
    """
    weight = GAP / largest(program.objective)
    nearer = replace(program, objective=program.objective * weight)
    reached = _large(nearer, ceiling=1.0)
    if not reached.misses(program.n):  # within reach: the objective counts again
        settled = _settled(program, Soft(found.prices, reached.choice, 0.0, 0))
        if not settled.misses(program.n):
            return settled
        return replace(reached, prices=settled.prices)
    out_of_reach = nearer.bound(reached.prices) > GAP * program.n
    near = float(reached.short.sum()) <= GAP * program.n
    if not (out_of_reach or near) and (answer := lp.relaxed(program)) is not None:
        return _settled(program, Soft(answer.prices, dealt(answer.shares.T), 0.0, 0))
    short = np.maximum(program.need - program.gained(reached.choice), 0.0)
    prices = Prices(reached.prices.rows / weight, reached.prices.slots / weight)
    return replace(reached, prices=prices, short=short)


def _large(program: Program, ceiling: float = np.inf) -> Relaxed:
    """Smoothed prices, then the rows that they leave open."""
    soft = anneal(program, unsettled=CORES[0] // 2, ceiling=ceiling)
    if soft.open > CORES[-1] // 2:  # ties: noise tells them apart
        typical = abs(soft.value) / program.n + 1e-12
        noise = np.random.default_rng(0).random(program.objective.shape) * (GAP * typical)
        program = replace(program, objective=program.objective + noise)
        start = soft.prices, GAP * typical
        soft = anneal(program, unsettled=CORES[0] // 2, ceiling=ceiling, start=start)
    return _settled(program, soft, ceiling)


def _settled(program: Program, soft: Soft, ceiling: float = np.inf) -> Relaxed:
    """Solves the core outright, all other rows keeping their choice."""
    reduced = program.reduced(soft.prices)
    base = fit(reduced, soft.choice, program.capacity)
    nearness = _Nearness.of(program, reduced, base)
    wide = nearness.nearest(EXCHANGED)
    for size in CORES:
        core = nearness.nearest(size)
        part = program.part(core, base)
        pruned = _pruned(part, reduced[core], WIDTH * nearness.widest(core))
        found = outright(pruned, soft.prices, ceiling)
        choice = base.copy()
        choice[core] = found.choice
        near = program.lowered(found.short).part(wide, choice)
        choice[wide] = exchange(near, choice[wide], found.prices)
        found = replace(found, choice=choice)
        if found.misses(program.n) and ceiling == np.inf:
            if soft.prices.rows.max() > STEEP * largest(program.objective):
                return found
            continue
        # What the LP over all rows would cost, if the rows outside the core are right.
        whole = program.value(base) - part.value(base[core]) + part.bound(found.prices)
        if whole - program.bound(found.prices) <= GAP * abs(whole):
            return found
    prices = max((found.prices, soft.prices), key=program.bound)
    return replace(found, prices=prices)


def _pruned(program: Program, reduced: FloatArray, width: float) -> Program:
    """Without the pairs that are far from their row's best column, if the rows still fit."""
    near = reduced <= reduced.min(axis=1, keepdims=True) + width
    if not servable(near, program.capacity)[0].all():
        return program
    return replace(program, objective=np.where(near, program.objective, np.inf))


@dataclass(frozen=True)
class _Nearness:
    """How far rows are from another column: in the objective, and as a share of what is at stake.

    With costs of many sizes, the row that settles a price may be far from a tie in dollars.

    Attributes:
        margin, share: (n,). mixed: (n,) the rows in random order, so that ties have none.
    """

    margin: FloatArray
    share: FloatArray
    mixed: IntArray

    @classmethod
    def of(cls, program: Program, reduced: FloatArray, choice: IntArray) -> _Nearness:
        """Rows that are not on their best column are the nearest of all."""
        n, every = program.n, np.arange(program.n)
        mixed = np.random.default_rng(0).permutation(n)
        if program.m == 1:
            return cls(np.full(n, np.inf), np.full(n, np.inf), mixed)
        two = np.argpartition(reduced, 1, axis=1)
        first, second = two[:, 0], two[:, 1]
        margin = reduced[every, second] - reduced[every, first]
        margin[reduced[every, choice] > reduced[every, first]] = 0.0
        stake = np.abs(program.objective[every, second] - program.objective[every, first])
        share = np.full(n, np.inf)  # no second column
        np.divide(margin, stake + 1e-30, out=share, where=margin < np.inf)
        return cls(margin, share, mixed)

    def nearest(self, size: int) -> IntArray:
        """About `size` rows, half by each measure."""
        if size >= len(self.margin):
            return np.arange(len(self.margin))
        chosen = np.zeros(len(self.margin), dtype=bool)
        for measure in (self.margin, self.share):
            left = np.where(chosen, np.inf, measure)[self.mixed]
            chosen[self.mixed[np.argpartition(left, size // 2)[: size // 2]]] = True
        return np.flatnonzero(chosen)

    def widest(self, rows: IntArray) -> float:
        """The largest finite margin of the rows."""
        margin = self.margin[rows]
        return float(margin[np.isfinite(margin)].max(initial=0.0))
