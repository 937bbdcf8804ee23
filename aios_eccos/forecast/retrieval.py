"""Forecasts from the most similar past queries.

Per model: the outcomes of the k nearest records, weighted by exp(similarity / temperature), shrunk
to the model's own mean by how many records really speak (the effective number of weights that are
neither missing nor negligible). Plain means of 16 neighbors, as AIOS ships, miss a floor by 5 to
11 points once an optimizer has chosen among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.priors import (
    PRIOR_TOKENS,
    PRIOR_WEIGHT,
    PriorPredictor,
    cap_tokens,
    prior_success,
)
from aios_eccos.history.store import Embeddings, HistoryStore, Neighbors
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, FloatArray, Forecast, Model, Query

#: Records looked at per query; more only add distant ones of negligible weight.
NEIGHBORS = 32
#: Of the weights exp(similarity / temperature); measured, the curve is flat around it.
TEMPERATURE = 0.1
#: Effective records that a model's own mean weighs as much as.
SHRINK = 3.0


@dataclass(frozen=True, slots=True)
class Means:
    """What is known of each model whatever the query.

    Attributes:
        models: M names.
        correctness, output_tokens: (M,) means, NaN where nothing was seen.
        judged: (M,) outcomes with a verdict.
        spacing: sorted distances (1 - cosine) from records to their nearest other record.
    """

    models: tuple[str, ...]
    correctness: FloatArray
    output_tokens: FloatArray
    judged: FloatArray
    spacing: FloatArray

    @classmethod
    def of(cls, table: HistoryTable, sample: int = 2000) -> Means:
        """Summarize a table; distances are measured on a fixed sample of at most `sample` rows."""
        judged = np.sum(~np.isnan(table.correctness), axis=0).astype(float)
        return cls(
            models=table.models,
            correctness=_mean_of_present(table.correctness),
            output_tokens=_mean_of_present(table.output_tokens),
            judged=judged,
            # Among judged rows, as only they are neighbors.
            spacing=_spacing(table.embeddings[~np.isnan(table.correctness).all(axis=1)], sample),
        )

    def column(self, name: str) -> int | None:
        """The model's column, None if history never saw it."""
        return self.models.index(name) if name in self.models else None


