"""The seam between what is known and what is decided, and forecasts whatever the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.pricing import price_table, size_of
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray, Forecast, Model, Query

#: Success of the cheapest and the dearest model where nothing is declared: a guess, narrow because
#: prices follow strength only loosely, and outweighed by a few verdicts.
PRIOR_LOW, PRIOR_HIGH = 0.5, 0.75
#: Tokens of an answer before any was seen (the mean of the recorded sets is 200 to 300).
PRIOR_TOKENS = 250.0
#: Records that a prior weighs as much as, when it meets outcomes.
PRIOR_WEIGHT = 8.0
#: Rows whose distance to their nearest record is measured.
SAMPLE = 2000


def prior_success(models: Sequence[Model]) -> FloatArray:
    """(m,) prior success: the declared strength, else by rank of price (of size without prices)."""
    prices = price_table(models)
    key = prices.output + 0.25 * prices.input if prices.money else None
    if key is None or not np.any(key > 0):
        key = np.array([size_of(model) for model in models])
    below = (key[None, :] < key[:, None]).sum(axis=1)
    ties = (key[None, :] == key[:, None]).sum(axis=1) - 1
    rank = (below + ties / 2) / max(len(models) - 1, 1) if len(models) > 1 else np.array([0.5])
    prior = PRIOR_LOW + (PRIOR_HIGH - PRIOR_LOW) * rank[: len(models)]
    declared = np.array([np.nan if m.strength is None else m.strength for m in models])
    return np.asarray(np.where(np.isnan(declared), prior, declared), dtype=float)


def cap_tokens(tokens: FloatArray, queries: Sequence[Query]) -> FloatArray:
    """(n, m) lengths, none above its query's own answer limit."""
    caps = np.array([q.max_output_tokens or np.inf for q in queries], dtype=float)
    return np.asarray(np.minimum(tokens, caps[:, None]), dtype=float)


def alike(
    queries: Sequence[Query], models: Sequence[Model], success: FloatArray, tokens: FloatArray
) -> Forecast:
    """The (m,) success and answer lengths for every query; support 0, novelty unknown."""
    n, none = len(queries), np.zeros((len(queries), len(models)))
    names = tuple(model.name for model in models)
    lengths = cap_tokens(none + tokens, queries)
    return Forecast(names, none + success, lengths, none, np.full(n, np.nan))


class Predictor(Protocol):
    """Forecasts success and output length of every model on every query.

    `wants_layers` asks the caller to embed with hidden layers and to pass them; without them the
    trained parts step back and neighbors decide.
    """

    name: str
    wants_layers: bool

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """Forecast n queries on m models, seen before or not.

        Args:
            embeddings: (n, d) rows of unit length, None while the embedder is loading.
            layers: (n, 4 d) pooled hidden layers of the same forward pass, if at hand.

        Raises:
            HistoryError: the history cannot be read (the caller goes on with priors).
        """
        ...


class PriorPredictor:
    """Forecasts on priors alone: no history, no embedder, or both out of order."""

    name = "priors"
    wants_layers = False

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        return alike(queries, models, prior_success(models), np.array(PRIOR_TOKENS))


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
    def of(cls, table: HistoryTable) -> Means:
        """Summarize a table; distances are measured on a fixed sample of its rows."""
        present = ~np.isnan(table.correctness)
        return cls(
            models=table.models,
            correctness=_mean_of_present(table.correctness),
            output_tokens=_mean_of_present(table.output_tokens),
            judged=present.sum(axis=0).astype(float),
            # Among judged rows, as only they are neighbors.
            spacing=_spacing(table.embeddings[present.any(axis=1)]),
        )

    def column(self, name: str) -> int | None:
        """The model's column, None if history never saw it."""
        return self.models.index(name) if name in self.models else None


def own_means(means: Means, models: Sequence[Model]) -> tuple[FloatArray, FloatArray]:
    """Success and output length of each of m models whatever the query: (m,) or (N, m).

    A model with few verdicts is drawn to its prior: its declared strength, else the pool's mean
    (among models of known success price says little), else its price's rank. In the pool's mean,
    too, a model counts by how much its verdicts outweigh a prior.

    Args:
        means: its arrays may have a row for each of N records that are left out.
    """
    prior = prior_success(models)
    declared = np.array([model.strength is not None for model in models], dtype=bool)
    trust = means.judged / (means.judged + PRIOR_WEIGHT)
    total = trust.sum(axis=-1, keepdims=True)
    pool = (trust * np.nan_to_num(means.correctness)).sum(axis=-1, keepdims=True)
    prior = np.where(declared | (total == 0), prior, pool / np.maximum(total, 1e-9))
    usual = _mean_of_present(means.output_tokens, axis=-1)
    usual = np.where(np.isnan(usual), PRIOR_TOKENS, usual)[..., None]
    rate, length = prior.copy(), np.broadcast_to(usual, prior.shape).copy()
    for j, model in enumerate(models):
        column = means.column(model.name)
        if column is not None:
            count = means.judged[..., column]
            total = count * np.nan_to_num(means.correctness[..., column])
            rate[..., j] = (total + PRIOR_WEIGHT * prior[..., j]) / (count + PRIOR_WEIGHT)
            spoken = means.output_tokens[..., column]
            length[..., j] = np.where(np.isnan(spoken), length[..., j], spoken)
    return rate, length


def ratio(total: FloatArray, count: FloatArray) -> FloatArray:
    """total / count of like shapes; NaN where the count, and so the total, is 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count, dtype=float)


def filled(values: FloatArray) -> FloatArray:
    """The values, 0 where they are NaN; a tenth of `nan_to_num`'s time for few."""
    return np.where(np.isnan(values), 0.0, values)


def _mean_of_present(values: FloatArray, axis: int = 0) -> FloatArray:
    """Means along an axis of what is not NaN; NaN where nothing is."""
    return ratio(np.nan_to_num(values).sum(axis=axis), (~np.isnan(values)).sum(axis=axis))


def _spacing(embeddings: NDArray[np.float32]) -> FloatArray:
    n = len(embeddings)
    if n < 2:
        return np.empty(0)
    rows = np.linspace(0, n - 1, min(n, SAMPLE)).astype(int)
    cosine = embeddings[rows] @ embeddings.T
    cosine[np.arange(len(rows)), rows] = -1.0
    return np.sort(1.0 - cosine.max(axis=1).astype(float))
