"""The columns of a batch: models, and plans after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aios_eccos.values import (
    BoolArray,
    Candidate,
    FloatArray,
    Forecast,
    Plan,
    PlanForecast,
    Price,
    Query,
)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What n queries have of each column.

    Attributes:
        forecast: its columns are m models, then k plans.
        cost, reread: (n, m + k) dollars, or the stand-in for them, as in `Candidate`.
        allowed: (n, m + k) columns that may serve.
        escapes: (n, k) chance that a plan's escape is asked; plans: those k.
    """

    forecast: Forecast
    cost: FloatArray
    reread: FloatArray
    allowed: BoolArray
    escapes: FloatArray
    plans: tuple[Plan, ...] = ()

    @classmethod
    def of(
        cls, forecast: Forecast, cost: FloatArray, reread: FloatArray, allowed: BoolArray
    ) -> Table:
        """Of models alone."""
        return cls(forecast, cost, reread, allowed, np.empty((len(cost), 0)))

    def with_plans(self, found: PlanForecast) -> Table:
        """With plans as further columns: each may serve where all of its models may."""
        single, names = self.forecast, self.forecast.models
        allowed = [
            self.allowed[:, [names.index(name) for name in plan.models]].all(axis=1)
            for plan in found.plans
        ]
        by_model = single.output_tokens, self.cost, self.reread
        tokens, cost, reread = (found.spread(names, each) for each in by_model)
        forecast = Forecast(
            models=(*names, *(plan.name for plan in found.plans)),
            success=np.hstack([single.success, found.success]),
            output_tokens=np.hstack([single.output_tokens, tokens]),
            support=np.hstack([single.support, found.support]),
            novelty=single.novelty,
        )
        both = np.hstack([self.allowed, np.stack(allowed, axis=1)])
        return Table(
            forecast,
            np.hstack([self.cost, cost]),
            np.hstack([self.reread, reread]),
            both,
            found.escapes,
            found.plans,
        )

    def candidate(
        self, row: int, query: Query, success: FloatArray, allowed: BoolArray, worth: Price
    ) -> Candidate:
        """A query's row; `success` and `allowed` (m + k,) as its price leaves them."""
        names = self.forecast.models
        models = np.arange(len(names)) < len(names) - len(self.plans)
        return Candidate(
            query=query,
            models=names,
            success=success,
            output_tokens=self.forecast.output_tokens[row],
            support=self.forecast.support[row],
            cost=self.cost[row],
            allowed=allowed,
            novelty=float(self.forecast.novelty[row]),
            worth=worth,
            reread=self.reread[row],
            explorable=self.allowed[row] & models,
            plans=dict(zip(self.plans, self.escapes[row].tolist(), strict=True)),
        )


def alike(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with the same columns: without plans that some of them do not know.

    Plans change as history is learned anew, and some calls may have been forecast before.
    """
    if len({each.models for each in candidates}) <= 1:
        return [*candidates]
    shared = set(candidates[0].plans)
    shared.intersection_update(*(each.plans for each in candidates))
    plans = sorted(shared, key=lambda plan: plan.name)
    return [_of_plans(each, plans) for each in candidates]


def _of_plans(candidate: Candidate, plans: Sequence[Plan]) -> Candidate:
    models = candidate.models[: len(candidate.models) - len(candidate.plans)]
    names = (*models, *(plan.name for plan in plans))
    kept = [candidate.models.index(name) for name in names]
    reread, explorable = candidate.reread, candidate.explorable
    return replace(
        candidate,
        models=names,
        success=candidate.success[kept],
        output_tokens=candidate.output_tokens[kept],
        support=candidate.support[kept],
        cost=candidate.cost[kept],
        allowed=candidate.allowed[kept],
        reread=None if reread is None else reread[kept],
        explorable=None if explorable is None else explorable[kept],
        plans={plan: candidate.plans[plan] for plan in plans},
    )
