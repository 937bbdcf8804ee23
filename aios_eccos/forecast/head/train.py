"""Fitting the head on a history, with forecasts of every record that have not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.errors import ArtifactError
from aios_eccos.forecast.head.features import count_features
from aios_eccos.forecast.head.features_space import Floats, Machine, Rows, Space, Whitening
from aios_eccos.forecast.head.fit import (
    LEAST_SPREAD,
    LEVEL_SPREAD,
    MANY,
    Mixer,
    fit_lengths,
    fit_success,
    log_odds,
    sigmoid,
)
from aios_eccos.forecast.means import Means
from aios_eccos.forecast.retrieval import leave_one_out
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray, IntArray, Model

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
        judged: (m,) verdicts it was fitted on.
        machine: (n, 2 m) outputs: log-odds of success, then ln(tokens).
        mixer: head and neighbors combined; alone: the head without them.
        replay: the records' own out-of-fold forecasts.
        means: what is known of each model whatever the query.
        version: of the file it was read from, 8 hex digits of its arrays' hash; "" before that.
    """

    models: tuple[str, ...]
    judged: FloatArray
    machine: Machine
    mixer: Mixer
    alone: Mixer
    replay: Replay
    means: Means
    version: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """Fitted records with forecasts that have not seen them: what floors are priced on.

    Attributes:
        success, alone, near: (N, m) by the hybrid, the head, the neighbors.
        tokens: (N, m).
        correctness, output_tokens: (N, m), NaN = missing. input_tokens: (N,).
    """

    success: FloatArray
    alone: FloatArray
    near: FloatArray
    tokens: FloatArray
    correctness: FloatArray
    output_tokens: FloatArray
    input_tokens: FloatArray


def train(
    table: HistoryTable,
    layers: Floats,
    *,
    seed: int = 0,
    strengths: dict[str, float] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fit head, lengths and mixer.

    Args:
        table: the history; rows without text or without any outcome are left out.
        layers: (N, 4 d) hidden layers of the table's rows.
        seed: of landmarks and folds.
        strengths: declared success of models, the prior of those with few outcomes.
        progress: told the name of each step.

    Raises:
        ArtifactError: fewer than `MIN_ROWS` records can be fitted on.
    """
    keep = usable_rows(table, seed)
    if len(keep) < MIN_ROWS:
        raise ArtifactError(
            f"a head needs {MIN_ROWS} records with text and an outcome, the history has "
            f"{len(keep)}: `aios-eccos ingest` or `collect` some; until then neighbors decide"
        )
    table, layers = table.rows(keep), np.asarray(layers, dtype=np.float32)[keep]
    say = progress or (lambda step: None)
    say("features")
    counts = count_features(table.texts)
    whitening = Whitening.fit(layers, counts, table.texts)
    rows = whitening.rows(layers, counts, table.texts)
    level = prior_levels(table, strengths or {})
    say("neighbors")
    declared = [Model(name, strength=strength) for name, strength in (strengths or {}).items()]
    near, _, _ = leave_one_out(table, models=declared)
    m, fold = len(table.models), folds(table.keys, seed)
    head, length = np.empty(table.correctness.shape), np.empty(table.correctness.shape)
    for part in range(FOLDS):
        say(f"fold {part + 1} of {FOLDS}")
        out = np.flatnonzero(fold == part)
        values = _fit(whitening, rows, table, np.flatnonzero(fold != part), level, seed)[1](out)
        head[out], length[out] = values[:, :m], values[:, m:]
    say("head")
    machine = _fit(whitening, rows, table, np.arange(len(rows.texts)), level, seed)[0]
    near_odds = log_odds(near)
    mixer = Mixer.fit(head, near_odds, table.correctness)
    alone = Mixer.head_alone(head)
    means = Means.of(table)
    return Trained(
        models=table.models,
        judged=means.judged,
        machine=machine,
        mixer=mixer,
        alone=alone,
        replay=Replay(
            success=sigmoid(mixer(head, near_odds)),
            alone=sigmoid(alone(head)),
            near=sigmoid(near_odds),
            tokens=np.exp(length),
            correctness=table.correctness,
            output_tokens=table.output_tokens,
            input_tokens=table.input_tokens,
        ),
        means=means,
    )


def fit_machine(
    table: HistoryTable,
    layers: Floats,
    *,
    seed: int = 0,
    strengths: dict[str, float] | None = None,
) -> Machine:
    """The head's machine alone, without out-of-fold forecasts: to be measured on other rows."""
    keep = usable_rows(table, seed)
    table, layers = table.rows(keep), np.asarray(layers, dtype=np.float32)[keep]
    counts = count_features(table.texts)
    whitening = Whitening.fit(layers, counts, table.texts)
    rows = whitening.rows(layers, counts, table.texts)
    level = prior_levels(table, strengths or {})
    return _fit(whitening, rows, table, np.arange(len(keep)), level, seed)[0]


def _fit(
    whitening: Whitening,
    rows: Rows,
    table: HistoryTable,
    index: IntArray,
    level: FloatArray,
    seed: int,
) -> tuple[Machine, Callable[[IntArray], FloatArray]]:
    """The machine fitted on the rows of `index`, and its outputs on other rows of the table."""
    chosen = rows.take(index)
    space = Space.fit(whitening, chosen, seed)
    coordinates = space.coordinates(chosen)
    known = table.correctness[index]
    slopes, offset = fit_success(coordinates, known, level, level_spread(known))
    lengths, length_offset = fit_lengths(coordinates, table.output_tokens[index])
    slope = np.concatenate([slopes, lengths], axis=1)
    constant = np.concatenate([offset, length_offset])

    def apply(out: IntArray) -> FloatArray:
        return np.asarray(space.coordinates(rows.take(out)) @ slope + constant, dtype=float)

    return space.machine(slope, constant), apply


def usable_rows(table: HistoryTable, seed: int = 0) -> IntArray:
    """Rows with text and an outcome, at most `MAX_ROWS`, drawn by hash of their question."""
    fine = ~np.isnan(table.correctness).all(axis=1) & np.array([bool(t) for t in table.texts])
    keep = np.flatnonzero(fine)
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
