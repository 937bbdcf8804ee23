"""The history in Chroma: embedded in this process, or a Chroma server for many.

Every error of Chroma becomes a `HistoryError`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from aios_eccos.errors import HistoryError
from aios_eccos.history.collection import ChromaCollection
from aios_eccos.history.mirror import Mirror, build_table
from aios_eccos.history.store import Embeddings, Neighbors, check_embeddings, update_row, verdict
from aios_eccos.records import HistoryTable, Record

log = logging.getLogger("aios_eccos.history")

DAY_S = 86_400.0
#: Share of `max_records` removed at once when the history is full, so that it is rarely done.
PRUNE_SHARE = 0.02
#: Seconds between two removals of what is too old.
AGE_S = 3600.0
#: Seconds between two looks at whether another process has changed a shared history.
STAMP_S = 2.0
#: Seconds for which calls do not ask a server again that has just failed.
REST_S = 5.0


class ChromaHistory:
    """See `HistoryStore`. Made by `open_history`.

    Args:
        client: a Chroma client.
        embedder, dimension: of the vectors; refused where the collection's are others.
        shared: other processes write to the same collection (a Chroma server).
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.
        max_records: most records kept; the oldest live ones go first.
        max_age_days: live records older than this are removed.
        on_close: called once, to close the client and give back what it needed.

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
        self._dimension = dimension
        self._shared = shared
        self._store_text = store_text
        self._max_records = max_records
        self._max_age_days = max_age_days
        self._on_close: Callable[[], None] | None = on_close
        self._lock = threading.RLock()
        self._version = 0
        self._stamp, self._looked = "", -STAMP_S
        self._failed, self._aged = -REST_S, -AGE_S
        self._mirror: Mirror | None = None
        self._rows = ChromaCollection(client, embedder=embedder, dimension=dimension, shared=shared)
        self._judged, self._count = self._rows.counts()

    @property
    def version(self) -> int:
        """See `HistoryStore.version`; of a shared history at most `STAMP_S` seconds old."""
        if self._shared and time.monotonic() - self._looked >= STAMP_S:
            with self._lock:
                self._looked = time.monotonic()
                try:
                    stamp = self._rows.stamp()
                except HistoryError as error:
                    log.debug("no news of the history: %s", error)
                else:
                    self._version += stamp != self._stamp
                    self._stamp = stamp
        return self._version

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> int:
        """See `HistoryStore.add`."""
        if embeddings is not None:
            embeddings = check_embeddings(embeddings, len(records), self._dimension)
        changed = 0
        for start in range(0, len(records), self._rows.batch):
            part = slice(start, start + self._rows.batch)
            with self._lock:
                changed += self._put(
                    records[part], None if embeddings is None else embeddings[part]
                )
        if changed:
            with self._lock:
                self._touch()
                self._prune()
        return changed

    def _put(self, records: Sequence[Record], embeddings: Embeddings | None) -> int:
        """Write what is new or changed, of at most one batch."""
        known = self._rows.read(list(dict.fromkeys(r.id for r in records)), vectors=True)
        changed: dict[str, tuple[Record, Embeddings]] = {}
        for row, record in enumerate(records):
            vector = None if embeddings is None else embeddings[row]
            updated = update_row(known.get(record.id), record, vector, self._store_text)
            if updated is not None:
                known[record.id] = changed[record.id] = updated
        if changed:
            self._rows.write(changed)
        if self._mirror is not None:
            for record, _ in changed.values():
                self._mirror.put(record)
        return len(changed)

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """See `HistoryStore.nearest`. A server that has just failed is not asked again at once."""
        queries = check_embeddings(embeddings, None, self._dimension)
        if self._shared and time.monotonic() - self._failed < REST_S:
            raise HistoryError("the Chroma server has just failed, and is left alone for a while")
        try:
            return self._nearest(queries, models, k)
        except HistoryError:
            self._failed = time.monotonic()
            raise

    def _nearest(self, queries: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        if not len(queries) or not (self._shared or self._judged):
            return Mirror().neighbors([[] for _ in queries], models, k)
        if self._shared:
            near, records = self._rows.find(queries, k, records=True)
            return Mirror(records).neighbors(near, models, k)
        near, _ = self._rows.find(queries, min(k, self._judged), records=False)
        return self._read_mirror().neighbors(near, models, k)

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        """See `HistoryStore.table`."""
        order = self._read_mirror().newest(splits)[:limit]
        rows = self._rows.read(order, vectors=True)
        kept = [rows[record_id] for record_id in order if record_id in rows]
        matrix = np.array([vector for _, vector in kept], dtype=np.float32)
        return build_table(
            [record for record, _ in kept], matrix.reshape(len(kept), self._dimension)
        )

    def compared(self) -> list[str]:
        """See `HistoryStore.compared`."""
        return self._read_mirror().compared()

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """See `HistoryStore.judge`."""
        with self._lock:
            old = self._rows.read([record_id], vectors=True).get(record_id)
            if old is None:
                return False
            judged = verdict(old[0], model, correctness)
            self._rows.write({record_id: (judged, old[1])})
            if self._mirror is not None:
                self._mirror.put(judged)
            self._touch()
            return True

    def recall(self, ids: Sequence[str]) -> dict[str, tuple[Record, Embeddings]]:
        """See `HistoryStore.recall`."""
        return self._rows.read(list(dict.fromkeys(ids)), vectors=True)

    def count(self) -> int:
        """See `HistoryStore.count`."""
        return self._rows.counts()[1] if self._shared else self._count

    def forget(self, *, agent: str) -> int:
        """See `HistoryStore.forget`."""
        with self._lock:
            gone = self._rows.ids({"agent": agent})
            self._delete(gone)
            return len(gone)

    def close(self) -> None:
        """See `HistoryStore.close`."""
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _read_mirror(self) -> Mirror:
        """Outcomes and labels of every row; read once where no other process writes.

        With every search they would have to be read for the rows found, which takes three times
        as long as the search itself.
        """
        if self._mirror is not None:
            return self._mirror
        with self._lock:
            if self._mirror is None:
                mirror = Mirror(self._rows.every())
                if self._shared:
                    return mirror
                self._mirror = mirror
            return self._mirror

    def _delete(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        self._rows.delete(ids)
        if self._mirror is not None:
            for record_id in ids:
                self._mirror.drop(record_id)
        self._touch()

    def _touch(self) -> None:
        """Note that rows have changed, for this process and, if shared, for the others."""
        self._version += 1
        self._judged, self._count = self._rows.counts()
        if self._shared:
            self._stamp = self._rows.restamp()

    def _prune(self) -> None:
        """Remove what is too old and, where there is too much, the oldest: live rows first."""
        if time.monotonic() - self._aged >= AGE_S:
            self._aged = time.monotonic()
            before = time.time() - self._max_age_days * DAY_S
            self._delete(
                self._mirror.expired(before)
                if self._mirror is not None
                else self._rows.ids({"$and": [{"source": "live"}, {"created": {"$lt": before}}]})
            )
        if self._count > self._max_records:
            keep = int(self._max_records * (1 - PRUNE_SHARE))
            self._delete(self._read_mirror().surplus(keep))
