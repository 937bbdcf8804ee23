"""One split of recorded answers: fit on its history, forecast its test rows, and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.decide.rule import choose
from aios_eccos.errors import DataError
from aios_eccos.floor.curve import PriceCurve, price_curve
from aios_eccos.forecast.head.fit import log_odds, sigmoid
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.pricing import Prices
from aios_eccos.forecast.retrieval import NEIGHBORS, leave_one_out, shrink, weigh
from aios_eccos.lab.metrics import hull_cost
from aios_eccos.lab.splits import split_labels
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray

#: Neighbors, plain means: as AIOS ships them, and as in RouterBench's per-query utility.
AIOS_NEIGHBORS, UTILITY_NEIGHBORS = 16, 40


@dataclass(frozen=True, slots=True)
class Recorded:
    """A data set, embedded. `layers` is (N, 4 d); `prices` has the table's models in its order."""

    table: HistoryTable
    layers: NDArray[np.float32]
    prices: Prices

    def index(self, number: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of history (train and val) and of test in a split.

        Raises:
            DataError: one of them is empty (a file without labels has no split of its own).
        """
        t = self.table
        labels = split_labels(t.ids, t.tasks, t.texts, t.splits, number=number, seed=seed)
        test = np.array(labels) == "test"
        if not test.any() or test.all():
            raise DataError(f"split {number} has no rows of test, or none but them")
        return np.flatnonzero(~test), np.flatnonzero(test)

    def cost(self, rows: NDArray[np.int64], tokens: FloatArray) -> FloatArray:
        """(n, m) cost of these rows at these answer lengths."""
        return self.prices.cost(self.table.input_tokens[rows], tokens)


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What a predictor says of a split's test rows, and history's price curve under it.

    Attributes:
        success, tokens, cost: (n, m) forecasts. outcomes, spent: (n, m) what came.
    """

    name: str
    success: FloatArray
    tokens: FloatArray
    cost: FloatArray
    outcomes: FloatArray
    spent: FloatArray
    lengths: FloatArray
    curve: PriceCurve

    def serve(self, price: float) -> tuple[float, float, float]:
        """Success had, success promised and cost per call at a price."""
        pick = choose(self.cost, self.success, price)
        line = np.arange(len(pick))
        promised = float(self.success[line, pick].mean()) - self.curve.optimism(price)
        return (
            float(np.nanmean(self.outcomes[line, pick])),
            promised,
            float(np.nanmean(self.spent[line, pick])),
        )

    def frontier(self) -> tuple[FloatArray, FloatArray]:
        """Success, rising, and cost over a sweep of prices on the test rows themselves."""
        points = [self.serve(float(price)) for price in self.curve.prices]
        return np.maximum.accumulate([p[0] for p in points]), np.array([p[2] for p in points])


def forecast_rows(
    data: Recorded, head: Trained, history: NDArray[np.int64], test: NDArray[np.int64]
) -> dict[str, Forecasts]:
    """Retrieval, trained and hybrid on the rows of `test`, each with its own price curve."""
    table = data.table.rows(history)
    m = len(table.models)
    near, near_tokens = plain_neighbors(data, history, test, NEIGHBORS, shrunk=True)
    odds = head.machine(data.layers[test], [data.table.texts[i] for i in test]).astype(float)
    tokens = np.exp(odds[:, m:])
    loo, loo_tokens, _ = leave_one_out(table)
    replay = head.replay
    made = {
        "retrieval": (near, near_tokens, loo, loo_tokens),
        "trained": (sigmoid(head.alone(odds[:, :m])), tokens, replay.alone, replay.tokens),
        "hybrid": (
            sigmoid(head.mixer(odds[:, :m], log_odds(near))), tokens, replay.success, replay.tokens
        ),
    }  # fmt: skip
    return {
        name: forecasts_of(
            name,
            data,
            test,
            (success, length),
            price_curve(seen, table.correctness, data.cost(history, seen_tokens)),
        )
        for name, (success, length, seen, seen_tokens) in made.items()
    }


def forecasts_of(
    name: str,
    data: Recorded,
    rows: NDArray[np.int64],
    said: tuple[FloatArray, FloatArray],
    curve: PriceCurve,
) -> Forecasts:
    """(n, m) success and tokens said of some rows, beside what came of them."""
    success, tokens = said
    return Forecasts(
        name=name,
        success=success,
        tokens=tokens,
        cost=data.cost(rows, tokens),
        outcomes=data.table.correctness[rows],
        spent=data.cost(rows, data.table.output_tokens[rows]),
        lengths=data.table.output_tokens[rows],
        curve=curve,
    )


def fit_split(data: Recorded, history: NDArray[np.int64], seed: int = 0) -> Trained:
    """The head of a split's history."""
    return train(data.table.rows(history), data.layers[history], seed=seed)


def plain_neighbors(
    data: Recorded,
    history: NDArray[np.int64],
    test: NDArray[np.int64],
    k: int,
    *,
    shrunk: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """(n, m) success and tokens from the k nearest: weighted and shrunk, or plain means."""
    table = data.table
    similarity = (table.embeddings[test] @ table.embeddings[history].T).astype(float)
    near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    close = np.take_along_axis(similarity, near, axis=1)
    rows = history[near]
    if not shrunk:
        close = np.ones_like(close)
    success, support = weigh(close, table.correctness[rows])
    tokens, heard = weigh(close, table.output_tokens[rows])
    if shrunk:
        success = shrink(success, support, _own_means(table.correctness[history]))
        tokens = shrink(tokens, heard, _own_means(table.output_tokens[history]))
    return success, tokens


def _own_means(values: FloatArray) -> FloatArray:
    """(m,) each model's mean; the pool's where it has no value."""
    seen = ~np.isnan(values)
    count = seen.sum(axis=0)
    mean = np.nan_to_num(values).sum(axis=0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, mean[count > 0].mean()), dtype=float)


def quality(forecasts: Forecasts) -> dict[str, float]:
    """Brier, AUC, calibration and length errors on the test rows (means over models)."""
    p, y, tokens = forecasts.success, forecasts.outcomes, forecasts.lengths
    error = np.abs(forecasts.cost - forecasts.spent)
    return {
        "brier": float(np.nanmean((p - y) ** 2)),
        "auc": float(np.nanmean([auc(p[:, j], y[:, j]) for j in range(p.shape[1])])),
        "calibration_error": calibration_error(p.ravel(), y.ravel()),
        "length_mae_tokens": float(np.nanmean(np.abs(forecasts.tokens - tokens))),
        "cost_mae_relative": float(
            np.mean(np.nanmean(error, axis=0) / np.nanmean(forecasts.spent, axis=0))
        ),
        "spend_bias": float(np.nansum(forecasts.cost) / np.nansum(forecasts.spent) - 1),
    }


def auc(p: FloatArray, y: FloatArray) -> float:
    """Chance that a good answer is forecast above a bad one, ties half; NaN with one class."""
    from scipy.stats import rankdata

    seen = ~np.isnan(y)
    good = y[seen] >= 0.5
    if not good.any() or good.all():
        return float("nan")
    ranks = rankdata(p[seen])
    n = int(good.sum())
    return float((ranks[good].sum() - n * (n + 1) / 2) / (n * (len(good) - n)))


def reliability(
    p: FloatArray, y: FloatArray, bins: int = 10
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean forecast, mean outcome and share of each of `bins` equally filled bins."""
    seen = ~np.isnan(y)
    order = np.argsort(p[seen], kind="stable")
    parts = np.array_split(order, min(bins, max(len(order), 1)))
    p, y = p[seen], y[seen]
    return (
        np.array([p[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
        np.array([len(part) / len(order) for part in parts]),
    )


def calibration_error(p: FloatArray, y: FloatArray) -> float:
    """Mean distance of forecast and outcome over equally filled bins."""
    said, had, share = reliability(p, y)
    return float((share * np.abs(said - had)).sum())


def floor_rows(forecasts: Forecasts, floors: Sequence[float]) -> list[dict[str, Any]]:
    """Each floor served at history's price: asked, realised, promised, cost."""
    rows = []
    for floor in floors:
        realised, promised, cost = forecasts.serve(forecasts.curve.price_for(floor))
        rows.append(
            {"asked": floor, "realised": realised, "promised": promised, "cost_per_call_usd": cost}
        )
    return rows


def sampling_sd(forecasts: Forecasts, floor: float, history: int) -> float:
    """sd of an exactly calibrated forecaster's error: test rows and history both are samples."""
    price = forecasts.curve.price_for(floor)
    pick = choose(forecasts.cost, forecasts.success, price)
    p = forecasts.success[np.arange(len(pick)), pick]
    return float(np.sqrt((p * (1 - p)).mean() * (1 / len(p) + 1 / history)))


def cost_at(success: FloatArray, cost: FloatArray, target: float) -> float:
    """Cost at which a rising frontier reaches a success; NaN where it does not."""
    if target > success[-1]:
        return float("nan")
    return float(np.exp(np.interp(target, success, np.log(np.maximum(cost, 1e-12)))))


def peer_costs(
    data: Recorded,
    history: NDArray[np.int64],
    test: NDArray[np.int64],
    ours: Forecasts,
    targets: Sequence[float],
) -> dict[str, list[float]]:
    """Cost at each target success, of the hybrid and of the peers."""
    line = np.arange(len(test))
    forty, forty_tokens = plain_neighbors(data, history, test, UTILITY_NEIGHBORS)
    cost = data.cost(test, forty_tokens)
    utility = [choose(cost, forty, float(price)) for price in ours.curve.prices]
    few, few_tokens = plain_neighbors(data, history, test, AIOS_NEIGHBORS)
    cheap = data.cost(test, few_tokens)
    threshold = []
    for wanted in np.linspace(0, 1.0, 65):
        passes = few >= wanted
        best = np.argmax(few, axis=1)
        first = np.argmin(np.where(passes, cheap, np.inf), axis=1)
        threshold.append(np.where(passes.any(axis=1), first, best))

    def points(picks: list[NDArray[np.int64]]) -> tuple[FloatArray, FloatArray]:
        had = np.array([np.nanmean(ours.outcomes[line, pick]) for pick in picks])
        spent = np.array([np.nanmean(ours.spent[line, pick]) for pick in picks])
        order = np.argsort(spent, kind="stable")
        return np.maximum.accumulate(had[order]), spent[order]

    single = [np.full(len(test), j) for j in range(ours.success.shape[1])]
    curves = {
        "eccos": ours.frontier(),
        "utility_knn": points(utility),
        "neighbour_threshold": points(threshold),
    }
    costs = {
        name: [cost_at(*curve, target) for target in targets] for name, curve in curves.items()
    }
    had, spent = points(single)
    costs["hull"] = [hull_cost(spent, had, target) for target in targets]
    return costs
