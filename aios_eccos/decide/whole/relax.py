"""Picks the way to solve a program, and rounds relaxed answers to whole rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.decide.live.servable import servable
from aios_eccos.decide.live.transport import transport
from aios_eccos.decide.whole import lp
from aios_eccos.decide.whole.fit import fit
from aios_eccos.decide.whole.program import TOLERANCE, Prices, Program
from aios_eccos.decide.whole.repair import exchange
from aios_eccos.decide.whole.single import HIGHEST, Relaxed, largest, solve_single
from aios_eccos.decide.whole.smooth import Soft, anneal, dealt
from aios_eccos.values import FloatArray, IntArray

SMALL = 120
"""Rows up to which limits are left to the assignment of rows to slots (n^3)."""

CORES = (120, 600)
"""Rows that are settled exactly around the smoothed optimum; the next if the last did not do."""

RAISES = 50
"""Times that prices are raised until every need is met."""

EXCHANGED = 2_000
"""Rows among which whole rows are exchanged after rounding."""

WIDTH = 3.0
"""Columns farther from their row's best than this many times the core's widest margin are out."""

GAP = 1e-6
"""Relative gap at which nothing more is tried; also the noise by which ties are broken."""


def relax(program: Program) -> Relaxed:
    """A near-optimal whole assignment, with the prices that prove how near."""
    free = np.zeros(len(program.need)), np.zeros(program.m)
    choice: IntArray = np.argmin(program.objective, axis=1).astype(np.int64)
    if (program.free(choice) >= 0).all() and program.meets(choice):
        return Relaxed(choice, Prices(*free), np.zeros(len(program.need)))
    if program.n <= SMALL:
        found = _small(program)
        if len(program.need) > 1:  # rounding has exchanged already
            return found
        choice = exchange(lower(program, found.short), found.choice, found.prices)
        return replace(found, choice=choice)
    found = _large(program)
    if not _missed(program, found):
        return found
    # Out of reach, or at its edge: first the least shortfall, with the objective as tie-break.
    weight = GAP / largest(program.objective)
    nearer = replace(program, objective=program.objective * weight)
    reached = _large(nearer, ceiling=1.0)
    if _missed(program, reached):
        proven = nearer.bound(reached.prices) > GAP * program.n
        near = float(reached.short.sum()) <= GAP * program.n
        answer = None
        if not (proven or near):
            answer = lp.relaxed(program)
        if answer is not None:
            soft = Soft(answer.prices, dealt(answer.shares.T), 0.0, 0)
            return _settled(program, soft)
        short = np.maximum(program.need - program.gained(reached.choice), 0.0)
        prices = Prices(reached.prices.rows / weight, reached.prices.slots / weight)
        return replace(reached, prices=prices, short=short)
    settled = _settled(program, Soft(found.prices, reached.choice, 0.0, 0))
    return replace(reached, prices=settled.prices) if _missed(program, settled) else settled


def _missed(program: Program, found: Relaxed) -> bool:
    return bool((found.short > TOLERANCE * program.n).any())


def _small(
    program: Program,
    near: Prices | None = None,
    ceiling: float = np.inf,
) -> Relaxed:
    """Solves outright; `near` are prices from which to start."""
    if len(program.need) > 1:
        return _by_lp(program, ceiling)
    return solve_single(program, 0.0 if near is None else float(near.rows.sum()), ceiling)


def _large(program: Program, ceiling: float = np.inf) -> Relaxed:
    """Smoothed prices, then the rows that they leave open."""
    soft = anneal(program, unsettled=CORES[0] // 2, ceiling=ceiling)
    if soft.open > CORES[-1] // 2:  # ties: noise tells them apart
        typical = abs(soft.value) / program.n + 1e-12
        noise = np.random.default_rng(0).random(program.objective.shape) * (GAP * typical)
        program = replace(program, objective=program.objective + noise)
        start = soft.prices, GAP * typical
        soft = anneal(
            program,
            unsettled=CORES[0] // 2,
            ceiling=ceiling,
            start=start,
        )
    return _settled(program, soft, ceiling)


def _settled(program: Program, soft: Soft, ceiling: float = np.inf) -> Relaxed:
    """Solves for the rows nearest to a tie, all others keeping their choice."""
    reduced = program.reduced(soft.prices)
    base = fit(reduced, soft.choice, program.capacity)
    found = Relaxed(base, soft.prices, np.zeros(len(program.need)))
    choice, nearness = base, _Nearness.of(program, reduced, base)
    wide = nearness.nearest(EXCHANGED)
    for size in CORES:
        core = nearness.nearest(size)
        part = program.part(core, base)
        pruned = _pruned(part, reduced[core], WIDTH * nearness.widest(core))
        found = _small(pruned, soft.prices, ceiling)
        choice = base.copy()
        choice[core] = found.choice
        near = lower(program, found.short).part(wide, choice)
        choice[wide] = exchange(near, choice[wide], found.prices)
        unmet = float(found.short.sum()) * ceiling if _missed(program, found) else 0.0
        kept = program.value(base) - part.value(base[core])
        relaxed = kept + part.bound(found.prices)  # the LP's optimum, if the others are right
        if unmet < np.inf and relaxed - program.bound(found.prices) <= GAP * abs(relaxed):
            return replace(found, choice=choice)
    prices = max((found.prices, soft.prices), key=program.bound)
    return replace(found, choice=choice, prices=prices)


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
    """

    margin: FloatArray
    share: FloatArray
    mixed: IntArray

    @classmethod
    def of(cls, program: Program, reduced: FloatArray, choice: IntArray) -> _Nearness:
        """Rows that are not on their best column are the nearest of all."""
        n, every = program.n, np.arange(program.n)
        mixed = np.random.default_rng(0).permutation(n)  # no order among ties
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


