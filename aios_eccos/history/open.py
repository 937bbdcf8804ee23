"""Opening the history: an embedded folder, which has one owner at a time, or a Chroma server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aios_eccos.errors import HistoryError, HistoryOwned

from .cache import CachedEmbedder, EmbeddingCache
from .chroma import ChromaHistory, translated
from .embedding import Embedder, find_embedder
from .sentence import SentenceEmbedder

EMBEDDED = "embedded"
#: Seconds that a Chroma server may take for one request.
HTTP_TIMEOUT_S = 10.0


def open_history(
    setting: str,
    state_dir: Path,
    embedder: Embedder,
    *,
    store_text: bool | None = None,
    max_records: int = 100_000,
    max_age_days: float = 90.0,
) -> ChromaHistory:
    """Open the history that the setting names.

    Args:
        setting: "embedded", or the URL of a Chroma server.
        state_dir: the plugin's state folder; the embedded history lies in `history` there.
        embedder: whose vectors the history holds; only its name and dimension are used.
        store_text, max_records, max_age_days: see `ChromaHistory`.

    Raises:
        HistoryOwned: another process has the embedded history open.
        EmbedderError: the history holds another embedder's vectors.
        HistoryError: it cannot be reached, or is damaged.
    """
    shared = setting != EMBEDDED
    release: Callable[[], None] = lambda: None  # noqa: E731
    if not shared:
        release = own(state_dir / "history")
    try:
        with translated():
            client = _server(setting) if shared else _embedded(state_dir / "history")
        try:
            return ChromaHistory(
                client,
                embedder=embedder.name,
                dimension=embedder.dimension,
                shared=shared,
                store_text=store_text,
                max_records=max_records,
                max_age_days=max_age_days,
                on_close=release,
            )
        except BaseException:
            client.close()
            raise
    except BaseException:
        release()
        raise


def own(folder: Path) -> Callable[[], None]:
    """Become the only owner of a folder; returns what gives it back.

    Chroma does not notice other processes: a second reader would miss rows and return deleted
    ones, without any error. So the folder is locked for as long as it is open.

    Raises:
        HistoryOwned: another process, or this one, owns it already.
        HistoryError: the folder cannot be written.
    """
    import fcntl

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HistoryError(f"the history's folder cannot be used: {error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        owner = os.pread(handle, 32, 0).decode("ascii", "replace")
        os.close(handle)
        if not isinstance(error, BlockingIOError):
            raise HistoryError(f"the history's folder cannot be locked: {error}") from error
        raise HistoryOwned(
            f"process {owner or '?'} owns the embedded history in {folder}; several processes need "
            "a Chroma server: set `history` to its URL"
        ) from error
    held = [handle]

    def release() -> None:
        while held:
            os.close(held.pop())

    return release


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _embedded(folder: Path) -> Any:
    import chromadb

    return chromadb.PersistentClient(path=str(folder / "chroma"), settings=_settings())


def _server(url: str) -> Any:
    import chromadb

    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise HistoryError(f"history = {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HistoryError(f"history = {url!r}: allowed are `embedded` and http(s)://host:port")
    secure = parts.scheme == "https"
    return chromadb.HttpClient(
        host=parts.hostname,
        port=port or (443 if secure else 8000),
        ssl=secure,
        settings=_settings(),
    )


def open_embedder(
    setting: str | None = None,
    cache_dir: Path | None = None,
    *,
    allow_download: bool = False,
) -> CachedEmbedder | SentenceEmbedder:
    """Find an embedder; with a cache folder, one that keeps the vectors of data sets there.

    Raises:
        EmbedderError: see `find_embedder`.
    """
    embedder = SentenceEmbedder(find_embedder(setting, allow_download=allow_download))
    if cache_dir is None:
        return embedder
    cache = EmbeddingCache(cache_dir / "embeddings.sqlite")
    return CachedEmbedder(embedder, cache, identity=embedder.identity)
