"""Forecasts from audits: by how much each model is worse than the reference on a query.

Kernel ridge regression on the embedding, a model at a time, toward the model's own mean. Of few
records it makes more than neighbors do: on 120 to 250 of them a floor costs a third less. Its
leave-one-out forecasts have a closed form (Rasmussen and Williams 2006, section 5.4.2), and a
Gaussian process of the same kernel says how sure it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aios_eccos.forecast.predictor import (
    Means,
    alike,
    cap_tokens,
    own_means,
    prior_success,
)
from aios_eccos.forecast.retrieval import novelty
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, FloatArray, Forecast, IntArray, Model, Query

#: Of the kernel exp(-SHARPNESS (1 - cosine)), and what is added to its diagonal.
SHARPNESS, RIDGE = 3.0, 8.0
#: Newest audits of a model that are used, and fewest.
MOST, FEWEST = 1200, 10
#: A first guess of a model's loss, and the audits that it counts for; loss of one never audited.
GUESS_LOSS, GUESS_AUDITS = 0.4, 2.0
UNKNOWN_LOSS = 0.9
#: Variance that is added to that of the losses seen, since few show too little.
SPREAD = 0.02


def strongest_declared(models: Sequence[Model]) -> Model:
    """The strongest model by declared strength, else by price, else by size; ties go by name."""
    prior = prior_success(models)
    return min(zip(models, prior, strict=True), key=lambda pair: (-pair[1], pair[0].name))[0]


def losses_of(
    table: HistoryTable,
    reference: str,
    models: Sequence[str],
    *,
    error: float,
    since: Mapping[str, float],
) -> FloatArray:
    """(N, m) losses against the reference of the table's rows, NaN = missing or forgotten.

    A loss is 1 where the model was worse, -1 where it was better, freed on average from what a
    judge of this error rate adds.

    Args:
        since: seconds since the epoch by model; its audits before that are forgotten.
    """
    losses = np.full((len(table), len(models)), np.nan)
    if reference not in table.models:
        return losses
    # A verdict against another reference tells nothing of this one; "" = not known.
    against = np.isin(np.array(table.tasks), ["", reference])
    base = np.where(against, table.correctness[:, table.models.index(reference)], np.nan)
    for column, name in enumerate(models):
        if name in table.models:
            own = table.correctness[:, table.models.index(name)]
            losses[:, column] = np.sign(base - own) / (1 - 1.5 * error)
            losses[table.created < since.get(name, 0.0), column] = np.nan
    return losses


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """One model's regression on n rows.

    Attributes:
        rows: (n,) of the table. mean, spread: of the losses, and their standard deviation.
        weights: (n,) dual coefficients. inverse: (n, n). unseen: (n,) leave-one-out forecasts.
    """

    rows: IntArray
    mean: float
    spread: float
    weights: FloatArray
    inverse: FloatArray
    unseen: FloatArray

    def at(self, kernel: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Losses and support, (k,) each, at k queries of (k, n) kernel values."""
        left = np.maximum(1 - ((kernel @ self.inverse) * kernel).sum(axis=1), 0.0)
        return self.mean + kernel @ self.weights, 1 / (left / RIDGE + 1 / len(self.rows))


def _fit(losses: FloatArray, kernel: FloatArray, rows: IntArray) -> _Fit:
    """Of (n,) losses with their (n, n) kernel."""
    n = len(losses)
    mean = (losses.sum() + GUESS_LOSS * GUESS_AUDITS) / (n + GUESS_AUDITS)
    inverse = np.linalg.inv(kernel + RIDGE * np.eye(n))
    weights = inverse @ (losses - mean)
    unseen = losses - weights / np.diag(inverse)
    spread = float(np.sqrt(losses.var() + SPREAD))
    return _Fit(rows, float(mean), spread, weights, np.asarray(inverse, dtype=float), unseen)