def weigh(
    similarity: NDArray[np.floating], values: FloatArray, temperature: float = TEMPERATURE
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean of neighbors' values (n, k, m), missing ones masked, and its support (n, m).

    Support is Kish's effective number (sum w)^2 / sum w^2 of the weights present. Where nothing is
    present the mean is NaN and the support 0.
    """
    known = np.where(np.isfinite(similarity), similarity, -np.inf).astype(float)
    top = np.max(known, axis=1, keepdims=True, initial=-1.0)
    weight = np.exp((known - top) / temperature)[:, :, None] * ~np.isnan(values)
    total = weight.sum(axis=1)
    squares = (weight**2).sum(axis=1)
    seen = total > 0
    mean = np.full(total.shape, np.nan)
    np.divide((weight * np.nan_to_num(values)).sum(axis=1), total, out=mean, where=seen)
    support = np.zeros(total.shape)
    np.divide(total**2, squares, out=support, where=seen)
    return mean, support


def shrink(mean: FloatArray, support: FloatArray, toward: FloatArray) -> FloatArray:
    """Pull neighbors' means (n, m) to the models' own (m,) by how little they are supported."""
    return (np.nan_to_num(mean) * support + SHRINK * toward) / (support + SHRINK)


def leave_one_out(
    table: HistoryTable, k: int = NEIGHBORS, block: int = 512
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What retrieval would have forecast of each record had it not been there.

    Returns:
        success, output tokens and support, each (N, M); equal texts count as the record itself.
    """
    n = len(table)
    width = min(k, max(n - 1, 0))
    means = Means.of(table, sample=0)
    shape = (n, len(table.models))
    success, tokens, support = np.empty(shape), np.empty(shape), np.empty(shape)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        cosine = (table.embeddings[rows] @ table.embeddings.T).astype(float)
        cosine[cosine > 1 - 1e-6] = -np.inf
        near = np.argpartition(-cosine, width - 1, axis=1)[:, :width] if width else None
        if near is None:
            success[rows], tokens[rows], support[rows] = means.correctness, means.output_tokens, 0.0
            continue
        similarity = np.take_along_axis(cosine, near, axis=1)
        rate, support[rows] = weigh(similarity, table.correctness[near])
        length, length_support = weigh(similarity, table.output_tokens[near])
        success[rows] = shrink(rate, support[rows], means.correctness)
        tokens[rows] = shrink(length, length_support, means.output_tokens)
    return success, tokens, support


class RetrievalPredictor:
    """k nearest neighbors, weighted, shrunk, with priors for models never seen.

    The models' own means are read from the history's table, at first use and again by `refresh`
    (the caller refreshes when the history has grown by a few percent; neighbors are always live).

    Args:
        without: (n,) of n ids, records that are no neighbors where more than one model was judged
            on them: those certificates rest on.
    """

    name = "retrieval"
    wants_layers = False

    def __init__(
        self,
        history: HistoryStore,
        *,
        k: int = NEIGHBORS,
        without: Callable[[Sequence[str]], BoolArray] | None = None,
    ) -> None:
        self._history = history
        self._k = k
        self._without = without
        self._lock = threading.Lock()
        self._means: Means | None = None

    @property
    def means(self) -> Means:
        """The models' own means, read once."""
        with self._lock:
            if self._means is None:
                self._means = Means.of(self._history.table())
            return self._means

    def refresh(self, table: HistoryTable | None = None) -> None:
        """Take the models' means anew, from `table` or from the history."""
        means = Means.of(self._history.table() if table is None else table)
        with self._lock:
            self._means = means

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """Forecast from neighbors; without embeddings from the models' means, else from priors."""
        n, names = len(queries), tuple(model.name for model in models)
        means = self.means
        if not n or not means.models:
            return PriorPredictor().forecast(queries, embeddings, models)
        toward, length = own_means(means, models)
        if embeddings is None:
            flat = np.zeros((n, len(models)))
            tokens = cap_tokens(flat + length, queries)
            return Forecast(names, flat + toward, tokens, flat, np.full(n, np.nan))
        found = self._nearest(embeddings, names)
        rate, support = weigh(found.similarity, found.correctness)
        tokens, heard = weigh(found.similarity, found.output_tokens)
        return Forecast(
            models=names,
            success=np.clip(shrink(rate, support, toward), 0.0, 1.0),
            output_tokens=cap_tokens(shrink(tokens, heard, length), queries),
            support=support,
            novelty=novelty(found.similarity, means.spacing),
        )

    def _nearest(self, embeddings: Embeddings, names: Sequence[str]) -> Neighbors:
        """The k nearest; without some, those of the 2 k nearest that are left, at most k."""
        if self._without is None:
            return self._history.nearest(embeddings, names, self._k)
        found = self._history.nearest(embeddings, names, 2 * self._k)
        seen = np.isfinite(found.similarity)
        compared = (~np.isnan(found.correctness)).sum(axis=2) > 1
        for row, ids in enumerate(found.ids):
            seen[row, : len(ids)] &= ~(self._without(ids) & compared[row, : len(ids)])
        seen &= seen.cumsum(axis=1) <= self._k
        return replace(found, similarity=np.where(seen, found.similarity, np.nan))


def own_means(means: Means, models: Sequence[Model]) -> tuple[FloatArray, FloatArray]:
    """(m,) success and output length of each model whatever the query.

    A model with few verdicts is drawn to its prior: its declared strength, else the pool's mean
    (among models of known success price says little), else its price's rank.
    """
    columns = [means.column(model.name) for model in models]
    pool = means.correctness[means.judged > 0]
    prior = prior_success(models)
    if len(pool):
        declared = [model.strength is not None for model in models]
        prior = np.where(declared, prior, float(pool.mean()))
    spoken = means.output_tokens[~np.isnan(means.output_tokens)]
    usual = float(spoken.mean()) if len(spoken) else PRIOR_TOKENS
    rate, length = prior.copy(), np.full(len(models), usual)
    for j, column in enumerate(columns):
        if column is None:
            continue
        count = means.judged[column]
        if count:
            total = count * means.correctness[column] + PRIOR_WEIGHT * prior[j]
            rate[j] = total / (count + PRIOR_WEIGHT)
        if not np.isnan(means.output_tokens[column]):
            length[j] = means.output_tokens[column]
    return rate, length


def novelty(similarity: NDArray[np.floating], spacing: FloatArray) -> FloatArray:
    """(n,) quantile of each query's distance to its nearest record among the records' own."""
    if not len(spacing) or not similarity.shape[1]:
        return np.full(len(similarity), np.nan)
    nearest = np.max(np.where(np.isfinite(similarity), similarity, -1.0), axis=1)
    rank = np.searchsorted(spacing, 1.0 - nearest, side="right")
    return np.asarray(rank / len(spacing), dtype=float)


def _mean_of_present(values: FloatArray) -> FloatArray:
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    mean = np.full(values.shape[1], np.nan)
    np.divide(np.nan_to_num(values).sum(axis=0), count, out=mean, where=count > 0)
    return mean


def _spacing(embeddings: NDArray[np.float32], sample: int) -> FloatArray:
    n = len(embeddings)
    if n < 2 or sample < 1:
        return np.empty(0)
    rows = np.linspace(0, n - 1, min(n, sample)).astype(int)
    cosine = embeddings[rows] @ embeddings.T
    cosine[np.arange(len(rows)), rows] = -1.0
    return np.sort(1.0 - cosine.max(axis=1).astype(float))
