"""Picks the way to solve a program, and rounds relaxed answers to whole rows."""

from __future__ import annotations

import time

import numpy as np

from aios_eccos.optimize import lp
from aios_eccos.optimize.program import Prices, Program
from aios_eccos.optimize.repair import exchange
from aios_eccos.optimize.single import HIGHEST, Relaxed, solve_single
from aios_eccos.optimize.transport import transport
from aios_eccos.values import FloatArray, IntArray

SMALL = 600
"""Rows up to which binding limits are left to the assignment of rows to slots (n^3)."""

CORE = 160
"""Rows that rounding may still move."""


def relax(program: Program, deadline: float | None = None) -> Relaxed:
    """A near-optimal whole assignment, with the prices that prove how near."""
    limited = bool((program.capacity < program.n).any())
    if program.n == 0:
        nothing = np.zeros(0, dtype=np.int64)
        zero = Prices(np.zeros(len(program.need)), np.zeros(program.m))
        return Relaxed(nothing, zero, np.zeros(len(program.need)))
    if len(program.need) <= 1 and (program.n <= SMALL or not limited):
        found = solve_single(program)
        near = nearest(program, found.prices, found.choice, CORE)
        part = lower(program, found.short).part(near, found.choice)
        choice = found.choice.copy()
        choice[near] = exchange(part, choice[near], found.prices)
        return Relaxed(choice, found.prices, found.short, found.slot_gains, found.split)
    return _by_lp(program, deadline)


def lower(program: Program, short: FloatArray) -> Program:
    """The program with needs lowered to what can be met."""
    return Program(program.objective, program.gains, program.need - short, program.capacity)


def nearest(program: Program, prices: Prices, choice: IntArray, count: int) -> IntArray:
    """The rows whose best and second-best reduced costs (or choice and best) are nearest."""
    if program.n <= count:
        return np.arange(program.n)
    reduced = program.reduced(prices)
    if program.m == 1:
        return np.arange(count)
    two = np.partition(reduced, 1, axis=1)
    off = reduced[np.arange(program.n), choice] > two[:, 0]
    margin = np.where(off, 0.0, two[:, 1] - two[:, 0])
    return np.sort(np.argpartition(margin, count)[:count])


def _by_lp(program: Program, deadline: float | None) -> Relaxed:
    """The whole LP, then rounding."""
    short, reach = np.zeros(len(program.need)), None
    answer = lp.relaxed(program, time_limit_s=_left(deadline))
    if answer is None and (deadline is None or time.monotonic() < deadline):
        blank = np.where(program.columns(), 0.0, np.inf)
        free = Program(blank, program.gains, program.need, program.capacity)
        missing = lp.relaxed(free, penalty=1.0, time_limit_s=_left(deadline))
        if missing is not None:
            reach = missing.prices.slots
            short = np.maximum(missing.short, 0.0) * (1 + 1e-9)
            answer = lp.relaxed(lower(program, short), time_limit_s=_left(deadline))
    if answer is None:
        prices = Prices(np.full(len(program.need), HIGHEST), np.zeros(program.m))
        choice = transport(program.reduced(prices), program.capacity)
        return Relaxed(choice, prices, short, timed_out=True)
    choice, split = _rounded(lower(program, short), answer)
    gone = program.need - short - program.gained(choice)
    short = short + np.where(gone > 1e-9 * program.n, gone, 0.0)
    return Relaxed(choice, answer.prices, short, reach, split)


def _rounded(program: Program, answer: lp.LpAnswer) -> tuple[IntArray, int]:
    """Whole rows from an LP's shares: the settled ones stay, the others and the nearest move."""
    choice: IntArray = np.argmax(answer.shares, axis=1).astype(np.int64)
    loose = answer.shares.max(axis=1) < 1 - 1e-6
    core = nearest(program, answer.prices, choice, CORE)
    core = np.union1d(core, np.flatnonzero(loose))
    part = program.part(core, choice)
    moved = _whole(part, answer.prices)
    if moved is None:
        moved = lp.exact(part)
    if moved is None:
        whole = lp.exact(program) if program.n <= 1000 else None
        return choice if whole is None else whole, int(loose.sum())
    choice[core] = exchange(part, moved, answer.prices)
    return choice, int(loose.sum())


def _whole(program: Program, prices: Prices) -> IntArray | None:
    """Raises the rows' prices until an assignment of the core meets every need."""
    if len(program.need) == 1:
        return solve_single(program).choice
    for factor in (0.0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e6):
        raised = prices.rows * (1 + factor) + factor * 1e-6
        choice = transport(program.reduced(Prices(raised, np.zeros(program.m))), program.capacity)
        if program.meets(choice):
            return choice
    return None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
