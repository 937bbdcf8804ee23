"""The one data structure of an evaluation: what a strategy may know of a split, and what it does.

Outcomes of test rows reach a strategy after its choice, except for those that say that they look
at them first. No model is asked.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from aios_eccos.decide.rule import choose
from aios_eccos.errors import DataError
from aios_eccos.floor.curve import MIN_VERDICTS, PriceBook, PriceCurve
from aios_eccos.floor.planned import book_of, with_plans
from aios_eccos.forecast.plans import Past, PlanFits
from aios_eccos.forecast.pricing import Prices
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted, Kind
from aios_eccos.lab.metrics import Frontier
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, FloatArray, IntArray, Plan
from aios_eccos.values.plan import spread


@dataclass(frozen=True, slots=True)
class Arrival:
    """How rows arrive.

    Attributes:
        limits: rows that a model may get of one batch, by name; a model not named has no limit.
        batch: rows assigned together; None = all, in a stream 1 (outcomes are seen in between).
        order: `shuffled`, or `recorded` (task after task); `file` leaves them as they are.
        seed: of splits and of the order.
    """

    limits: dict[str, int] = field(default_factory=dict)
    batch: int | None = None
    stream: bool = False
    order: str = "shuffled"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Calls:
    """n calls, all (n, m): forecasts, and recorded correctness and dollars (NaN = missing)."""

    success: FloatArray
    cost: FloatArray
    outcomes: FloatArray
    spent: FloatArray

    def __len__(self) -> int:
        return len(self.success)

    def rows(self, keep: IntArray) -> Calls:
        """Some of the calls, in that order."""
        arrays = (self.success, self.cost, self.outcomes, self.spent)
        return Calls(*(values[keep] for values in arrays))

    def choose(self, price: ArrayLike) -> IntArray:
        """(n,) columns that the rule takes at a price of success."""
        return choose(self.cost, self.success, price)

    def came_to(self, choice: IntArray) -> tuple[float, float]:
        """Mean success and dollars of (n,) columns."""
        line = np.arange(len(self))
        return float(self.outcomes[line, choice].mean()), float(self.spent[line, choice].mean())


@dataclass(frozen=True, eq=False)
class Problem:
    """One split to route: all arrays in the order of the m models.

    `test` has n rows whose every outcome is recorded, in order of arrival; `success` and `tokens`
    are their (n, m) forecasts by the predictor `kind`, `past` those of the history's rows. `asked`
    are plans as they are configured; each is one more column, after the models.
    """

    fitted: Fitted
    kind: Kind
    test: HistoryTable
    success: FloatArray
    tokens: FloatArray
    past: Past
    arrival: Arrival
    asked: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        return self.test.models

    @property
    def n(self) -> int:
        return len(self.test)

    @property
    def m(self) -> int:
        return len(self.models)

    @property
    def prices(self) -> Prices:
        return self.fitted.data.prices

    @property
    def history(self) -> HistoryTable:
        return self.fitted.table

    @property
    def outcomes(self) -> FloatArray:
        """(n, m) recorded correctness of the test rows."""
        return self.test.correctness

    @property
    def batch(self) -> int:
        return self.arrival.batch or (1 if self.arrival.stream else self.n)

    def cost_of(self, tokens: FloatArray) -> FloatArray:
        """(n, m) dollars of the test rows with so many output tokens."""
        return self.prices.cost(self.test.input_tokens, tokens)

    @functools.cached_property
    def cost(self) -> FloatArray:
        """(n, m) forecast dollars of the test rows."""
        return self.cost_of(self.tokens)

    @functools.cached_property
    def spent(self) -> FloatArray:
        """(n, m) dollars that each answer really cost."""
        return self.cost_of(self.test.output_tokens)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the models, then of the plans that history says enough of."""
        return self.book.columns

    @functools.cached_property
    def calls(self) -> Calls:
        """The test rows with all columns."""
        found = with_plans(
            Past(self.models, self.success, self.outcomes, self.cost, self.test.answers), self.fits
        )
        outcomes, spent = [self.outcomes], [self.spent]
        for plan in self.plans:
            escapes = self._escapes(plan)
            first, escape = (self.models.index(n) for n in (plan.members[0], plan.escape))
            given = np.where(escapes[:, 0] > 0, escape, first)
            outcomes.append(np.take_along_axis(self.outcomes, given[:, None], axis=1))
            spent.append(spread([plan], escapes, self.models, self.spent))
        return Calls(found.success, found.cost, np.hstack(outcomes), np.hstack(spent))

    @functools.cached_property
    def escapes(self) -> BoolArray:
        """(n, k) whether a plan's escape is asked for a test row."""
        none = np.empty((self.n, 0))
        return np.hstack([none, *(self._escapes(plan) for plan in self.plans)]) > 0

    def _escapes(self, plan: Plan) -> FloatArray:
        """(n, 1) whether the escape is asked; as in a kernel it is if nobody can compare."""
        rows = Past(self.models, self.success, self.outcomes, self.cost, self.test.answers)
        return 1 - np.nan_to_num(rows.agreement(plan))[:, None]

    @functools.cached_property
    def alone(self) -> Problem:
        """The same without plans."""
        return replace(self, asked=()) if self.asked else self

    def hoped(self, choice: IntArray) -> float:
        """Mean success that is forecast of (n,) columns."""
        return float(self.calls.success[np.arange(self.n), choice].mean())

    @functools.cached_property
    def frontier(self) -> Frontier:
        """What a sweep of prices realises on the test rows themselves."""
        points = [self.calls.came_to(self.calls.choose(float(p))) for p in self.curve.prices]
        success, cost = np.array(points).T
        return Frontier.of(cost, success)

    @functools.cached_property
    def past_calls(self) -> Calls:
        """The rows that success is priced on; what was spent counts as forecast."""
        past = self.past
        return Calls(past.success, past.cost, past.correctness, past.cost)

    @functools.cached_property
    def past_cost(self) -> FloatArray:
        """(N, m) dollars that the history's answers cost, NaN = missing."""
        return self.prices.cost(self.history.input_tokens, self.history.output_tokens)

    @functools.cached_property
    def _priced(self) -> tuple[PriceBook, PlanFits | None]:
        return book_of(self.past, self.asked)

    @property
    def book(self) -> PriceBook:
        """What success costs on history."""
        return self._priced[0]

    @property
    def fits(self) -> PlanFits | None:
        """What forecasts the plans, if there are any."""
        return self._priced[1]

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans that are columns."""
        return () if self.fits is None else self.fits.plans

    @functools.cached_property
    def curve(self) -> PriceCurve:
        """What each price of success promises and realises; DataError if history is too short."""
        curve = self.book.curve()
        if curve is None:
            raise DataError(
                f"history has too few judged rows; pricing success takes {MIN_VERDICTS}"
            )
        return curve

    @functools.cached_property
    def limits(self) -> IntArray | None:
        """(m,) rows that a model may get of one batch; None = no limits."""
        if not self.arrival.limits:
            return None
        return np.array([self.arrival.limits.get(name, self.n) for name in self.models])

    def batches(self) -> list[IntArray]:
        """The rows that arrive together, in order."""
        return np.split(np.arange(self.n), range(self.batch, self.n, self.batch))

    def past_means(self) -> tuple[FloatArray, FloatArray]:
        """(m,) mean success and mean dollars on history; of a model never seen, the others'."""
        return column_means(self.history.correctness), column_means(self.past_cost)


