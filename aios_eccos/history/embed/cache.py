"""Embeddings kept between runs, by hash of the text; the text itself is never stored."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aios_eccos import files
from aios_eccos.history.embed.embedding import Embedder, clean_text, stacked
from aios_eccos.history.store import Embeddings

log = logging.getLogger("aios_eccos.history")

#: Texts embedded and written at a time, so that an interrupted run keeps what it has done.
BATCH = 256
#: SQLite's oldest limit on variables in a statement.
LOOKUP = 900


class EmbeddingCache:
    """A file of vectors that several processes may share.

    A damaged or unwritable file costs time, never an error: it is begun anew, or done without.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        for _ in range(2):
            try:
                self._connection = _open(path)
                return
            except (OSError, sqlite3.OperationalError) as error:
                # Nothing is damaged: it is in use for long, or its disk is full.
                log.info("the embedding cache cannot be used: %s", error)
                break
            except sqlite3.Error:
                log.info("the embedding cache cannot be read and is begun anew")
                for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                    with contextlib.suppress(OSError):
                        each.unlink(missing_ok=True)
        # In a database without tables nothing is found or kept.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Embeddings]:
        """The vectors known, by key."""
        found: dict[bytes, Embeddings] = {}
        with self._lock, _forgiving():
            for start in range(0, len(keys), LOOKUP):
                part = keys[start : start + LOOKUP]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
                rows = self._connection.execute(query, part)
                found.update((key, vector) for key, blob in rows if (vector := _vector(blob)).size)
        return found

    def put(self, vectors: Mapping[bytes, Embeddings]) -> None:
        """Keep vectors, in the place of those known."""
        rows = [(key, vector.astype(np.float32).tobytes()) for key, vector in vectors.items()]
        with self._lock, _forgiving(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file; later calls find and keep nothing."""
        with self._lock:
            self._connection.close()


def _vector(blob: object) -> Embeddings:
    """What is kept in a row; nothing where that can be no vector."""
    if isinstance(blob, bytes) and len(blob) % 4 == 0:
        vector = np.frombuffer(blob, dtype=np.float32)
        if np.isfinite(vector).all():
            return vector
    return np.empty(0, dtype=np.float32)


@contextlib.contextmanager
def _forgiving() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError) as error:
        log.info("the embedding cache failed: %s", error)


def _open(path: Path) -> sqlite3.Connection:
    files.private_dir(path.parent)
    # Private, and what SQLite puts beside it too, whatever the umask.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=10.0, check_same_thread=False)
    try:
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class CachedEmbedder:
    """An embedder that looks a text up before it computes it. For data sets, not for live calls."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache) -> None:
        self._embedder = embedder
        self._cache = cache
        self.name, self.dimension = embedder.name, embedder.dimension
        self.identity = embedder.identity

    def embed(self, texts: Sequence[str]) -> Embeddings:
        kinds = {"embedding": self.dimension}
        return self._look_up(texts, kinds, lambda part: (self._embedder.embed(part),))[0]

    def add(self, texts: Sequence[str], vectors: Embeddings) -> None:
        """Keep (n, d) embeddings that this very model has made of the texts elsewhere."""
        keys = [self._key("embedding", clean_text(text)) for text in texts]
        self._cache.put(dict(zip(keys, vectors, strict=True)))

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        kinds = {"embedding": self.dimension, "layers": 4 * self.dimension}
        embeddings, layers = self._look_up(texts, kinds, self._embedder.embed_with_layers)
        return embeddings, layers

    def _look_up(
        self,
        texts: Sequence[str],
        kinds: Mapping[str, int],
        compute: Callable[[Sequence[str]], tuple[Embeddings, ...]],
    ) -> list[Embeddings]:
        """(n, width) per kind and its width; a text is computed where any kind is missing."""
        texts = [clean_text(text) for text in texts]
        keys = {text: [self._key(kind, text) for kind in kinds] for text in texts}
        known = self._cache.get([key for row in keys.values() for key in row])
        for at, width in enumerate(kinds.values()):
            sizes = {known[row[at]].size for row in keys.values() if row[at] in known}
            # Layers have four times the encoder's width, which may differ from the embeddings'.
            if len(sizes) > 1 or any(size != width if at == 0 else size % 4 for size in sizes):
                known = {}  # some are damaged
        missing = [text for text, row in keys.items() if not all(key in known for key in row)]
        missing.sort(key=len, reverse=True)
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            fresh = {
                keys[text][at]: vector
                for at, vectors in enumerate(compute(part))
                for text, vector in zip(part, vectors, strict=True)
            }
            self._cache.put(fresh)
            known.update(fresh)
        return [
            stacked([known[keys[text][at]] for text in texts], width)
            for at, width in enumerate(kinds.values())
        ]

    def _key(self, kind: str, text: str) -> bytes:
        return hashlib.sha256(f"{self.identity}\0{kind}\0{text}".encode()).digest()
