"""Asking a model that would not be asked, now and then, and what may be concluded from it.

Only the chosen model's outcome is ever seen, and the choice is an argmin: a model that looks bad is
not asked, so it cannot show that it is good. A small share of calls is therefore given at random
to models with few verdicts. Only those calls have a known chance of their choice (a propensity),
so only they may stand for calls that were not made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.values import BoolArray, FloatArray, IntArray, Prospect

#: Share of calls that may explore.
SHARE = 0.02
#: Verdicts from which on a model is known well enough.
ENOUGH = 100


def chance_of(call_id: str) -> float:
    """A call's own uniform draw in 0..1: the same whenever it is decided."""
    digest = hashlib.sha256(f"explore:{call_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def exploration_chances(judged: FloatArray, allowed: BoolArray, share: float = SHARE) -> FloatArray:
    """(m,) chance that a call is given to each model to learn about it; sums to at most `share`.

    A model's next verdict moves its mean by about 1 / (verdicts + 1): chances go by that, and only
    to models below `ENOUGH` verdicts. Where none is, nothing is explored.

    Args:
        judged: (m,) verdicts on each model.
        allowed: (m,) models that may serve the call and have a free slot.
    """
    worth = np.where(allowed & (judged < ENOUGH), 1.0 / (judged + 1.0), 0.0)
    total = float(worth.sum())
    return worth * (share / total) if total > 0 else worth


def explore(chances: FloatArray, draw: float) -> tuple[int, float] | None:
    """The column to explore and its propensity, from a uniform draw in 0..1; None = do not."""
    edges = np.cumsum(chances)
    if not len(edges) or draw >= edges[-1]:
        return None
    column = int(np.searchsorted(edges, draw, side="right"))
    return column, float(chances[column])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Whether a call explores.

    Attributes:
        chances: (m,) with which it explores each model, None where it may not.
        column: of the model that it explores, None for none.
    """

    chances: FloatArray | None = None
    column: int | None = None

    def limited(self, prospect: Prospect) -> Prospect:
        """The prospect, open to the explored model only."""
        if self.column is None:
            return prospect
        return replace(prospect, allowed=np.arange(len(prospect.models)) == self.column)

    def reason(self, prospect: Prospect) -> str | None:
        """Why the explored model, in one sentence."""
        if self.column is None or self.chances is None:
            return None
        name, chance = prospect.models[self.column], float(self.chances[self.column])
        return f"explored: {name} has few verdicts ({chance:.2%} of calls are spent on that)"


def explore_batch(
    prospects: Sequence[Prospect], free: IntArray, share: float, judged: Mapping[str, float]
) -> list[Trial]:
    """What each call of a batch explores, in its order, never more than there are free slots.

    Args:
        free: (m,) free slots. share: of calls that may explore. judged: verdicts by model.
    """
    left, trials = free.copy(), []
    for prospect in prospects:
        if not share or prospect.draw is None:
            trials.append(Trial())
            continue
        known = np.array([judged.get(name, 0.0) for name in prospect.models])
        chances = exploration_chances(known, prospect.allowed & (left > 0), share)
        found = explore(chances, prospect.draw)
        column = None if found is None else found[0]
        if column is not None:
            left[column] -= 1
        trials.append(Trial(chances, column))
    return trials


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model would reach on all calls: a forecast, corrected by the calls that explored it.

    Attributes:
        value: mean success; standard_error: of it.
        effective: Kish's effective number of explored outcomes behind the correction.
    """

    value: float
    standard_error: float
    effective: float


@dataclass(frozen=True, slots=True)
class Sums:
    """What an estimate takes of n calls: sums, so that they can be kept and added up.

    Attributes:
        able: calls that could have explored the model.
        forecast, forecast2: of its forecasts f, and of their squares, over all calls.
        weight, weight2: of w = 1 / propensity, and of its square, over explored calls with outcome.
        mend, mend2, both: of w (outcome - f), of its square, and of f times it, over the same.
    """

    n: float
    able: float
    forecast: float
    forecast2: float
    weight: float
    weight2: float
    mend: float
    mend2: float
    both: float

    def estimate(self) -> Estimate:
        """Doubly robust mean success (Dudik et al. 2011, equation 2).

        Calls that could not explore are taken to be off by as much as those that could.
        """
        scale = self.n / max(self.able, 1.0)
        value = (self.forecast + scale * self.mend) / self.n
        squares = self.forecast2 + 2 * scale * self.both + scale**2 * self.mend2
        variance = max(squares / self.n - value**2, 0.0) * self.n / max(self.n - 1, 1.0)
        error = float(np.sqrt(variance / self.n)) if self.n > 1 else float("nan")
        return Estimate(value, error, self.weight**2 / self.weight2 if self.weight2 else 0.0)


def doubly_robust(forecast: FloatArray, outcome: FloatArray, propensity: FloatArray) -> Estimate:
    """Doubly robust mean success of one model over n calls (Dudik et al. 2011, equation 2).

    Right if either the forecasts or the propensities are; without outcomes, the forecasts' mean.

    Args:
        forecast: (n,) success forecast of the model on every call.
        outcome: (n,) its success where it was explored and judged, NaN elsewhere.
        propensity: (n,) chance with which it was explored, NaN where it could not be.

    Raises:
        ValueError: there is no call, or an outcome without a propensity in (0, 1].
    """
    seen = ~np.isnan(outcome)
    if not len(forecast):
        raise ValueError("no calls to estimate from")
    if not np.all((propensity[seen] > 0) & (propensity[seen] <= 1)):
        raise ValueError("an explored outcome has no propensity in (0, 1]")
    weight = np.zeros(len(forecast))
    weight[seen] = 1.0 / propensity[seen]
    mend = weight * (np.nan_to_num(outcome) - forecast)
    return Sums(
        n=len(forecast),
        able=float((~np.isnan(propensity)).sum()),
        forecast=float(forecast.sum()),
        forecast2=float((forecast**2).sum()),
        weight=float(weight.sum()),
        weight2=float((weight**2).sum()),
        mend=float(mend.sum()),
        mend2=float((mend**2).sum()),
        both=float((forecast * mend).sum()),
    ).estimate()
