"""Forecasts of plans: how often two models' answers agree, and what the plan then comes to.

Where two models give the same answer, it is nearly always right, whichever two they are; so is that
of a strong escape there. A plan therefore succeeds as often as its escape, and where the members
agree also on a share of the queries on which the escape would have failed. That share is learned
from past queries on which the members' answers were compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.forecast.head.fit import log_odds, sigmoid
from aios_eccos.values import (
    Float32Array,
    FloatArray,
    Forecast,
    IntArray,
    Plan,
    PlanForecast,
    Query,
)

#: Fewest compared queries that a plan is forecast from.
FEWEST = 60
#: Ridge on the slopes of the chance of agreement, in standard deviations of the features.
RIDGE = 10.0
#: Agreed queries that a first guess counts for: that agreed answers are as good as the escape's.
PRIOR_AGREED = 200.0
#: Parts that out-of-fold forecasts are made in.
FOLDS = 5
#: Newton steps of the logistic fit, and the change at which it has converged.
STEPS, CONVERGED = 25, 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Past queries with what was forecast of them and what they came to.

    Attributes:
        models: m names. success: (N, m) forecasts that have not seen their query, NaN = none.
        correctness: (N, m) in 0..1, NaN = missing. cost: (N, m) forecast dollars.
        answers: (N, m) numbers, equal where answers are; 0 = none, or not kept.
    """

    models: tuple[str, ...]
    success: FloatArray
    correctness: FloatArray
    cost: FloatArray
    answers: IntArray

    def rows(self, keep: IntArray) -> Past:
        """Some of the queries, in that order."""
        success, correctness, cost = self.success[keep], self.correctness[keep], self.cost[keep]
        return Past(self.models, success, correctness, cost, self.answers[keep])

    def agreement(self, plan: Plan) -> FloatArray:
        """(N,) 1 where the members' answers are equal, 0 where not, NaN where nobody can say.

        Of a query that has keys, a member's answer without one has no final answer to compare.
        """
        a, b = (self.models.index(name) for name in plan.members)
        judged = ~np.isnan(self.correctness[:, [a, b]]).any(axis=1)
        known = judged & (self.answers != 0).any(axis=1)
        equal = (self.answers[:, a] == self.answers[:, b]) & (self.answers[:, a] != 0)
        return np.where(known, equal.astype(float), np.nan)

    def outcome(self, plan: Plan) -> FloatArray:
        """(N,) what the plan would have come to, 0..1; NaN = missing."""
        agreed = self.agreement(plan)
        first, escape = (self._of(name) for name in (plan.members[0], plan.escape))
        return np.where(agreed == 1, first, np.where(agreed == 0, escape, np.nan))

    def gains(self, plan: Plan) -> FloatArray:
        """(N,) by how much an agreed answer was better than the escape's; NaN elsewhere."""
        gained = self._of(plan.members[0]) - self._of(plan.escape)
        return np.where(self.agreement(plan) == 1, gained, np.nan)

    def _of(self, model: str) -> FloatArray:
        found: FloatArray = self.correctness[:, self.models.index(model)]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class PlanFit:
    """What is known of one plan.

    Attributes:
        center, scale: (f,) of the features. slopes: (1 + f,) of the log-odds of agreement.
        mended: share of the escape's failures that agreed answers avoid, less those that they add.
    """

    plan: Plan
    center: FloatArray
    scale: FloatArray
    slopes: FloatArray
    mended: float

    def forecast(self, models: Sequence[str], success: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Chance that the escape is asked, and of success, (n,) each; (n, m) are the models'."""
        row = (_features(self.plan, models, success) - self.center) / self.scale
        agrees = sigmoid(self.slopes[0] + row @ self.slopes[1:])
        escape = success[:, models.index(self.plan.escape)]
        return 1 - agrees, np.clip(escape + agrees * self.mended * (1 - escape), 0.0, 1.0)


def fit_plan(plan: Plan, past: Past) -> PlanFit | None:
    """Learn a plan; None where too few queries compare its members."""
    agreed = past.agreement(plan)
    features = _features(plan, past.models, past.success)
    known = ~np.isnan(agreed) & ~np.isnan(features).any(axis=1)
    if int(known.sum()) < FEWEST:
        return None
    features, agreed = features[known], agreed[known]
    center, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    slopes = _logistic((features - center) / scale, agreed)
    return PlanFit(plan, center, scale, slopes, mended_share(plan, past))


def mended_share(plan: Plan, past: Past) -> float:
    """Share of the escape's failures, as forecast, that agreed answers avoid, drawn to nothing.

    In shares of failures, for an agreed answer cannot gain where the escape is right anyway.
    """
    gains = past.gains(plan)
    failures = 1 - past.success[:, past.models.index(plan.escape)]
    known = ~np.isnan(gains) & ~np.isnan(failures)
    if not known.any():
        return 0.0
    usual = float(failures[known].mean()) + 1e-9
    share = float(gains[known].sum()) / (usual * (int(known.sum()) + PRIOR_AGREED))
    return min(max(share, -1.0), 1.0)


def unseen(plan: Plan, past: Past) -> tuple[FloatArray, FloatArray] | None:
    """`PlanFit.forecast` of the past queries, each by a fit that has not seen it.

    None where too few queries compare its members.
    """
    part = np.random.default_rng(0).permutation(len(past.success)) % FOLDS
    escapes, success = np.empty(len(part)), np.empty(len(part))
    for number in range(FOLDS):
        fit = fit_plan(plan, past.rows(np.flatnonzero(part != number)))
        if fit is None:
            return None
        out = np.flatnonzero(part == number)
        escapes[out], success[out] = fit.forecast(past.models, past.success[out])
    return escapes, success


@dataclass(frozen=True, slots=True)
class PlanFits:
    """Forecasts plans by what was learned of each."""

    fits: tuple[PlanFit, ...]

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(fit.plan for fit in self.fits)

    def forecast(
        self, queries: Sequence[Query], single: Forecast, embeddings: Float32Array | None
    ) -> PlanForecast:
        """What each plan would do on each query; `single` forecasts the models alone."""
        return self.of(single.models, single.success, single.support)

    def of(self, models: Sequence[str], success: FloatArray, support: FloatArray) -> PlanForecast:
        """The plans' forecasts from (n, m) of the models alone."""
        found = [fit.forecast(models, success) for fit in self.fits]
        none = np.empty((len(success), 0))
        columns = [[models.index(name) for name in plan.models] for plan in self.plans]
        return PlanForecast(
            self.plans,
            success=np.column_stack([none, *(success for _, success in found)]),
            escapes=np.column_stack([none, *(escapes for escapes, _ in found)]),
            support=np.column_stack([none, *(support[:, c].min(axis=1) for c in columns)]),
        )


def _features(plan: Plan, models: Sequence[str], success: FloatArray) -> FloatArray:
    """(n, 4) log-odds of a plan's models, and of the query's difficulty for all models."""
    odds = log_odds(success)
    own = [odds[:, models.index(name)] for name in plan.models]
    return np.column_stack([*own, odds.mean(axis=1)])


def _logistic(features: FloatArray, agreed: FloatArray) -> FloatArray:
    """(1 + f,) coefficients of a ridge regression, the constant first, by Newton's method."""
    x = np.column_stack([np.ones(len(agreed)), features])
    ridge = np.diag([1e-3, *([RIDGE] * features.shape[1])])
    slopes = np.zeros(x.shape[1])
    slopes[0] = log_odds(agreed.mean())
    for _ in range(STEPS):
        said = sigmoid(x @ slopes)
        weight = (said * (1 - said))[:, None]
        step = np.linalg.solve((x * weight).T @ x + ridge, x.T @ (said - agreed) + ridge @ slopes)
        slopes = slopes - step
        if float(np.abs(step).max()) < CONVERGED:
            break
    return slopes
