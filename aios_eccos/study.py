"""What the history teaches the router: who forecasts, and what success costs at today's prices."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from .config import Settings
from .errors import ArtifactError
from .history.embedding import BackgroundEmbedder
from .history.store import HistoryStore
from .predict.artifact import FILE_NAME, load_head
from .predict.floor import PriceBook
from .predict.hybrid import HybridPredictor, replayed_book
from .predict.pricing import Prices
from .predict.retrieval import RetrievalPredictor, leave_one_out
from .predict.train import Trained
from .router import Knowledge

log = logging.getLogger("aios_eccos.study")

#: Rows of history that a price book is made from.
BOOK_ROWS = 8000


def head_path(state_dir: Path) -> Path:
    """Where `train` puts the head, and where it is looked for."""
    return state_dir / FILE_NAME


def study(
    history: HistoryStore,
    embedder: BackgroundEmbedder | None,
    settings: Settings,
    prices: Prices,
    head_file: Path | None = None,
) -> Knowledge:
    """Learn from the history as it is now.

    With a trained head (and unless the settings say `retrieval`) the head forecasts, and its own
    out-of-fold forecasts price success; else neighbors do both.

    Raises:
        HistoryError: it cannot be read.
    """
    table = history.table(limit=BOOK_ROWS)
    neighbors = RetrievalPredictor(history, k=settings.neighbors)
    neighbors.refresh(table)
    head = _head(head_file, embedder, settings, prices)
    if head is not None and settings.predictor != "retrieval":
        kind = settings.predictor
        book = replayed_book(head, prices, kind)
        return Knowledge(HybridPredictor(neighbors, head, kind), embedder, book)
    # Rows that nobody has judged are no neighbors of a call, so they are none here.
    judged = table.rows(np.flatnonzero(~np.isnan(table.correctness).all(axis=1)))
    if len(judged) < 2:
        return Knowledge(neighbors, embedder)
    success, tokens, _ = leave_one_out(judged, settings.neighbors)
    tokens = np.where(np.isnan(tokens), neighbors.means.output_tokens, tokens)
    return Knowledge(neighbors, embedder, PriceBook.of(judged, success, tokens, prices))


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
