"""A history in memory, with exact cosine, for tests and replay. It ends with the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aios_eccos.history.history import History
from aios_eccos.history.merge import is_judged
from aios_eccos.history.nearest import Nearest
from aios_eccos.history.store import Embeddings, Row
from aios_eccos.records import Record


class MemoryHistory(History):
    """See `History`."""

    def __init__(self, dimension: int | None = None, *, store_text: bool | None = None) -> None:
        super().__init__(MemoryRows(), dimension=dimension, store_text=store_text)


class MemoryRows:
    """See `Rows`."""

    shared = False
    batch = 1 << 30

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._judged = Nearest()
        self._lock = threading.Lock()

    def counts(self) -> tuple[int, int]:
        with self._lock:
            return len(self._judged), len(self._rows)

    def ids(self, where: Mapping[str, object]) -> list[str]:
        """See `Rows.ids`; conditions are equalities here."""
        wanted = where.items()
        with self._lock:
            return [
                record_id
                for record_id, (record, _) in self._rows.items()
                if all(getattr(record, name) == value for name, value in wanted)
            ]

    def records(self) -> Iterator[Record]:
        with self._lock:
            rows = [*self._rows.values()]
        return (record for record, _ in rows)

    def read(self, ids: Sequence[str], *, vectors: bool = True) -> dict[str, Row]:
        with self._lock:
            return {i: self._rows[i] for i in ids if i in self._rows}

    def write(self, rows: Mapping[str, Row]) -> None:
        with self._lock:
            self._rows.update(rows)
        judged = {name: vector for name, (record, vector) in rows.items() if is_judged(record)}
        if judged:
            self._judged.put([*judged], np.stack([*judged.values()]))
        self._judged.drop([*rows.keys() - judged.keys()])

    def delete(self, ids: Sequence[str]) -> None:
        with self._lock:
            for record_id in ids:
                self._rows.pop(record_id, None)
        self._judged.drop(ids)

    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        near = self._judged.find(queries, k)
        found = {name: self._rows[name][0] for row in near for name, _ in row} if records else {}
        return near, [*found.values()]

    def stamp(self) -> str:
        return ""

    restamp = stamp
