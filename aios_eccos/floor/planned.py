"""Plans as columns beside the models: which are worth one, and what success costs with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from aios_eccos.config.checks import AUTO
from aios_eccos.decide.rule import choose
from aios_eccos.floor.curve import MIN_VERDICTS, PriceBook, price_curve
from aios_eccos.forecast.plans import FEWEST, Past, PlanFits, fit_plan, mended_share, unseen
from aios_eccos.values import FloatArray, Plan
from aios_eccos.values.plan import parse_plan, spread

#: Plans chosen at most, and models tried as an escape: those with the highest success.
MOST, ESCAPES = 6, 3
#: Share of its escape's cost that a member may cost.
CHEAP = 0.6
#: Candidates that are fitted: the most promising by their members' mean agreement.
FITTED = 24
#: Floors, between the lowest and the highest that prices realise, at which a gain is measured.
FLOORS = 12
#: Least gain of a plan: a share of the cost at equal success, and of the gain's standard error.
LEAST_GAIN, LEAST_ERRORS = 0.01, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Forecast success, success had (NaN = missing) and cost of past queries, all (N, columns)."""

    success: FloatArray
    outcomes: FloatArray
    cost: FloatArray

    def beside(self, other: Columns) -> Columns:
        """These columns, and the others after them."""
        return Columns(
            np.column_stack([self.success, other.success]),
            np.column_stack([self.outcomes, other.outcomes]),
            np.column_stack([self.cost, other.cost]),
        )


def book_of(past: Past, asked: Sequence[str]) -> tuple[PriceBook, PlanFits | None]:
    """What success costs with the plans asked for, and what forecasts these.

    A plan on which history says too little has no column, nor one with a model that it has not.

    Args:
        asked: plans as they are configured: none, `AUTO`, or a list of texts.
    """
    columns, fits = Columns(past.success, past.correctness, past.cost), []
    for plan in auto_plans(past) if tuple(asked) == AUTO else _named(past, asked):
        fit, column = fit_plan(plan, past), column_of(plan, past)
        if fit is not None and column is not None:
            fits.append(fit)
            columns = columns.beside(column)
    plans = [fit.plan.name for fit in fits]
    book = PriceBook(past.models, columns.success, columns.outcomes, columns.cost, plans)
    return book, PlanFits(tuple(fits)) if fits else None


def column_of(plan: Plan, past: Past) -> Columns | None:
    """A plan's column, (N, 1), on history; None where that says too little."""
    found = unseen(plan, past)
    if found is None:
        return None
    escapes, success = (values[:, None] for values in found)
    cost = spread([plan], escapes, past.models, past.cost)
    return Columns(success, past.outcome(plan)[:, None], cost)


def with_plans(past: Past, fits: PlanFits | None) -> Columns:
    """The models' columns, and those of plans, of queries that the fits have not seen."""
    columns = Columns(past.success, past.correctness, past.cost)
    if fits is None:
        return columns
    found = fits.of(past.models, past.success, past.success)
    outcomes = np.column_stack([past.outcome(plan) for plan in found.plans])
    return columns.beside(Columns(found.success, outcomes, found.spread(past.models, past.cost)))


def auto_plans(past: Past) -> tuple[Plan, ...]:
    """The plans that lower the cost of equal success most on history, the best first.

    One is added while it lowers the mean cost at `FLOORS` floors by more than chance may.
    """
    columns = Columns(past.success, past.correctness, past.cost)
    if int((past.answers != 0).any(axis=1).sum()) < max(FEWEST, MIN_VERDICTS):
        return ()
    prices, usual = _prices(columns)
    found: dict[Plan, Columns] = {}
    for plan in _promising(past, prices, usual):
        column = column_of(plan, past)
        if column is not None:
            found[plan] = column
    chosen: list[Plan] = []
    while len(chosen) < MOST and found:
        saved = {
            plan: float(_saved(columns, columns.beside(column), prices, usual).mean())
            for plan, column in found.items()
        }
        best = max(saved, key=lambda plan: saved[plan])
        both = columns.beside(found.pop(best))
        had = _saved(columns, both, prices, usual, hoped=False)
        had = had[~np.isnan(had)]
        error = float(had.std()) / max(len(had), 1) ** 0.5
        if saved[best] < max(LEAST_GAIN, LEAST_ERRORS * error):
            break
        chosen.append(best)
        columns = both
    return tuple(chosen)


def _named(past: Past, asked: Sequence[str]) -> list[Plan]:
    """The plans of which history has all models."""
    plans: list[Plan] = []
    for text in asked:
        with suppress(ValueError):
            plans.append(parse_plan(text, past.models))
    return plans


def _prices(columns: Columns) -> tuple[FloatArray, FloatArray]:
    """(F,) prices of success at the floors, and what a call costs there."""
    curve = price_curve(columns.success, columns.outcomes, columns.cost)
    floors = np.linspace(curve.realised[0], curve.reachable, FLOORS + 1)[:-1].tolist()
    prices = np.array([curve.price_for(floor) for floor in floors])
    return prices, np.array([curve.cost_for(floor) for floor in floors])


def _promising(past: Past, prices: FloatArray, usual: FloatArray) -> list[Plan]:
    """The candidates that would save most if each agreed equally often on all queries."""
    columns, names = Columns(past.success, past.correctness, past.cost), past.models
    worth: dict[Plan, float] = {}
    cost, means = past.cost.mean(axis=0), np.nan_to_num(_means(past.correctness))
    order = np.argsort(-means, kind="stable")
    for escape in order[:ESCAPES]:
        cheap = [names[j] for j in order if cost[j] <= CHEAP * cost[escape]]
        for pair in combinations(cheap, 2):
            plan = Plan(pair, names[escape])
            agreed = float(_means(past.agreement(plan)))
            if np.isnan(agreed):
                continue
            alone = past.success[:, [escape]]
            success = alone + agreed * mended_share(plan, past) * (1 - alone)
            escapes = np.full((len(success), 1), 1 - agreed)
            spent = spread([plan], escapes, names, past.cost)
            both = columns.beside(Columns(success, success, spent))
            worth[plan] = float(_saved(columns, both, prices, usual).mean())
    return sorted(worth, key=lambda plan: -worth[plan])[:FITTED]


def _means(values: FloatArray) -> FloatArray:
    """Means of columns (or of one) over what is not NaN; NaN where nothing is."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.where(count, np.nan_to_num(values).sum(axis=0) / np.maximum(count, 1), np.nan)


def _saved(
    before: Columns, after: Columns, prices: FloatArray, usual: FloatArray, *, hoped: bool = True
) -> FloatArray:
    """(N,) what the last column saves at equal success: share of the usual cost, mean over prices.

    Args:
        hoped: by forecast success, else by success had (NaN where that is missing).
    """
    line = np.arange(len(before.cost))
    total = np.zeros(len(line))
    for price, cost in zip(prices, usual, strict=True):
        net = []
        for columns in (before, after):
            pick = choose(columns.cost, columns.success, price)
            success = (columns.success if hoped else columns.outcomes)[line, pick]
            net.append(columns.cost[line, pick] - price * success)
        total += (net[0] - net[1]) / (len(prices) * cost)
    return total
