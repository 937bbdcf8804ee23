"""Prices from audits: what a success is worth where only losses against a reference are known."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from aios_eccos.decide.rule import choose
from aios_eccos.floor.course import STAGES, stage_allows
from aios_eccos.forecast.pricing import price_table
from aios_eccos.forecast.ridge import RidgePredictor
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray, IntArray, Model

#: Standard deviations that the careful price takes off every forecast, and the share of the
#: allowed loss that it aims at: it is to be proven, so it must hold.
CAREFUL, CAREFUL_SHARE = 1.0, 0.1
#: Standard errors that the price of a served policy keeps from the loss that its choices may have:
#: more than is allowed, since a share of its calls is held and loses nothing.
KEPT_ERRORS = 0.5
#: Audited calls from which on there are prices; choices with a known loss that correct a forecast.
FEWEST_ROWS, FEWEST_KNOWN = 40, 5
#: Prices tried, between these multiples of the reference's usual cost.
TRIED = np.exp(np.linspace(-3, 4, 50))


class LossBook:
    """Audits replayed under today's prices: what each price of success loses.

    Args:
        predictor: fitted on the table's audits.
        table: of the audits. models: the pool, in the predictor's order.
    """

    def __init__(
        self, predictor: RidgePredictor, table: HistoryTable, models: Sequence[Model]
    ) -> None:
        self.reference, self.promised = (
            predictor.reference,
            float(predictor.success(np.zeros(1))[0]),
        )
        self.error = predictor.error
        self._names = tuple(model.name for model in models)
        self._spread, self._success = predictor.spread, predictor.success
        rows = np.flatnonzero(predictor.used)
        self._losses, self._unseen = predictor.losses[rows], predictor.unseen[rows]
        self._losses[:, self._names.index(self.reference)] = 0.0
        self._support = predictor.support[rows]
        tokens = np.tile(predictor.output_tokens(models), (len(rows), 1))
        self._cost = price_table(models).cost(table.input_tokens[rows], tokens)
        self._found: dict[tuple[frozenset[str], float, bool], float | None] = {}
        self._lock = threading.Lock()

    def careful(self, names: Sequence[str], success: FloatArray, support: FloatArray) -> FloatArray:
        """Success as the careful price sees it: one sd less, and nobody beats the reference.

        Args:
            names: m models, the reference among them; the pool may have changed since.
            success, support: forecasts, (m,) or (n, m).
        """
        best = success[..., names.index(self.reference), None]
        known = dict(zip(self._names, self._spread.tolist(), strict=True))
        spread = np.array([known.get(name, 0.0) for name in names])
        doubt = spread / np.sqrt(np.maximum(support, 1e-9))
        lowered: FloatArray = np.maximum(np.minimum(success, best) - CAREFUL * doubt, 0.0)
        return lowered

    def price(self, names: Sequence[str], allowed: float, *, careful: bool) -> float | None:
        """Dollars per success that keep the net loss within `allowed`; None with few audits.

        Args:
            names: models that may serve. careful: to be proven, else to serve.
        """
        key = frozenset(names), allowed, careful
        with self._lock:
            if key not in self._found:
                few = len(self._cost) < FEWEST_ROWS or self.reference not in key[0]
                self._found[key] = None if few else self._price(*key)
            return self._found[key]

    def _price(self, names: frozenset[str], allowed: float, careful: bool) -> float:
        open_to = np.array([name in names for name in self._names])
        success = self._success(self._unseen)
        if careful:
            success = self.careful(self._names, success, self._support)
        usual = float(self._cost[:, self._names.index(self.reference)].mean())
        limit = CAREFUL_SHARE * allowed if careful else stage_allows(len(STAGES) - 1, allowed)
        errors = 0.0 if careful else KEPT_ERRORS
        best = TRIED[-1] * usual
        for price in TRIED[::-1] * usual:
            loss, error = self._lost(choose(self._cost, success, price, open_to))
            if loss + errors * error > limit:
                break
            best = price
        return float(best)

    def _lost(self, choice: IntArray) -> tuple[float, float]:
        """Mean loss of the choices (N,), corrected by those known, and its standard error."""
        line = np.arange(len(choice))
        hope, had = self._unseen[line, choice], self._losses[line, choice]
        miss = (had - hope)[~np.isnan(had)]
        gap = float(miss.mean()) if len(miss) > FEWEST_KNOWN else 0.0
        spread = float(miss.var()) if len(miss) else 0.0
        return float(hope.mean()) + gap, float(np.sqrt(spread / max(len(miss), 1)))