def lower(program: Program, short: FloatArray) -> Program:
    """The program with needs lowered to what can be met."""
    return Program(program.objective, program.gains, program.need - short, program.capacity)


def _by_lp(program: Program, ceiling: float = np.inf) -> Relaxed:
    """The whole LP, then rounding."""
    short = np.zeros(len(program.need))
    penalty = ceiling if ceiling < np.inf else None
    answer = lp.relaxed(program, penalty=penalty)
    if answer is not None and penalty is not None:
        short = np.maximum(answer.short, 0.0) * (1 + 1e-9)
    if answer is None:
        blank = np.where(program.columns(), 0.0, np.inf)
        free = Program(blank, program.gains, program.need, program.capacity)
        missing = lp.relaxed(free, penalty=1.0)
        if missing is not None:
            short = np.maximum(missing.short, 0.0) * (1 + 1e-9)
            answer = lp.relaxed(lower(program, short))
    if answer is None:
        prices = Prices(np.full(len(program.need), HIGHEST), np.zeros(program.m))
        choice = transport(program.reduced(prices), program.capacity)
        return Relaxed(choice, prices, short)
    choice, split = _rounded(lower(program, short), answer)
    gone = program.need - short - program.gained(choice)
    short = short + np.where(gone > TOLERANCE * program.n, gone, 0.0)
    return Relaxed(choice, answer.prices, short, split)


def _rounded(program: Program, answer: lp.LpAnswer) -> tuple[IntArray, int]:
    """Whole rows from an LP's shares: exchanges, raised prices, exact search."""
    choice: IntArray = np.argmax(answer.shares, axis=1).astype(np.int64)
    split = np.flatnonzero(answer.shares.max(axis=1) < 1 - 1e-6)
    if not len(split):
        return choice, 0
    choice = fit(program.reduced(answer.prices), choice, program.capacity)
    choice = exchange(program, choice, answer.prices)
    if program.meets(choice):
        return choice, len(split)
    whole = _whole(program, answer.prices)
    if whole is None:
        whole = lp.exact(program)
    if whole is None:
        whole = transport(program.reduced(answer.prices), program.capacity)
    return exchange(program, whole, answer.prices), len(split)


def _whole(program: Program, prices: Prices) -> IntArray | None:
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
