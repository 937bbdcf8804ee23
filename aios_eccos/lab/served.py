"""Recorded calls, one at a time, through the classes that a kernel runs.

`Served` is a router, its floors and a workload in memory, with recorded forecasts in the place of
a predictor. Nothing of the rule, the price or its control is written here a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aios_eccos.config import Settings
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.pricing import price_table
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import Answer, CallResult, Failure, FloatArray, Forecast, Model, Query
from aios_eccos.verdicts.taken import take_verdict
from aios_eccos.workload.memory import MemoryWorkload

#: Effective records behind a recorded forecast: more than a price of success asks for.
SUPPORT = 99.0


class Recorded:
    """A predictor that says what was recorded of the queries that come next."""

    name = "recorded"
    wants_layers = False

    def __init__(self) -> None:
        self.success: FloatArray = np.empty((0, 0))
        self.tokens: FloatArray = np.empty((0, 0))

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """See `Predictor.forecast`; (n, m) rows in the order of the models."""
        names = tuple(model.name for model in models)
        support = np.full(self.success.shape, SUPPORT)
        return Forecast(names, self.success, self.tokens, support, np.zeros(len(queries)))


class Served:
    """Serves recorded calls under the settings' floor, budget and policies.

    Args:
        models: the pool, in the order of the rows' columns.
        learned: what history taught; its predictor is replaced by the recorded forecasts.
        workload: shared with other kernels, else its own.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        learned: Learned,
        workload: MemoryWorkload | None = None,
    ) -> None:
        self.workload = workload or MemoryWorkload()
        self.floors = Floors(settings, self.workload, self.workload)
        self._forecasts = Recorded()
        self._settings = settings
        self._prices = price_table(models)
        known = replace(learned, predictor=self._forecasts, embedder=None)
        self.router = Router(models, settings, self._prices, self.workload, known, self.floors)
        self._columns = {model.name: column for column, model in enumerate(models)}

    def column(self, trace: Trace) -> int:
        """The column of the model that served."""
        return self._columns[trace.model or ""]

    def serve(
        self,
        query: Query,
        success: FloatArray,
        tokens: FloatArray,
        had_tokens: FloatArray | None = None,
        failure: Failure | None = None,
    ) -> Trace:
        """Serve one call, and move the price as a settled call does.

        Args:
            success, tokens: (m,) forecasts.
            had_tokens: (m,) output tokens of each model's recorded answer; default: the forecast.
            failure: instead of an answer.
        """
        self._forecasts.success, self._forecasts.tokens = success[None], tokens[None]
        candidates = self.router.forecast([query])
        (decision,) = self.router.assign(candidates, self.router.slots()).decisions
        self.router.release(decision)
        if decision.model is None:
            raise ValueError("the call would have to wait; recorded calls are served one by one")
        had = tokens if had_tokens is None else had_tokens
        spoken = round(float(had[self._columns[decision.model]]))
        answer = Answer("", query.input_tokens, spoken, failure)
        result = CallResult(query, answer, decision, 1, 0.0, 0.0)
        trace = trace_of(result, self._prices, self._settings, self.router.models)
        (trace,) = self.floors.settled([trace])
        return replace(trace, id=query.id)

    def judge(self, trace: Trace, outcome: float) -> None:
        """Take a verdict (0..1) on a served call."""
        take_verdict(self.workload, self.floors, trace, outcome)