class RidgePredictor:
    """See the module; of models that were hardly audited it says that they are poor.

    Success is the reference's prior less the loss. Support is the number of records that would make
    a mean as sure; `spread` divided by its root is the forecast's standard deviation.

    Args:
        table: rows of audits. models: the pool.
        error: of the judge. since: see `losses_of`.

    Attributes:
        reference: the pool's strongest model. error: of the judge.
        losses: (N, m) of the table's rows; unseen: (N, m) forecast as if the row's own loss were
            not known; support: (N, m) of those.
        spread: (m,) standard deviation of the losses, 0 where nothing is known.
    """

    name = "ridge"
    wants_layers = False

    def __init__(
        self,
        table: HistoryTable,
        models: Sequence[Model],
        *,
        error: float,
        since: Mapping[str, float] | None = None,
    ) -> None:
        strongest = strongest_declared(models)
        self.reference, self.error = strongest.name, error
        self._base = float(prior_success(models)[list(models).index(strongest)])
        self._table = table
        self._means = Means.of(table)
        self._names = tuple(model.name for model in models)
        self.losses = losses_of(table, self.reference, self._names, error=error, since=since or {})
        kernel = _kernel((table.embeddings @ table.embeddings.T).astype(float))
        newest = np.argsort(-table.created, kind="stable")
        self._fits: dict[str, _Fit] = {}
        for column, name in enumerate(self._names):
            known = newest[~np.isnan(self.losses[newest, column])][:MOST]
            if name != self.reference and len(known) >= FEWEST:
                part = kernel[np.ix_(known, known)]
                self._fits[name] = _fit(self.losses[known, column], part, known)
        self.spread = np.array(
            [self._fits[name].spread if name in self._fits else 0.0 for name in self._names]
        )
        self.unseen, self.support = self._forecast(kernel, self._names)
        for column, name in enumerate(self._names):
            if name in self._fits:
                self.unseen[self._fits[name].rows, column] = self._fits[name].unseen

    @property
    def used(self) -> BoolArray:
        """(N,) rows that some model's regression rests on."""
        rows = np.zeros(len(self._table), dtype=bool)
        for fit in self._fits.values():
            rows[fit.rows] = True
        return rows

    def success(self, losses: FloatArray) -> FloatArray:
        """Success by loss, of the same shape."""
        found: FloatArray = np.clip(self._base - losses, 0.0, 1.0)
        return found

    def output_tokens(self, models: Sequence[Model]) -> FloatArray:
        """(m,) mean answer lengths."""
        return own_means(self._means, models)[1]

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """From audits; without embeddings from priors, for which no price is made."""
        length = self.output_tokens(models)
        if embeddings is None or not queries:
            return alike(queries, models, prior_success(models), length)
        cosine = (embeddings @ self._table.embeddings.T).astype(float)
        names = tuple(model.name for model in models)
        losses, support = self._forecast(_kernel(cosine), names)
        tokens = cap_tokens(np.tile(length, (len(queries), 1)), queries)
        return Forecast(
            names,
            self.success(losses),
            tokens,
            support,
            novelty(cosine, self._means.spacing),
        )

    def _forecast(self, kernel: FloatArray, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Losses and support, (k, m) each, of m models at k queries of (k, N) kernel values.

        A model that has come into the pool since is as unknown as one that was never audited.
        """
        shape = len(kernel), len(names)
        losses, support = np.full(shape, UNKNOWN_LOSS), np.zeros(shape)
        for column, name in enumerate(names):
            if name == self.reference:
                losses[:, column], support[:, column] = 0.0, len(self._table)
            elif name in self._fits:
                fit = self._fits[name]
                losses[:, column], support[:, column] = fit.at(kernel[:, fit.rows])
        return losses, support


class PolicyRidges:
    """Each policy's own regression: its losses are measured by the strongest of its models.

    Args:
        ridges: by policy. policy_of: the policy of an agent.
    """

    name = "ridge"
    wants_layers = False

    def __init__(
        self, ridges: Mapping[str, RidgePredictor], policy_of: Callable[[str], str]
    ) -> None:
        self._ridges, self._policy_of = ridges, policy_of

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        """From audits; without embeddings from priors, for which no price is made."""
        names = [self._policy_of(query.agent) for query in queries]
        found: Forecast | None = None
        for name in dict.fromkeys(names):
            said = self._ridges[name].forecast(queries, embeddings, models)
            mine = np.array([each == name for each in names])
            found = said if found is None else _where(mine, said, found)
        return found or self._ridges[""].forecast(queries, embeddings, models)


def _where(mine: BoolArray, said: Forecast, other: Forecast) -> Forecast:
    """The rows of one forecast that are `mine`, (n,), and of another the rest."""
    rows = mine[:, None]
    return Forecast(
        said.models,
        np.where(rows, said.success, other.success),
        np.where(rows, said.output_tokens, other.output_tokens),
        np.where(rows, said.support, other.support),
        np.where(mine, said.novelty, other.novelty),
    )


def _kernel(cosine: FloatArray) -> FloatArray:
    found: FloatArray = np.exp(-SHARPNESS * (1 - cosine))
    return found
