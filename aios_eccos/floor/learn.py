"""What the history teaches the router: who forecasts, and what success costs at today's prices."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aios_eccos.config import Settings
from aios_eccos.errors import ArtifactError
from aios_eccos.floor.certify import Certifier
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.modes import mode_of
from aios_eccos.forecast.head.artifact import FILE_NAME, data_hash, load_apart, load_head
from aios_eccos.forecast.head.features_space import Floats
from aios_eccos.forecast.head.train import Trained
from aios_eccos.forecast.hybrid import HybridPredictor
from aios_eccos.forecast.parts import MOST, calibrating, calibration
from aios_eccos.forecast.pricing import Prices
from aios_eccos.forecast.retrieval import RetrievalPredictor, leave_one_out
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.mirror import build_table
from aios_eccos.history.store import HistoryStore
from aios_eccos.records import HistoryTable
from aios_eccos.values import Forecast, IntArray, Model, Query

log = logging.getLogger("aios_eccos.floor.learn")

#: Rows of history that a price book is made from.
BOOK_ROWS = 8000


def head_path(state_dir: Path) -> Path:
    """Where `train` puts the head, and where it is looked for."""
    return state_dir / FILE_NAME


def learn_from(
    history: HistoryStore,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    prices: Prices,
    head_file: Path | None = None,
    models: Sequence[Model] = (),
) -> Learned:
    """Learn from the history as it is now.

    With a trained head (and unless the settings say `retrieval`) the head forecasts, and its own
    out-of-fold forecasts price success; else neighbors do both. Where floors are certified, the
    calibration records are no part of that, and the certificates rest on them.

    Args:
        models: in use, with what is declared of them; default: those that have prices.

    Raises:
        HistoryError: it cannot be read.
    """
    if mode_of(settings).calibrates:
        return _learn_certified(history, embedder, settings, prices, head_file, models)
    near = RetrievalPredictor(history, k=settings.neighbors)
    table = history.table(limit=BOOK_ROWS)
    return _learn(near, table, embedder, settings, prices, head_file, models)


def _learn_certified(
    history: HistoryStore,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    prices: Prices,
    head_file: Path | None,
    models: Sequence[Model],
) -> Learned:
    """Learn from the records that no certificate rests on, and certify on those that one may."""
    pool = models or [Model(name) for name in prices.models]
    whole = history.table(limit=2 * BOOK_ROWS)
    apart = calibrating(whole, [model.name for model in pool])
    rest = whole.rows(np.flatnonzero(~apart)[:BOOK_ROWS])
    seen = _seen_all(head_file)
    if seen:
        log.warning(
            "the trained head is not used: it was fitted on every record, and certificates need "
            "some that it was not; `aios-eccos train` makes one anew"
        )
    near = RetrievalPredictor(history, k=settings.neighbors, without=calibration)
    usable = None if seen else head_file
    known = _learn(near, rest, embedder, settings, prices, usable, models)
    if known.book is None:
        return known
    predictor, dimension = known.predictor, whole.embeddings.shape[1]
    if isinstance(predictor, HybridPredictor) and head_file is not None:
        table, outputs = _remembered(history, pool, dimension, head_file)
        forecast = predictor.forecast_from(outputs, _queries(table), table.embeddings, pool)
    else:
        table = _calibrating(history, pool, dimension)
        forecast = near.forecast(_queries(table), table.embeddings, pool)
    return replace(known, certifier=_certifier(table, forecast, known.book, prices))


def _queries(table: HistoryTable) -> list[Query]:
    """The table's rows as calls; their texts are not asked for where embeddings are at hand."""
    return [Query("", input_tokens=int(tokens)) for tokens in table.input_tokens]


def _learn(
    neighbors: RetrievalPredictor,
    table: HistoryTable,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    prices: Prices,
    head_file: Path | None,
    models: Sequence[Model],
) -> Learned:
    """What a table teaches, beside neighbors from the history itself."""
    neighbors.refresh(table)
    judged_of = dict(zip(neighbors.means.models, neighbors.means.judged.tolist(), strict=True))
    head = _head(head_file, embedder, settings, prices)
    if head is not None and settings.predictor != "retrieval":
        kind = settings.predictor
        book = replayed_book(head, prices, kind)
        return Learned(HybridPredictor(neighbors, head, kind), embedder, book, judged_of)
    # Rows that nobody has judged are no neighbors of a call, so they are none here.
    judged = table.rows(np.flatnonzero(~np.isnan(table.correctness).all(axis=1)))
    if len(judged) < 2:
        return Learned(neighbors, embedder, None, judged_of)
    success, tokens, _ = leave_one_out(judged, settings.neighbors, models=models)
    tokens = np.where(np.isnan(tokens), neighbors.means.output_tokens, tokens)
    book = PriceBook.of(judged, success, tokens, prices)
    return Learned(neighbors, embedder, book, judged_of)


