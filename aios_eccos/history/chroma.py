"""The history in Chroma: embedded in this process, or a Chroma server for many.

A row's metadata carries labels, times and the outcomes as compact JSON; its text only where it may
be kept. Every error of Chroma becomes a `HistoryError`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from aios_eccos.errors import EccosError, EmbedderError, HistoryError
from aios_eccos.values import FloatArray, HistoryTable, Record

from .rows import from_metadata, to_metadata
from .store import (
    SAME_EMBEDDING,
    SCHEMA,
    Embeddings,
    Neighbors,
    build_neighbors,
    build_table,
    check_embeddings,
    facts_by_model,
    merge,
    verdict,
)

log = logging.getLogger("aios_eccos.history")

COLLECTION = "eccos_history"
DAY_S = 86_400.0
#: Share of `max_records` removed at once when the history is full, so that it is rarely done.
PRUNE_SHARE = 0.02
#: Seconds between two looks at whether another process has changed a shared history.
STAMP_S = 2.0


class ChromaHistory:
    """See `HistoryStore`. Made by `open_history`.

    Args:
        client: a Chroma client; closed with the store.
        embedder, dimension: of the vectors; refused where the collection's are others.
        shared: other processes write to the same collection (a Chroma server).
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.
        max_records: most records kept; the oldest live ones go first.
        max_age_days: live records older than this are removed.
        on_close: called once, after the client is closed.

    Raises:
        EmbedderError: the collection was made by another embedder.
        HistoryError: it cannot be read, or a newer version made it.
    """

    def __init__(
        self,
        client: Any,
        *,
        embedder: str,
        dimension: int,
        shared: bool = False,
        store_text: bool | None = None,
        max_records: int = 100_000,
        max_age_days: float = 90.0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._dimension = dimension
        self._shared = shared
        self._store_text = store_text
        self._max_records = max_records
        self._max_age_days = max_age_days
        self._on_close = on_close
        self._closed = False
        self._lock = threading.RLock()
        self._version = 0
        self._stamp, self._looked = "", -STAMP_S
        self._models: tuple[str, ...] = ()
        self._facts: dict[str, tuple[str, FloatArray]] = {}
        identity = {"schema": SCHEMA, "embedder": embedder, "dimension": dimension}
        with translated():
            self._collection = client.get_or_create_collection(
                COLLECTION,
                embedding_function=None,
                configuration={"hnsw": {"space": "cosine"}},
                metadata=identity,
            )
            _check_identity(self._collection.metadata or {}, identity)
            self._identity = identity
            self._batch = int(client.get_max_batch_size())
            self._rows = int(self._collection.count())
        self._prune()

    @property
    def version(self) -> int:
        """See `HistoryStore.version`; of a shared history at most `STAMP_S` seconds old."""
        if self._shared and time.monotonic() - self._looked >= STAMP_S:
            with self._lock, translated():
                self._looked = time.monotonic()
                metadata = self._client.get_collection(COLLECTION, embedding_function=None).metadata
                stamp = str((metadata or {}).get("stamp", ""))
                self._version += stamp != self._stamp
                self._stamp = stamp
        return self._version

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> int:
        """See `HistoryStore.add`."""
        if embeddings is not None:
            embeddings = check_embeddings(embeddings, len(records), self._dimension)
        changed = 0
        with self._lock, translated():
            for start in range(0, len(records), self._batch):
                part = slice(start, start + self._batch)
                vectors = None if embeddings is None else embeddings[part]
                changed += self._put(records[part], vectors)
            if changed:
                self._touch()
                self._prune()
        return changed

    def _put(self, records: Sequence[Record], embeddings: Embeddings | None) -> int:
        """Upsert what is new or changed, of at most one batch."""
        known = self._read([record.id for record in records], with_embeddings=True)
        changed: dict[str, tuple[Record, Embeddings]] = {}
        for row, record in enumerate(records):
            old = known.get(record.id)
            live = record.source == "live"
            keep_text = not live if self._store_text is None else self._store_text
            merged = merge(old[0] if old else None, record, keep_text=keep_text)
            vector = None if embeddings is None else embeddings[row]
            if old is not None:
                if vector is None or np.allclose(vector, old[1], atol=SAME_EMBEDDING):
                    vector = old[1]
                if vector is old[1] and merged == old[0]:
                    continue
            if vector is None:
                raise HistoryError(f"record {record.id!r} is new and has no embedding")
            known[record.id] = changed[record.id] = (merged, vector)
        if changed:
            self._collection.upsert(
                ids=list(changed),
                embeddings=np.stack([vector for _, vector in changed.values()]),
                metadatas=[to_metadata(record) for record, _ in changed.values()],
            )
        for record_id in changed:
            self._facts.pop(record_id, None)
        return len(changed)

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """See `HistoryStore.nearest`."""
        queries = check_embeddings(embeddings, None, self._dimension)
        shape = k, len(models)
        with translated():
            rows = self.count()
            if not rows or not len(queries):
                return build_neighbors([()] * len(queries), [()] * len(queries), {}, shape)
            include = ["distances", "metadatas"] if self._shared else ["distances"]
            found = self._collection.query(
                query_embeddings=queries, n_results=min(k, rows), include=include
            )
            ids: list[list[str]] = found["ids"]
            near = [[1.0 - distance for distance in row] for row in found["distances"]]
            if self._shared:
                facts = {
                    record_id: _facts_of(from_metadata(record_id, metadata), models)
                    for row, metadatas in zip(ids, found["metadatas"], strict=True)
                    for record_id, metadata in zip(row, metadatas, strict=True)
                    if metadata is not None
                }
            else:
                facts = self._remembered({i for row in ids for i in row}, tuple(models))
        kept = [[at for at, i in enumerate(row) if i in facts] for row in ids]
        return build_neighbors(
            [[ids[row][at] for at in keep] for row, keep in enumerate(kept)],
            [[near[row][at] for at in keep] for row, keep in enumerate(kept)],
            facts,
            shape,
        )

    def _remembered(
        self, ids: Collection[str], models: tuple[str, ...]
    ) -> dict[str, tuple[str, FloatArray]]:
        """Facts by id, kept in memory: as the only writer, this process knows when they change.

        Reading them with each query would take three times as long as the search itself.
        """
        with self._lock:
            if models != self._models:
                self._models, self._facts = models, {}
            missing = [record_id for record_id in ids if record_id not in self._facts]
            if missing:
                for record_id, (record, _) in self._read(missing).items():
                    self._facts[record_id] = _facts_of(record, models)
            return {i: self._facts[i] for i in ids if i in self._facts}

    def _read(
        self, ids: Sequence[str], *, with_embeddings: bool = False
    ) -> dict[str, tuple[Record, Embeddings]]:
        include = ["metadatas", "embeddings"] if with_embeddings else ["metadatas"]
        found: dict[str, tuple[Record, Embeddings]] = {}
        for start in range(0, len(ids), self._batch):
            part = list(dict.fromkeys(ids[start : start + self._batch]))
            got = self._collection.get(ids=part, include=include)
            vectors = got["embeddings"] if with_embeddings else [np.empty(0)] * len(got["ids"])
            for record_id, metadata, vector in zip(
                got["ids"], got["metadatas"], vectors, strict=True
            ):
                found[record_id] = (
                    from_metadata(record_id, metadata),
                    np.asarray(vector, dtype=np.float32),
                )
        return found

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        """See `HistoryStore.table`."""
        where = None if splits is None else {"split": {"$in": sorted(splits)}}
        with self._lock, translated():
            order = sorted(self._ages(where))[:limit]
            rows = self._read([record_id for _, record_id in order], with_embeddings=True)
        kept = [rows[record_id] for _, record_id in order if record_id in rows]
        matrix = np.array([vector for _, vector in kept], dtype=np.float32)
        return build_table(
            [record for record, _ in kept], matrix.reshape(len(kept), self._dimension)
        )

    def _ages(self, where: Mapping[str, Any] | None) -> list[tuple[float, str]]:
        """(minus the time of creation, id) of the rows that `where` selects, or of all."""
        got = self._collection.get(where=where, include=["metadatas"])
        pairs = zip(got["ids"], got["metadatas"], strict=True)
        return [(-float(metadata["created"]), record_id) for record_id, metadata in pairs]

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """See `HistoryStore.judge`."""
        with self._lock, translated():
            old = self._read([record_id]).get(record_id)
            if old is None:
                return False
            judged = verdict(old[0], model, correctness)
            self._collection.update(ids=[record_id], metadatas=[to_metadata(judged)])
            self._facts.pop(record_id, None)
            self._touch()
            return True

    def count(self) -> int:
        """See `HistoryStore.count`."""
        if self._shared:
            with translated():
                return int(self._collection.count())
        return self._rows

    def forget(self, *, agent: str) -> int:
        """See `HistoryStore.forget`."""
        with self._lock, translated():
            gone = list(self._collection.get(where={"agent": agent}, include=[])["ids"])
            self._delete(gone)
            return len(gone)

    def close(self) -> None:
        """See `HistoryStore.close`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    self._client.close()
                finally:
                    self._on_close()

    def _delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), self._batch):
            self._collection.delete(ids=list(ids[start : start + self._batch]))
        for record_id in ids:
            self._facts.pop(record_id, None)
        if ids:
            self._touch()

    def _touch(self) -> None:
        """Note that rows have changed, for this process and, if shared, for the others."""
        self._version += 1
        self._rows = int(self._collection.count())
        if self._shared:
            self._stamp = uuid.uuid4().hex
            self._collection.modify(metadata={**self._identity, "stamp": self._stamp})

    def _prune(self) -> None:
        """Remove what is too old and, where there is too much, the oldest: live rows first."""
        with self._lock, translated():
            live: dict[str, Any] = {"source": "live"}
            before = {"created": {"$lt": time.time() - self._max_age_days * DAY_S}}
            old = self._collection.get(where={"$and": [live, before]}, include=[])["ids"]
            self._delete(old)
            surplus = self._rows - self._max_records
            if surplus <= 0:
                return
            surplus += int(self._max_records * PRUNE_SHARE)
            oldest = [i for _, i in sorted(self._ages(live), reverse=True)]
            if len(oldest) < surplus:
                others = self._ages({"source": {"$ne": "live"}})
                oldest += [i for _, i in sorted(others, reverse=True)]
            self._delete(oldest[:surplus])


