"""Opening the history: an embedded folder, which has one owner at a time, or a Chroma server."""

from __future__ import annotations

import contextlib
from pathlib import Path

from aios_eccos.history.chroma import ChromaRows
from aios_eccos.history.client import close_client, open_folder, open_server, own
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.history.embed.embedding import Embedder, find_embedder
from aios_eccos.history.embed.sentence import SentenceEmbedder
from aios_eccos.history.history import History

EMBEDDED = "embedded"
#: Below the state folder; Chroma's own files lie in `chroma` there.
FOLDER = "history"


def open_history(
    setting: str,
    state_dir: Path,
    embedder: Embedder,
    *,
    store_text: bool | None = None,
    max_records: int = 100_000,
    max_age_days: float = 90.0,
) -> History:
    """Open the history that the setting names.

    Args:
        setting: "embedded", or the URL of a Chroma server.
        state_dir: the plugin's state folder; the embedded history lies in `history` there.
        embedder: whose vectors the history holds; only its name and dimension are used.
        store_text, max_records, max_age_days: see `History`.

    Raises:
        HistoryOwned: another process has the embedded history open.
        EmbedderError: the history holds another embedder's vectors.
        HistoryError: it cannot be reached, is damaged, or another version made it.
    """
    shared = setting != EMBEDDED
    with contextlib.ExitStack() as closing:
        if shared:
            client = open_server(setting)
        else:
            closing.callback(own(state_dir / FOLDER))
            client = open_folder(state_dir / FOLDER / "chroma")
        closing.callback(close_client, client)
        rows = ChromaRows(
            client, embedder=embedder.name, dimension=embedder.dimension, shared=shared
        )
        return History(
            rows,
            dimension=embedder.dimension,
            store_text=store_text,
            max_records=max_records,
            max_age_days=max_age_days,
            closing=closing,
        )


def open_embedder(
    setting: str | None = None,
    cache_dir: Path | None = None,
    *,
    allow_download: bool = False,
) -> CachedEmbedder | SentenceEmbedder:
    """`find_embedder`'s; with a cache folder, one that keeps the vectors of data sets there."""
    embedder = SentenceEmbedder(find_embedder(setting, allow_download=allow_download))
    if cache_dir is None:
        return embedder
    return CachedEmbedder(embedder, EmbeddingCache(cache_dir / "embeddings.sqlite"))
