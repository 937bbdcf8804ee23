"""Exact search among vectors in memory: one matrix product for a batch of queries.

Of 8,880 records it takes 0.2 ms for a query and 0.1 ms for each of 64, of 100,000 5 and 0.9 ms;
Chroma's index takes 2 to 3 and 0.6 ms, however many there are.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from aios_eccos.history.store import Embeddings


class Nearest:
    """Unit vectors by id. Safe to use from several threads."""

    def __init__(self) -> None:
        #: Who writes holds the first for long, and the second while vectors change.
        self._writing, self._lock = threading.Lock(), threading.Lock()
        self._places: dict[str, int] = {}
        self._ids: list[str] = []
        self._vectors: Embeddings = np.empty((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._ids)

    def put(self, ids: Sequence[str], vectors: Embeddings) -> None:
        """Add or replace (n, d) vectors."""
        with self._writing, self._lock:
            for record_id in ids:
                if self._places.setdefault(record_id, len(self._ids)) == len(self._ids):
                    self._ids.append(record_id)
            if len(self._ids) > len(self._vectors):
                grown = np.empty((2 * len(self._ids), vectors.shape[1]), dtype=np.float32)
                held = len(self._vectors)
                grown[:held] = self._vectors.reshape(held, vectors.shape[1])
                self._vectors = grown
            self._vectors[[self._places[record_id] for record_id in ids]] = vectors

    def drop(self, ids: Sequence[str]) -> None:
        """Remove vectors; unknown ids are none."""
        with self._writing:
            gone = {self._places[record_id] for record_id in ids if record_id in self._places}
            if not gone:
                return
            vectors = np.delete(self._vectors, [*gone], axis=0)
            left = [each for at, each in enumerate(self._ids) if at not in gone]
            places = {record_id: at for at, record_id in enumerate(left)}
            with self._lock:
                self._vectors, self._ids, self._places = vectors, left, places

    def find(self, queries: Embeddings, k: int) -> list[list[tuple[str, float]]]:
        """Per (n, d) unit row ids and cosines of the k nearest; of equals the earlier put."""
        with self._lock:
            ids, count = self._ids, len(self._ids)
            if not count:
                return [[] for _ in queries]
            cosine = queries @ self._vectors[:count].T
        least = np.partition(cosine, max(count - k, 0), axis=1)[:, max(count - k, 0)]
        near = []
        for row, lowest in zip(cosine, least, strict=True):
            best = np.flatnonzero(row >= lowest)
            best = best[np.argsort(-row[best], kind="stable")][:k]
            named = (ids[place] for place in best.tolist())
            near.append([*zip(named, row[best].tolist(), strict=True)])
        return near
