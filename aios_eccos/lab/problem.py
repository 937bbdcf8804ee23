"""What a strategy may know of a split, and the shapes of what it is asked and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aios_eccos.floor.curve import PriceCurve
from aios_eccos.forecast.pricing import Prices
from aios_eccos.lab.fitted import Cache
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Problem:
    """One split to route: all arrays in the order of `models`.

    Attributes:
        models: m names.
        history: N judged past rows.
        past_cost: (N, m) dollars spent, NaN = missing.
        test: n rows whose every outcome is recorded, in order of arrival.
        success, tokens, cost: (n, m) forecasts of the test rows, by the predictor.
        spent: (n, m) dollars that each answer really cost.
        curve: what each price of success promises and realises on history.
        past_success, past_forecast_cost: (N', m) unseen forecasts of the history behind it.
        past_outcomes: (N', m) correctness of the same rows, NaN = missing.
        limits: (m,) rows that a model may get of one batch; None = no limits.
        batch: rows assigned together.
        stream: whether rows arrive one batch after another and outcomes are seen in between.
        memo: what strategies have fitted, shared by their settings.
    """

    models: tuple[str, ...]
    prices: Prices
    history: HistoryTable
    past_cost: FloatArray
    test: HistoryTable
    success: FloatArray
    tokens: FloatArray
    cost: FloatArray
    spent: FloatArray
    curve: PriceCurve
    past_success: FloatArray
    past_forecast_cost: FloatArray
    past_outcomes: FloatArray
    limits: IntArray | None
    batch: int
    stream: bool
    seed: int
    predictor: str
    cache: Cache
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of test rows."""
        return len(self.test)

    @property
    def m(self) -> int:
        """Number of models."""
        return len(self.models)

    @property
    def outcomes(self) -> FloatArray:
        """(n, m) recorded correctness of the test rows."""
        return self.test.correctness

    def reveal(self, rows: IntArray, choice: IntArray) -> FloatArray:
        """Correctness of the answers that these rows really got."""
        return self.outcomes[rows, choice]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` made, once per split."""
        if name not in self.memo:
            self.memo[name] = make()
        return self.memo[name]

    def batches(self) -> list[IntArray]:
        """The rows that arrive together, in order."""
        return [
            np.arange(start, min(start + self.batch, self.n))
            for start in range(0, self.n, self.batch)
        ]

    def past_means(self) -> tuple[FloatArray, FloatArray]:
        """(m,) mean success and mean dollars on history; of a model never seen, the others'."""
        return column_means(self.history.correctness), column_means(self.past_cost)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a strategy was asked for: a floor, budget ($ per call), lambda or threshold; or none."""

    name: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Picked:
    """What a strategy chose.

    Attributes:
        choice: (n,) columns.
        promised: mean success that it says it will have, NaN where it says nothing.
        rounds: (n,) batch in which each row was served, if some had to wait.
        mix: (m,) probabilities instead of a choice: then figures are expectations.
    """

    choice: IntArray
    promised: float = float("nan")
    rounds: IntArray | None = None
    mix: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to choose.

    Attributes:
        settings: the settings that make its frontier, given the floors and budgets asked for.
        choose: from a problem and a setting.
        forecasts: whether it uses the predictor's forecasts.
        source: the paper or system, and what was left out; "" for plain ones.
        clairvoyant: whether it looks at the outcomes first.
    """

    name: str
    settings: Callable[[Problem, Sequence[Setting]], Sequence[Setting]]
    choose: Callable[[Problem, Setting], Picked]
    forecasts: bool = False
    source: str = ""
    clairvoyant: bool = False


def column_means(values: FloatArray) -> FloatArray:
    """(m,) means of what is present; a column without any gets the others' mean."""
    seen = (~np.isnan(values)).sum(axis=0)
    mean: FloatArray = np.nan_to_num(values).sum(axis=0) / np.maximum(seen, 1)
    if (seen == 0).any() and (seen > 0).any():
        mean[seen == 0] = mean[seen > 0].mean()
    return mean