def problem_of(
    data: Recorded,
    number: int,
    kind: Kind,
    arrival: Arrival,
    fitted: Fitted | None = None,
    asked: tuple[str, ...] = (),
) -> Problem:
    """A split of a data set: fit on its history, forecast its test rows.

    `fitted` is the split's, where another predictor has asked for it before; `asked` as in
    `Problem`. DataError: no test rows, or too little history to price success.
    """
    history, test = data.split(number, arrival.seed)
    fitted = fitted or Fitted(data, history, key=f"{number}:{arrival.seed}")
    return pose(fitted, kind, test, arrival, asked)


def pose(
    fitted: Fitted, kind: Kind, rows: IntArray, arrival: Arrival, asked: tuple[str, ...] = ()
) -> Problem:
    """Some rows of a data set as calls to what was fitted on others."""
    success, tokens = fitted.of_rows(kind, rows)
    test = fitted.data.table.rows(rows)
    order = _arrival(test, arrival)
    past = fitted.past(kind)
    found = Problem(
        fitted, kind, test.rows(order), success[order], tokens[order], past, arrival, asked
    )
    _ = found.curve  # too little history is said at once
    return found


def _arrival(test: HistoryTable, arrival: Arrival) -> IntArray:
    """(n,) the rows' numbers in their order of arrival."""
    if arrival.order == "file":
        return np.arange(len(test))
    if arrival.order == "recorded":
        first: dict[str, int] = {}
        begins = [first.setdefault(task, row) for row, task in enumerate(test.tasks)]
        return np.argsort(begins, kind="stable")
    return np.random.default_rng(arrival.seed).permutation(len(test))


def column_means(values: FloatArray, missing: FloatArray | None = None) -> FloatArray:
    """(m,) means of what is present; of an empty column `missing`, or the other columns' mean."""
    seen = (~np.isnan(values)).sum(axis=0)
    mean: FloatArray = np.nan_to_num(values).sum(axis=0) / np.maximum(seen, 1)
    if missing is None:
        missing = np.full(len(mean), mean[seen > 0].mean() if seen.any() else 0.0)
    return np.where(seen > 0, mean, missing)
