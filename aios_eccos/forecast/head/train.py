"""Fitting the head on a history, with forecasts of every record that have not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.errors import ArtifactError
from aios_eccos.forecast.head.features import (
    Floats,
    Machine,
    Space,
    Whitening,
    count_features,
    hash_words,
)
from aios_eccos.forecast.head.fit import (
    LEAST_SPREAD,
    LEVEL_SPREAD,
    MANY,
    Mixer,
    bounded,
    fit_lengths,
    fit_success,
    log_odds,
    sigmoid,
)
from aios_eccos.forecast.retrieval import leave_one_out
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, FloatArray, IntArray, Model

#: Parts that out-of-fold forecasts are made in.
FOLDS = 5
#: Rows fitted at most, for time and memory; what more would gain is not measured.
MAX_ROWS = 20_000
#: Fewest records that a head is fitted on: five folds of fewer would say nothing.
MIN_ROWS = 40
#: Success assumed of a model of which nothing is known in a pool of which nothing is known.
NEUTRAL = 0.6
#: Verdicts from which on a model's level tells how far levels lie apart.
KNOWN = 100

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted head and what it needs to be trusted.

    Attributes:
        models: the m columns, as in the history.
        machine: (n, 2 m) outputs: log-odds of success, then ln(tokens).
        version: of the file it was read from, 8 hex digits of its arrays' hash; "" before that.
    """

    models: tuple[str, ...]
    machine: Machine
    mixer: Mixer
    replay: Replay
    version: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """Fitted records with forecasts that have not seen them: what floors are priced on.

    All (N, m) but the N input tokens; success is by the hybrid, `alone` by the head; `answers` are
    equal where models gave one final answer, 0 = none.
    """

    success: FloatArray
    alone: FloatArray
    tokens: FloatArray
    correctness: FloatArray
    input_tokens: FloatArray
    answers: IntArray


class _Prepared:
    """What all fits on a table and its (N, 4 d) layers share: usable rows as the kernel sees them.

    Args:
        seed: of the landmarks, and of the rows drawn where there are too many.
        strengths: declared success of models, the prior of those with few outcomes.
    """

    def __init__(
        self, table: HistoryTable, layers: Floats, seed: int, strengths: dict[str, float]
    ) -> None:
        keep = usable_rows(table, seed)
        self.table, self._seed = table.rows(keep), seed
        layers = np.asarray(layers, dtype=np.float32)[keep]
        counts = count_features(self.table.texts)
        hashed = [hash_words(text) for text in self.table.texts]
        whitening = Whitening.fit(layers, counts, hashed)
        rows = whitening.rows(layers, counts, hashed)
        self._space = Space.fit(whitening, rows, seed)
        self._coordinates = self._space.coordinates(rows)
        self._level = prior_levels(self.table, strengths)

    def fit(self, index: IntArray) -> tuple[Machine, Callable[[IntArray], FloatArray]]:
        """The machine fitted on the rows of `index`, and its outputs on other rows."""
        coordinates = self._coordinates[index]
        known = self.table.correctness[index]
        slopes, offset = fit_success(coordinates, known, self._level, level_spread(known))
        lengths, length_offset = fit_lengths(coordinates, self.table.output_tokens[index])
        slope = np.concatenate([slopes, lengths], axis=1)
        constant = np.concatenate([offset, length_offset])

        def apply(out: IntArray) -> FloatArray:
            return np.asarray(self._coordinates[out] @ slope + constant, float)

        return self._space.machine(slope, constant), apply


