"""The seam between what is known and what is decided: `Predictor.forecast`, and priors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.pricing import price_table, size_of
from aios_eccos.values import FloatArray, Forecast, Model, Query

#: Success of the cheapest and the dearest model where nothing is declared: a guess, narrow because
#: prices follow strength only loosely, and outweighed by a few verdicts.
PRIOR_LOW, PRIOR_HIGH = 0.5, 0.75
#: Tokens of an answer before any was seen (the mean of the recorded sets is 200 to 300).
PRIOR_TOKENS = 250.0
#: Records that a prior weighs as much as, when it meets outcomes.
PRIOR_WEIGHT = 8.0


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


class Predictor(Protocol):
    """Forecasts success and output length of every model on every query.

    Attributes:
        name: `retrieval`, `trained`, `hybrid` or `priors`.
        wants_layers: whether the caller shall embed with hidden layers and pass them; without
            them the trained parts step back and neighbors decide.
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
        """Forecast n queries on m models.

        Args:
            queries: n queries; a query without text is forecast on priors.
            embeddings: (n, d) rows of unit length, None while the embedder is loading.
            models: the m columns wanted, seen before or not.
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
        n, m = len(queries), len(models)
        success = np.tile(prior_success(models), (n, 1)).reshape(n, m)
        tokens = cap_tokens(np.full((n, m), PRIOR_TOKENS), queries)
        names = tuple(model.name for model in models)
        return Forecast(names, success, tokens, np.zeros((n, m)), np.full(n, np.nan))
