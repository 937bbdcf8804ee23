"""Asking a model that would not be asked, now and then, and what may be concluded from it.

Only the chosen model's outcome is ever seen, and the choice is an argmin: a model that looks bad is
not asked, so it cannot show that it is good. A small share of calls is therefore given at random
to models with few verdicts. Only those calls have a known chance of their choice (a propensity),
so only they may stand for calls that were not made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aios_eccos.values import BoolArray, FloatArray

#: Share of calls that may explore.
SHARE = 0.02
#: Verdicts from which on a model is known well enough.
ENOUGH = 100


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
    able = max(int((~np.isnan(propensity)).sum()), 1)
    weight = np.zeros(len(forecast))
    weight[seen] = 1.0 / propensity[seen]
    # Calls that could not explore are taken to be off by as much as those that could.
    correction = weight * (np.nan_to_num(outcome) - forecast) * (len(forecast) / able)
    terms = forecast + correction
    total, squares = float(weight.sum()), float((weight**2).sum())
    n = len(terms)
    error = float(terms.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(terms.mean()), error, total**2 / squares if squares else 0.0)
