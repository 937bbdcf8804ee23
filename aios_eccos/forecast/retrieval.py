"""Forecasts from the most similar past queries.

Plain means of 16 neighbors, as AIOS ships, miss a floor by 5 to 11 points once an optimizer has
chosen among them: so neighbors are weighted, and drawn to each model's own mean where few speak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.predictor import Means, alike, cap_tokens, filled, own_means, ratio
from aios_eccos.history.history import History
from aios_eccos.history.store import Embeddings, Neighbors
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, FloatArray, Forecast, IntArray, Model, Query

#: Records looked at per query; more only add distant ones of negligible weight.
NEIGHBORS = 32
#: Of the weights exp(similarity / temperature); measured, the curve is flat around it.
TEMPERATURE = 0.1
#: Effective records that a model's own mean weighs as much as.
SHRINK = 3.0
#: Rows compared with all others at a time.
BLOCK = 512
#: Cosine beyond which a record is the query itself, under another id.
ITSELF = 1 - 1e-6


def weigh(similarity: NDArray[np.floating], values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted mean of neighbors' values (n, k, m), missing ones masked, and its support (n, m).

    Weights are exp(similarity / `TEMPERATURE`); support is Kish's effective number
    (sum w)^2 / sum w^2 of those present. Without any the mean is NaN and the support 0.
    """
    known = np.where(np.isfinite(similarity), similarity, -np.inf).astype(float)
    top = np.max(known, axis=1, keepdims=True, initial=-1.0)
    weight = np.exp((known - top) / TEMPERATURE)[:, :, None] * ~np.isnan(values)
    total = weight.sum(axis=1)
    mean = ratio((weight * filled(values)).sum(axis=1), total)
    return mean, filled(ratio(total**2, (weight**2).sum(axis=1)))


def _settle(
    similarity: NDArray[np.floating],
    correctness: FloatArray,
    output_tokens: FloatArray,
    own: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Success, answer length and support, each (n, m), of k neighbors and the models' own means.

    Args:
        similarity: (n, k), not finite where there is no neighbor.
        correctness, output_tokens: (n, k, m), NaN = missing.
        own: see `own_means`, each (m,) or (n, m).
    """
    m = correctness.shape[2]
    mean, support = weigh(similarity, np.concatenate([correctness, output_tokens], axis=2))
    # Drawn to the models' own by how little they are supported.
    toward = np.concatenate(own, axis=-1)
    drawn = (filled(mean) * support + SHRINK * toward) / (support + SHRINK)
    return np.clip(drawn[:, :m], 0.0, 1.0), drawn[:, m:], support[:, :m]


def leave_one_out(
    table: HistoryTable, k: int = NEIGHBORS, *, models: Sequence[Model] = ()
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Success, output tokens and support, each (N, M), forecast as if a record's question were new.

    It is no neighbor, under whatever id, nor counted in the models' own means.

    Args:
        models: what is declared of the table's models; of one that is not named, nothing is.
    """
    declared = {model.name: model for model in models}
    columns = [declared.get(name, Model(name)) for name in table.models]
    _, question = np.unique(np.array(table.keys, dtype=str), return_inverse=True)
    rate, judged = _means_without(table.correctness, question)
    length, _ = _means_without(table.output_tokens, question)
    without = Means(table.models, rate, length, judged, spacing=np.empty(0))
    rates, lengths = own_means(without, columns)
    n, shape = len(table), table.correctness.shape
    width = min(k, max(n - 1, 0))
    success, tokens, support = np.empty(shape), np.empty(shape), np.empty(shape)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        cosine = table.embeddings[rows] @ table.embeddings.T
        cosine[(question[rows, None] == question) | (cosine > ITSELF)] = -np.inf
        near = np.argpartition(-cosine, width - 1, axis=1)[:, :width]
        success[rows], tokens[rows], support[rows] = _settle(
            np.take_along_axis(cosine, near, axis=1),
            table.correctness[near],
            table.output_tokens[near],
            (rates[rows], lengths[rows]),
        )
    return success, tokens, support


def _means_without(values: FloatArray, question: IntArray) -> tuple[FloatArray, FloatArray]:
    """Each model's mean and count of the (N, M) values present, without a row's own question.

    Args:
        question: (N,) numbers, equal where rows hold one question.
    """
    present = ~np.isnan(values)
    sums, counts = np.zeros((2, question.max(initial=-1) + 1, values.shape[1]))
    np.add.at(sums, question, np.nan_to_num(values))
    np.add.at(counts, question, present)
    count = counts.sum(axis=0) - counts[question]
    total = sums.sum(axis=0) - sums[question]
    return ratio(np.where(count > 0, total, 0.0), count), count


class RetrievalPredictor:
    """k nearest neighbors, weighted, shrunk, with priors for models never seen.

    Args:
        history: neighbors come from it as it is at every call.
        table: what the models' own means are of; default: the history's as it is now.
        without: (n,) of n `question_key`s: those whose records are no neighbors where more than
            one model was judged on them, since certificates rest on these.
    """

    name = "retrieval"
    wants_layers = False

    def __init__(
        self,
        history: History,
        table: HistoryTable | None = None,
        *,
        k: int = NEIGHBORS,
        without: Callable[[Sequence[str]], BoolArray] | None = None,
    ) -> None:
        self._history = history
        self._k = k
        self._without = without
        self.means = Means.of(history.table() if table is None else table)
        #: The last pool's `own_means`.
        self._own: tuple[tuple[Model, ...], tuple[FloatArray, FloatArray]] | None = None

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """From neighbors; without embeddings or records from `own_means`."""
        means, names = self.means, tuple(model.name for model in models)
        toward, length = own = self._of_pool(tuple(models))
        if embeddings is None or not queries or not means.models:
            return alike(queries, models, toward, length)
        found = self._nearest(embeddings, names)
        success, tokens, support = _settle(
            found.similarity, found.correctness, found.output_tokens, own
        )
        far = novelty(found.similarity, means.spacing)
        return Forecast(names, success, cap_tokens(tokens, queries), support, far)

    def _of_pool(self, models: tuple[Model, ...]) -> tuple[FloatArray, FloatArray]:
        """`own_means` of the models, which are the same in nearly every call."""
        known = self._own
        if known is None or known[0] != models:
            known = self._own = models, own_means(self.means, models)
        return known[1]

    def _nearest(self, embeddings: Embeddings, names: Sequence[str]) -> Neighbors:
        """The k nearest; without some, those of the 2 k nearest that are left, at most k."""
        if self._without is None:
            return self._history.nearest(embeddings, names, self._k)
        found = self._history.nearest(embeddings, names, 2 * self._k)
        seen = np.isfinite(found.similarity)
        compared = (~np.isnan(found.correctness)).sum(axis=2) > 1
        for row, keys in enumerate(found.keys):
            seen[row, : len(keys)] &= ~(self._without(keys) & compared[row, : len(keys)])
        seen &= seen.cumsum(axis=1) <= self._k
        return replace(found, similarity=np.where(seen, found.similarity, np.nan))


def novelty(similarity: NDArray[np.floating], spacing: FloatArray) -> FloatArray:
    """(n,) quantile of each query's distance to its nearest record among the records' own."""
    if not len(spacing) or not similarity.shape[1]:
        return np.full(len(similarity), np.nan)
    nearest = np.max(np.where(np.isfinite(similarity), similarity, -1.0), axis=1)
    rank = np.searchsorted(spacing, 1.0 - nearest, side="right")
    return np.asarray(rank / len(spacing), dtype=float)
