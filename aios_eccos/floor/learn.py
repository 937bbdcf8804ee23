"""What the history teaches the router: who forecasts, and what success costs at today's prices."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aios_eccos.config import Settings
from aios_eccos.errors import ArtifactError
from aios_eccos.floor.certify import Certifier
from aios_eccos.floor.curve import MIN_VERDICTS, PriceBook
from aios_eccos.floor.learned import Learned
from aios_eccos.floor.losses import FEWEST_ROWS, LossBook
from aios_eccos.floor.modes import mode_of
from aios_eccos.floor.planned import book_of, with_plans
from aios_eccos.forecast.head.artifact import FILE_NAME, data_hash, load_apart, load_head
from aios_eccos.forecast.head.train import Trained
from aios_eccos.forecast.hybrid import HybridPredictor
from aios_eccos.forecast.parts import MOST, calibrating, calibration
from aios_eccos.forecast.plans import Past
from aios_eccos.forecast.pricing import Prices, price_table
from aios_eccos.forecast.retrieval import RetrievalPredictor, leave_one_out
from aios_eccos.forecast.ridge import PolicyRidges, RidgePredictor
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.history import History
from aios_eccos.history.mirror import build_table
from aios_eccos.records import HistoryTable
from aios_eccos.values import FloatArray, IntArray, Model, Query

log = logging.getLogger("aios_eccos.floor.learn")

#: Rows of history that a price book is made from.
BOOK_ROWS = 8000


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """What is known of audits beside their records.

    Attributes:
        since: seconds since the epoch by model: its audits before that are forgotten.
        error: the judge's error rate.
    """

    since: Mapping[str, float]
    error: float = 0.1


def head_path(state_dir: Path) -> Path:
    """Where `train` puts the head, and where it is looked for."""
    return state_dir / FILE_NAME


def learn_from(
    history: History,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    models: Sequence[Model],
    head_file: Path | None = None,
    audits: AuditFacts | None = None,
) -> Learned:
    """Learn from the history as it is now, for the models in use.

    Where policies earn their routing (`audits`), and neither a head nor graded records tell more,
    audits forecast and price success.

    With a trained head (and unless the settings say `retrieval`) the head forecasts, and its own
    out-of-fold forecasts price success; else neighbors do both. Where floors are certified, the
    calibration records are no part of that, and the certificates rest on them.

    Raises:
        HistoryError: it cannot be read.
    """
    if not mode_of(settings).calibrates:
        table = history.table(limit=BOOK_ROWS)
        near = RetrievalPredictor(history, table, k=settings.neighbors)
        head = _head(head_file, embedder, settings, models)
        known = None
        if audits is not None and head is None:
            known = _audited(near, table, settings, models, audits)
        known = known or _learn(near, table, head, settings, models)
        return replace(known, embedder=embedder)
    whole = history.table(limit=2 * BOOK_ROWS)
    apart = calibrating(whole, [model.name for model in models])
    rest = whole.rows(np.flatnonzero(~apart)[:BOOK_ROWS])
    usable = None if _seen_all(head_file) else head_file
    head = _head(usable, embedder, settings, models)
    near = RetrievalPredictor(history, rest, k=settings.neighbors, without=calibration)
    known = replace(_learn(near, rest, head, settings, models), embedder=embedder)
    if known.book is None:
        return known
    return replace(
        known, certifier=_certifier(history, known, known.book, models, whole, head_file)
    )


def _learn(
    neighbors: RetrievalPredictor,
    table: HistoryTable,
    head: Trained | None,
    settings: Settings,
    models: Sequence[Model],
) -> Learned:
    """What a table teaches, beside neighbors from the history itself."""
    prices, means = price_table(models), neighbors.means
    judged_of = dict(zip(means.models, means.judged.tolist(), strict=True))
    kind = settings.predictor
    if head is not None and kind != "retrieval":
        book, plans = book_of(replayed(head, prices, kind), settings.plans)
        predictor = HybridPredictor(neighbors, head, kind)
        return Learned(predictor, book=book, judged=judged_of, plans=plans)
    # Rows that nobody has judged are no neighbors of a call, so they are none here.
    judged = table.rows(np.flatnonzero(~np.isnan(table.correctness).all(axis=1)))
    if len(judged) < 2:
        return Learned(neighbors, None, None, judged_of)
    success, tokens, _ = leave_one_out(judged, settings.neighbors, models=models)
    tokens = np.where(np.isnan(tokens), means.output_tokens, tokens)
    book, plans = book_of(past_of(judged, success, tokens, prices), settings.plans)
    return Learned(neighbors, book=book, judged=judged_of, plans=plans)


def _audited(
    neighbors: RetrievalPredictor,
    table: HistoryTable,
    settings: Settings,
    models: Sequence[Model],
    facts: AuditFacts,
) -> Learned | None:
    """What audits teach each policy of its models; None where graded records make a price.

    A few audits price nothing: taken as grades, some luck makes a cheap model the strongest.
    """
    judged = ~np.isnan(table.correctness).all(axis=1)
    audited = judged & (np.array(table.sources, dtype=str) == "audit")
    if (judged & ~audited).sum() >= MIN_VERDICTS:
        return None
    if audited.sum() < FEWEST_ROWS:
        return Learned(neighbors)
    audits = table.rows(audited)
    ridges: dict[str, RidgePredictor] = {}
    books: dict[str, LossBook] = {}
    known: dict[tuple[str, ...], str] = {}
    for name in ("", *settings.agents):
        may = settings.agents[name].models if name else None
        pool = [model for model in models if may is None or model.name in may] or [*models]
        same = known.setdefault(tuple(model.name for model in pool), name)
        if same == name:
            ridges[name] = RidgePredictor(audits, pool, error=facts.error, since=facts.since)
            books[name] = LossBook(ridges[name], audits, pool)
        ridges[name], books[name] = ridges[same], books[same]
    found = PolicyRidges(ridges, lambda agent: settings.policy(agent)[0])
    return Learned(found, losses=books)


def _seen_all(head_file: Path | None) -> bool:
    """Whether there is a head that was kept from no record, so that nothing can be certified."""
    try:
        seen = head_file is not None and head_file.exists() and load_apart(head_file) is None
    except ArtifactError:
        return False  # it is damaged: said where it is loaded
    if seen:
        log.warning(
            "the trained head is not used: it was fitted on every record, and certificates need "
            "some that it was not; `aios-eccos train` makes one anew"
        )
    return seen


def _certifier(
    history: History,
    known: Learned,
    book: PriceBook,
    models: Sequence[Model],
    whole: HistoryTable,
    head_file: Path | None,
) -> Certifier:
    """Certificates on records that nothing of the forecast has seen.

    Of records with one text only the newest speaks: copies of a record are no further evidence.
    """
    predictor, outputs, place = known.predictor, None, None
    if isinstance(predictor, HybridPredictor) and head_file is not None:
        apart = load_apart(head_file, predictor.version)
        if apart is None:
            raise ArtifactError(f"{head_file} was replaced while it was read")
        outputs, place = apart.outputs, {name: i for i, name in enumerate(apart.ids)}
    table = _calibrating(history, models, whole.embeddings.shape[1], place)
    table = table.rows(_first_of_each(table.embeddings))
    # Texts are not asked for where embeddings are at hand.
    queries = [Query("", input_tokens=int(tokens)) for tokens in table.input_tokens]
    if isinstance(predictor, HybridPredictor) and outputs is not None and place is not None:
        said = outputs[np.array([place[name] for name in table.ids], dtype=np.int64)]
        forecast = predictor.forecast_from(said, queries, table.embeddings, models)
    else:
        forecast = predictor.forecast(queries, table.embeddings, models)
    cost = price_table(models).cost(table.input_tokens, forecast.output_tokens)
    outcomes = np.full(forecast.success.shape, np.nan)
    answers = np.zeros(forecast.success.shape, dtype=np.int64)
    for column, name in enumerate(forecast.models):
        if name in table.models:
            outcomes[:, column] = table.correctness[:, table.models.index(name)]
            answers[:, column] = table.answers[:, table.models.index(name)]
    past = Past(forecast.models, forecast.success, outcomes, cost, answers)
    found = with_plans(past, known.plans)
    plans = () if known.plans is None else known.plans.plans
    names = (*forecast.models, *(plan.name for plan in plans))
    rows = found.success, found.outcomes, found.cost
    return Certifier(names, *rows, book, data_hash(table))


def _calibrating(
    history: History,
    models: Sequence[Model],
    dimension: int,
    among: Collection[str] | None,
) -> HistoryTable:
    """The newest rows that certificates may rest on, however many others are newer."""
    compared = history.compared()
    drawn = zip(compared, calibration(compared.values()), strict=True)
    ids = [name for name, mine in drawn if mine and (among is None or name in among)][:MOST]
    found = history.recall(ids)
    rows = [found[name] for name in ids if name in found]
    vectors = np.array([vector for _, vector in rows], dtype=np.float32)
    table = build_table([record for record, _ in rows], vectors.reshape(len(rows), dimension))
    return table.rows(calibrating(table, [model.name for model in models]))


def _first_of_each(embeddings: NDArray[np.float32]) -> IntArray:
    """Rows (of (n, d)) that are equal to no row before them, in order."""
    _, first = np.unique(np.round(embeddings, 5), axis=0, return_index=True)
    return np.sort(first).astype(np.int64)


def _head(
    path: Path | None,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    models: Sequence[Model],
) -> Trained | None:
    """The trained head, if there is one that fits; one that does not is named in the log."""
    if path is None or embedder is None or settings.predictor == "retrieval":
        return None
    if not path.exists():
        if settings.predictor == "trained":
            log.warning("predictor = trained, but no head is trained: neighbors forecast")
        return None
    try:
        names = tuple(model.name for model in models)
        return load_head(path, embedder=embedder.wait(60).name, models=names)
    except ArtifactError as error:
        log.warning("the trained head is not used: %s", error)
        return None


def replayed(head: Trained, prices: Prices, kind: str = "hybrid") -> Past:
    """What the head's own out-of-fold forecasts say of the records that it was fitted on."""
    replay = head.replay
    known = tuple(name for name in prices.models if name in head.models)
    columns = [head.models.index(name) for name in known]
    success = replay.alone if kind == "trained" else replay.success
    cost = prices.select(known).cost(replay.input_tokens, replay.tokens[:, columns])
    right, answers = replay.correctness[:, columns], replay.answers[:, columns]
    return Past(known, success[:, columns], right, cost, answers)


def past_of(table: HistoryTable, success: FloatArray, tokens: FloatArray, prices: Prices) -> Past:
    """A table with (N, M) unseen forecasts of it, for the pool that `prices` names."""
    have = {name: j for j, name in enumerate(table.models)}
    known = tuple(name for name in prices.models if name in have)
    columns = [have[name] for name in known]
    cost = prices.select(known).cost(table.input_tokens, tokens[:, columns])
    right, answers = table.correctness[:, columns], table.answers[:, columns]
    return Past(known, success[:, columns], right, cost, answers)