def train(
    table: HistoryTable,
    layers: Floats,
    *,
    seed: int = 0,
    strengths: dict[str, float] | None = None,
    progress: Progress = lambda step: None,
) -> Trained:
    """Fit head, lengths and mixer; rows without text or without any outcome are left out.

    Args:
        layers, strengths: see `_Prepared`; seed: of landmarks and folds.
        progress: told the name of each step.

    Raises:
        ArtifactError: fewer than `MIN_ROWS` records can be fitted on.
    """
    if (count := int(usable(table).sum())) < MIN_ROWS:
        raise ArtifactError(
            f"a head needs {MIN_ROWS} records with text and an outcome, and there are "
            f"{count}: `aios-eccos ingest` or `collect` some; until then neighbors decide"
        )
    strengths = strengths or {}
    progress("features")
    prepared = _Prepared(table, layers, seed, strengths)
    table = prepared.table
    progress("neighbors")
    declared = [Model(name, strength=strength) for name, strength in strengths.items()]
    near, _, _ = leave_one_out(table, models=declared)
    m, fold = len(table.models), folds(table.keys, seed)
    head, length = np.empty(table.correctness.shape), np.empty(table.correctness.shape)
    for part in range(FOLDS):
        progress(f"fold {part + 1} of {FOLDS}")
        out = np.flatnonzero(fold == part)
        values = prepared.fit(np.flatnonzero(fold != part))[1](out)
        head[out], length[out] = values[:, :m], values[:, m:]
    progress("head")
    near_odds = log_odds(near)
    mixer = Mixer.fit(head, near_odds, table.correctness)
    replay = Replay(
        success=sigmoid(mixer(head, near_odds)),
        alone=sigmoid(bounded(head)),
        tokens=np.exp(length),
        correctness=table.correctness,
        input_tokens=table.input_tokens,
        answers=table.answers,
    )
    return Trained(table.models, prepared.fit(np.arange(len(table)))[0], mixer, replay)


def fit_machine(
    table: HistoryTable, layers: Floats, *, seed: int = 0, strengths: dict[str, float] | None = None
) -> Machine:
    """The head's machine alone, without out-of-fold forecasts: to be measured on other rows."""
    prepared = _Prepared(table, layers, seed, strengths or {})
    return prepared.fit(np.arange(len(prepared.table)))[0]


def usable(table: HistoryTable) -> BoolArray:
    """(N,) rows with text and an outcome: what a head can be fitted on."""
    told = np.array([bool(text) for text in table.texts], dtype=bool)
    return told & ~np.isnan(table.correctness).all(axis=1)


def usable_rows(table: HistoryTable, seed: int = 0) -> IntArray:
    """The numbers of usable rows, at most `MAX_ROWS`, drawn by hash of their question."""
    keep = np.flatnonzero(usable(table))
    if len(keep) > MAX_ROWS:
        keys = table.keys
        order = sorted(keep, key=lambda i: _digest(seed, keys[i]))
        keep = np.sort(np.array(order[:MAX_ROWS], dtype=np.int64))
    return keep


def folds(keys: Sequence[str], seed: int) -> IntArray:
    """(n,) part of each row, about even in size; rows of one `question_key` share one."""
    order = sorted(set(keys), key=lambda key: _digest(seed, key))
    part = {key: place % FOLDS for place, key in enumerate(order)}
    return np.array([part[key] for key in keys], dtype=np.int64)


def _digest(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:fold:{name}".encode()).hexdigest()


def level_spread(correctness: FloatArray) -> float:
    """How far models' levels lie apart, in log-odds, among those with `KNOWN` verdicts."""
    seen = (~np.isnan(correctness)).sum(axis=0)
    known = seen >= KNOWN
    if int(known.sum()) < MANY:
        return LEVEL_SPREAD
    means = np.nan_to_num(correctness).sum(axis=0)[known] / seen[known]
    return max(float(log_odds(means).std(ddof=1)), LEAST_SPREAD)


def prior_levels(table: HistoryTable, strengths: dict[str, float]) -> FloatArray:
    """(m,) prior log-odds of each model: its declared strength, else the pool's mean."""
    seen = (~np.isnan(table.correctness)).sum(axis=0)
    total = np.nan_to_num(table.correctness).sum(axis=0)
    pool = float((total[seen > 0] / seen[seen > 0]).mean()) if (seen > 0).any() else NEUTRAL
    return log_odds(np.array([strengths.get(name, pool) for name in table.models]))