def _facts_of(record: Record, models: Sequence[str]) -> tuple[str, FloatArray]:
    return record.task, facts_by_model(record.outcomes, models)


def _check_identity(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    schema = stored.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise HistoryError(
            f"the history has schema {schema}, this version reads up to {SCHEMA}: upgrade "
            "aios-eccos, or begin anew with `aios-eccos ingest --rebuild FILE...`"
        )
    if any(stored.get(key) != wanted[key] for key in ("embedder", "dimension")):
        raise EmbedderError(
            f"the history was made with embedder {stored.get('embedder')} "
            f"({stored.get('dimension')} numbers), configured is {wanted['embedder']} "
            f"({wanted['dimension']}): set `embedder` back, or re-embed it with "
            "`aios-eccos ingest --rebuild`"
        )


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of Chroma and what lies under it into `HistoryError`."""
    import httpx
    from chromadb.errors import ChromaError

    try:
        yield
    except EccosError:
        raise
    except httpx.HTTPError as error:
        raise HistoryError(f"the Chroma server cannot be reached: {error}") from error
    except (ChromaError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise HistoryError(
            f"the history cannot be read or written ({type(error).__name__}: {str(error)[:200]}); "
            "if its files are damaged: `aios-eccos ingest --rebuild FILE...`"
        ) from error
