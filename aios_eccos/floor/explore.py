"""Asking a model that would not be asked, now and then, and what may be concluded from it.

A model that looks bad is not asked, so it cannot show that it is good: a small share of calls is
given at random to models with few verdicts. Only those have a known chance of their choice (a
propensity), so only they may stand for calls that were not made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.values import BoolArray, Candidate, FloatArray, IntArray

#: Verdicts from which on a model is known well enough.
ENOUGH = 100


def chance_of(call_id: str) -> float:
    """A call's own uniform number in 0..1: the same whenever it is decided."""
    digest = hashlib.sha256(f"explore:{call_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def exploration_chances(judged: FloatArray, allowed: BoolArray, share: float) -> FloatArray:
    """(m,) chance that a call is given to each model to learn about it; sums to at most `share`.

    A model's next verdict moves its mean by about 1 / (verdicts + 1): chances go by that, and only
    to models below `ENOUGH` verdicts.

    Args:
        judged: (m,) verdicts on each model.
        allowed: (m,) models that may serve the call and have a free slot.
    """
    worth = np.where(allowed & (judged < ENOUGH), 1.0 / (judged + 1.0), 0.0)
    total = float(worth.sum())
    return worth * (share / total) if total > 0 else worth


def explore(chances: FloatArray, lot: float) -> tuple[int, float] | None:
    """The column to explore and its propensity, from a uniform number in 0..1; None = do not."""
    edges = np.cumsum(chances)
    if not len(edges) or lot >= edges[-1]:
        return None
    column = int(np.searchsorted(edges, lot, side="right"))
    return column, float(chances[column])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Whether a call explores.

    Attributes:
        chances: (m,) with which it explores each model, None where it may not.
        column: of the model that it explores, None for none; chance: that of this model.
    """

    chances: FloatArray | None = None
    column: int | None = None
    chance: float = 0.0

    def limited(self, candidate: Candidate) -> Candidate:
        """The candidate, open to the explored model only."""
        if self.column is None:
            return candidate
        return replace(candidate, allowed=np.arange(len(candidate.models)) == self.column)


def explore_batch(
    candidates: Sequence[Candidate], free: IntArray, share: float, judged: Mapping[str, float]
) -> list[Trial]:
    """What each call of a batch explores, in its order, never more than there are free slots.

    Args:
        free: (m,) free slots. share: of calls that may explore. judged: verdicts by model.
    """
    left, trials = free.copy(), []
    for candidate in candidates:
        if not share or candidate.lot is None:
            trials.append(Trial())
            continue
        may = candidate.allowed if candidate.explorable is None else candidate.explorable
        known = np.array([judged.get(name, 0.0) for name in candidate.models])
        chances = exploration_chances(known, may & (left > 0), share)
        column, chance = explore(chances, candidate.lot) or (None, 0.0)
        if column is not None:
            left[column] -= 1
        trials.append(Trial(chances, column, chance))
    return trials


@dataclass(frozen=True, slots=True)
class Estimate:
    """A model's mean success on the calls that could explore it, corrected by those that did.

    Attributes:
        effective: Kish's effective number of explored outcomes behind the correction.
    """

    value: float
    standard_error: float
    effective: float


@dataclass(frozen=True, slots=True)
class Sums:
    """What an estimate takes of calls: sums, so that they can be kept and added up.

    Attributes:
        n: calls that could explore the model, judged or not.
        forecast, forecast2: of its forecasts f, and of their squares, over them.
        weight, weight2: of w = 1 / propensity, and of its square, over explored calls with outcome.
        miss, cross, miss2: of w r, w^2 r and w^2 r^2 over the same, r = outcome - f.
    """

    n: float
    forecast: float
    forecast2: float
    weight: float
    weight2: float
    miss: float
    cross: float
    miss2: float

    def estimate(self) -> Estimate:
        """Doubly robust mean success (Dudik et al. 2011, equation 2), self-normalized.

        Explored calls without a verdict say nothing: which explored calls are judged is taken to
        be chance. The error treats forecasts and corrections as independent: at most a 50th of the
        calls explore. The spread of few verdicts says too little, so four more are added that vary
        as much as success can, by 1/4 (Agresti and Coull 1998).
        """
        mean = self.forecast / self.n
        variance = max(self.forecast2 / self.n - mean**2, 0.0) / self.n
        if not self.weight:
            return Estimate(mean, float(np.sqrt(variance)), 0.0)
        off = self.miss / self.weight
        effective = self.weight**2 / self.weight2
        spread = max(self.miss2 - 2 * off * self.cross + off**2 * self.weight2, 0.0) / self.weight2
        variance += (spread + 1 / effective) / effective
        return Estimate(mean + off, float(np.sqrt(variance)), effective)
