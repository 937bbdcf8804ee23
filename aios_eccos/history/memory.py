"""A history in memory, with exact cosine: the contract in its plainest form, for tests and replay.

Nothing is kept after the process ends.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import numpy as np

from aios_eccos.history.mirror import Mirror, build_table
from aios_eccos.history.store import (
    Embeddings,
    Neighbors,
    check_embeddings,
    is_judged,
    rank,
    update_row,
    verdict,
)
from aios_eccos.records import HistoryTable, Record


class MemoryHistory:
    """See `HistoryStore`.

    Args:
        dimension: length of an embedding; None takes it from the first one added.
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.
    """

    def __init__(self, dimension: int | None = None, *, store_text: bool | None = None) -> None:
        self._dimension = dimension
        self._store_text = store_text
        self._rows: dict[str, tuple[Record, Embeddings]] = {}
        self._version = 0
        self._judged: tuple[int, list[str], Embeddings] | None = None
        self._lock = threading.RLock()

    @property
    def version(self) -> int:
        """See `HistoryStore.version`."""
        return self._version

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> int:
        """See `HistoryStore.add`."""
        with self._lock:
            if embeddings is not None:
                if self._dimension is None:
                    self._dimension = int(np.asarray(embeddings).shape[-1])
                embeddings = check_embeddings(embeddings, len(records), self._dimension)
            changed: dict[str, tuple[Record, Embeddings]] = {}
            for row, record in enumerate(records):
                old = changed.get(record.id) or self._rows.get(record.id)
                vector = None if embeddings is None else embeddings[row]
                updated = update_row(old, record, vector, self._store_text)
                if updated is not None:
                    changed[record.id] = updated
            self._rows.update(changed)
            self._version += bool(changed)
            return len(changed)

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """See `HistoryStore.nearest`."""
        with self._lock:
            queries = check_embeddings(embeddings, None, self._dimension or embeddings.shape[-1])
            ids, vectors = self._stacked()
            if not ids:
                return Mirror().neighbors([[] for _ in queries], models, k)
            cosine = queries @ vectors.T
            take = min(k, len(ids))
            order = np.argsort(-cosine, axis=1, kind="stable")[:, :take]
            near = [
                [(ids[i], float(cosine[row, i])) for i in best] for row, best in enumerate(order)
            ]
            found = {record_id for row in near for record_id, _ in row}
            return Mirror(self._rows[i][0] for i in found).neighbors(near, models, k)

    def _stacked(self) -> tuple[list[str], Embeddings]:
        """Ids and vectors of the judged rows."""
        if self._judged is None or self._judged[0] != self._version:
            rows = [row for row in self._rows.values() if is_judged(row[0])]
            vectors = np.array([vector for _, vector in rows], dtype=np.float32)
            self._judged = self._version, [record.id for record, _ in rows], vectors
        return self._judged[1:]

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        """See `HistoryStore.table`."""
        with self._lock:
            rows = [r for r in self._rows.values() if splits is None or r[0].split in splits]
            rows = sorted(rows, key=lambda row: rank(is_judged(row[0]), row[0].created, row[0].id))[
                :limit
            ]
            matrix = np.array([row[1] for row in rows], dtype=np.float32)
            return build_table(
                [row[0] for row in rows], matrix.reshape(len(rows), self._dimension or 0)
            )

    def compared(self) -> list[str]:
        """See `HistoryStore.compared`."""
        with self._lock:
            return Mirror(record for record, _ in self._rows.values()).compared()

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """See `HistoryStore.judge`."""
        with self._lock:
            old = self._rows.get(record_id)
            if old is None:
                return False
            self._rows[record_id] = (verdict(old[0], model, correctness), old[1])
            self._version += 1
            return True

    def recall(self, ids: Sequence[str]) -> dict[str, tuple[Record, Embeddings]]:
        """See `HistoryStore.recall`."""
        with self._lock:
            return {i: self._rows[i] for i in ids if i in self._rows}

    def count(self) -> int:
        """See `HistoryStore.count`."""
        return len(self._rows)

    def forget(self, *, agent: str) -> int:
        """See `HistoryStore.forget`."""
        with self._lock:
            gone = [i for i, (record, _) in self._rows.items() if record.agent == agent]
            for record_id in gone:
                del self._rows[record_id]
            self._version += bool(gone)
            return len(gone)

    def close(self) -> None:
        """See `HistoryStore.close`."""