def _seen_all(head_file: Path | None) -> bool:
    """Whether there is a head that was kept from no record."""
    if head_file is None or not head_file.exists():
        return False
    try:
        return load_apart(head_file) is None
    except ArtifactError:
        return False  # it is damaged: said where it is loaded


def _calibrating(
    history: HistoryStore,
    pool: Sequence[Model],
    dimension: int,
    among: Collection[str] | None = None,
) -> HistoryTable:
    """The newest rows that certificates may rest on, however many others are newer."""
    compared = history.compared()
    drawn = zip(compared, calibration(compared.values()), strict=True)
    ids = [name for name, mine in drawn if mine and (among is None or name in among)][:MOST]
    found = history.recall(ids)
    rows = [found[name] for name in ids if name in found]
    vectors = np.array([vector for _, vector in rows], dtype=np.float32)
    table = build_table([record for record, _ in rows], vectors.reshape(len(rows), dimension))
    return table.rows(calibrating(table, [model.name for model in pool]))


def _remembered(
    history: HistoryStore, pool: Sequence[Model], dimension: int, head_file: Path
) -> tuple[HistoryTable, Floats]:
    """The rows that the head was kept from, and what it says of them."""
    apart = load_apart(head_file)
    if apart is None:
        raise ArtifactError(f"{head_file} was replaced while it was read")
    place = {name: i for i, name in enumerate(apart.ids)}
    table = _calibrating(history, pool, dimension, place)
    return table, apart.outputs[np.array([place[name] for name in table.ids], dtype=np.int64)]


def _certifier(
    table: HistoryTable, forecast: Forecast, book: PriceBook, prices: Prices
) -> Certifier:
    """Certificates on a table of records that nothing of the forecast has seen.

    Of records with one text only the newest speaks: copies of a record are no further evidence.
    """
    once = _first_of_each(table.embeddings)
    table = table.rows(once)
    forecast = Forecast(
        forecast.models,
        forecast.success[once],
        forecast.output_tokens[once],
        forecast.support[once],
        forecast.novelty[once],
    )
    have = {name: j for j, name in enumerate(table.models)}
    outcomes = np.full(forecast.success.shape, np.nan)
    for column, name in enumerate(forecast.models):
        if name in have:
            outcomes[:, column] = table.correctness[:, have[name]]
    cost = prices.select(forecast.models).cost(table.input_tokens, forecast.output_tokens)
    return Certifier(forecast.models, forecast.success, outcomes, cost, book, data_hash(table))


def _first_of_each(embeddings: NDArray[np.float32]) -> IntArray:
    """Rows (of (n, d)) that are equal to no row before them, in order."""
    _, first = np.unique(np.round(embeddings, 5), axis=0, return_index=True)
    return np.sort(first).astype(np.int64)


def _head(
    path: Path | None, embedder: BackgroundEmbedder | None, settings: Settings, prices: Prices
) -> Trained | None:
    """The trained head, if there is one that fits; one that does not is named in the log."""
    if path is None or embedder is None or settings.predictor == "retrieval":
        return None
    if not path.exists():
        if settings.predictor == "trained":
            log.warning("predictor = trained, but no head is trained: neighbors forecast")
        return None
    try:
        return load_head(path, embedder=embedder.wait(60).name, models=prices.models)
    except ArtifactError as error:
        log.warning("the trained head is not used: %s", error)
        return None


def replayed_book(head: Trained, prices: Prices, kind: str = "hybrid") -> PriceBook:
    """What success costs at today's prices, by the head's own out-of-fold forecasts."""
    replay = head.replay
    known = [name for name in prices.models if name in head.models]
    columns = [head.models.index(name) for name in known]
    success = replay.alone if kind == "trained" else replay.success
    cost = prices.select(known).cost(replay.input_tokens, replay.tokens[:, columns])
    return PriceBook(known, success[:, columns], replay.correctness[:, columns], cost)
