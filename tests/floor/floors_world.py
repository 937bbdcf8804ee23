"""Synthetic calls streamed through the classes that a kernel runs."""

from __future__ import annotations

import numpy as np

from aios_eccos.config import parse_settings
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.lab.served import Served
from aios_eccos.observe.trace import Trace
from aios_eccos.values import FloatArray, Model, Query

#: Dollars per output token: costs become lengths.
TOKEN = 1e-8
NAMES = ("small", "large")


def pool(names=NAMES) -> list[Model]:
    return [Model(name, limit=10**6, input_price=0.0, output_price=TOKEN) for name in names]


def world(
    rng: np.random.Generator,
    n: int,
    levels=(0.55, 0.9),
    costs=(1e-5, 1e-3),
    noise: float = 1.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n, m) calibrated forecasts, their outcomes, their costs."""
    level = np.array(levels)
    odds = np.log(level / (1 - level)) + rng.normal(0, noise, (n, 1))
    odds = odds + rng.normal(0, 0.5, (n, len(levels)))
    success = 1 / (1 + np.exp(-odds))
    outcomes = (rng.random(success.shape) < success).astype(float)
    return success, outcomes, np.tile(costs, (n, 1))


def book_of(rng: np.random.Generator, n: int = 3000, names=NAMES, **kind) -> PriceBook:
    success, outcomes, cost = world(rng, n, **kind)
    return PriceBook(names, success, outcomes, cost)


def harder(rng: np.random.Generator, success: FloatArray, shift) -> FloatArray:
    """Outcomes of calls that are harder than their forecasts say, by log-odds for each model."""
    odds = np.log(success / (1 - success)) + np.asarray(shift)
    return (rng.random(success.shape) < 1 / (1 + np.exp(-odds))).astype(float)


class Stream(Served):
    """`Served` over a book, with calls numbered."""

    def __init__(self, book: PriceBook, settings=None, workload=None) -> None:
        learned = Learned(PriorPredictor(), book=book, judged=dict.fromkeys(book.models, 1e3))
        parsed = parse_settings({"exploration": 0.0, **(settings or {})})
        super().__init__(pool(book.models), parsed, learned, workload)
        self._number = 0

    def begin_control(self) -> None:
        """As many verdicts on a floor as control asks for."""
        self.floors.controlled = frozenset({"", *self.router.settings.agents})

    def call(self, success, cost, outcome=None, **query) -> Trace:
        """One call; judged where `outcome` (m,) is given."""
        self._number += 1
        asked = Query("", id=f"call{self._number}", **query)
        trace = self.serve(asked, success, np.asarray(cost) / TOKEN)
        if outcome is not None:
            self.judge(trace, float(outcome[self.column(trace)]))
        return trace
