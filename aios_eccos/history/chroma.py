"""Rows in Chroma. Every error of Chroma becomes a `HistoryError`.

Judged rows and those that nobody has judged lie in collections of their own, so that searches among
the judged need no filter: Chroma's takes more time than the search, the more the fewer rows match.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aios_eccos.errors import EmbedderError, HistoryError, other_format
from aios_eccos.history.client import translated
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.history.merge import is_judged
from aios_eccos.history.nearest import Nearest
from aios_eccos.history.places import Places
from aios_eccos.history.store import PAGE, SCHEMA, Embeddings, Row
from aios_eccos.records import Record

NAME = "eccos_history"
#: Where the rows lie that nobody has judged, as most live calls.
UNJUDGED = "eccos_history_unjudged"
#: Characters of rows sent to a server at a time, unless one row alone has more.
SENT = 4 << 20
#: Judged rows up to which an embedded history is searched in memory (61 MB): beyond, Chroma's index
#: is quicker for a query alone.
EXACT_MOST = 40_000
#: Neighbors that are tried for a vector's links where nobody searches. Elsewhere it is a hundred,
#: which takes most of the time in which a row is written over another one, 4.6 ms.
UNSEARCHED = 10
#: Before rows took the places of removed ones (see `places`), which this version reads as well.
BEFORE = 3


class ChromaRows:
    """See `Rows`; `EmbedderError` where they were made by another embedder.

    `keep` is called whenever Chroma may have written its index.
    """

    def __init__(
        self,
        client: Any,
        embedder: Embedder,
        *,
        shared: bool,
        place: str = "the history",
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self.shared, self._place, self._keep = shared, place, keep
        self._client = client
        #: Collections that no version has written to which has places; the first write says so.
        self._earlier: list[Any] = []
        self._identity = {
            "schema": SCHEMA, "embedder": embedder.name, "dimension": embedder.dimension
        }  # fmt: skip
        with translated():
            self._judged = Places(self._open(NAME), shared=shared, searched=True)
            unjudged = self._open(UNJUDGED, ef_construction=UNSEARCHED)
            self._unjudged = Places(unjudged, shared=shared, searched=False)
            most = int(client.get_max_batch_size())
        self.batch = min(most, PAGE) if shared else most
        self._nearest: Nearest | None = None
        if not shared:
            with translated():
                for rows in (self._judged, self._unjudged):
                    rows.probe()
            if self.counts()[0] <= EXACT_MOST:
                self._nearest = self._held()
            else:
                with translated():
                    self._judged.know_names()

    def _open(self, name: str, **hnsw: int) -> Any:
        rows = self._client.get_or_create_collection(
            name,
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", **hnsw}},
            metadata=self._identity,
        )
        self._check_identity(rows.metadata or {})
        if rows.metadata["schema"] == BEFORE:
            self._earlier.append(rows)
        return rows

    def _raise_schema(self) -> None:
        """Let no earlier version open what is now written: it would mix up records."""
        while self._earlier:
            self._earlier[-1].modify(metadata=self._identity)
            self._earlier.pop()

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        if stored.get("schema") not in (BEFORE, SCHEMA):
            anew = "begin anew with `aios-eccos ingest --rebuild FILE...`"
            raise HistoryError(other_format(self._place, stored.get("schema"), SCHEMA, anew))
        if any(stored.get(key) != self._identity[key] for key in ("embedder", "dimension")):
            raise EmbedderError(
                f"the history was made with embedder {stored.get('embedder')} "
                f"({stored.get('dimension')} numbers), configured is {self._identity['embedder']} "
                f"({self._identity['dimension']}): set `embedder` back, or re-embed the history "
                "with `aios-eccos ingest --rebuild`"
            )

    @translated()
    def _held(self) -> Nearest:
        """The judged rows' vectors, to be searched without Chroma."""
        found = Nearest()
        for ids, vectors in self._judged.vectors():
            found.put(ids, vectors)
        return found

    @translated()
    def counts(self) -> tuple[int, int]:
        judged = self._judged.count()
        both = judged + self._unjudged.count()
        self._keep()
        return judged, both

    @translated()
    def ids(self, where: Mapping[str, object]) -> list[str]:
        parts = [{name: value} for name, value in where.items()]
        condition = {"$and": parts} if len(parts) > 1 else parts[0]
        found = (rows.ids(condition) for rows in (self._unjudged, self._judged))
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def records(self) -> Iterator[Record]:
        with translated():
            for rows in (self._unjudged, self._judged):
                yield from rows.records()

    @translated()
    def read(self, ids: Sequence[str], *, vectors: bool = True) -> dict[str, Row]:
        found: dict[str, Row] = {}
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), PAGE):
            part = unique[start : start + PAGE]
            # In this order, since a row that moves meanwhile is first added there, then removed.
            for rows in (self._unjudged, self._judged):
                found.update(rows.read(part, vectors=vectors))
        return found

    @translated()
    def write(self, rows: Mapping[str, Row]) -> None:
        self._raise_schema()
        for judged, place, other in (
            (True, self._judged, self._unjudged),
            (False, self._unjudged, self._judged),
        ):
            part = [row for row in rows.values() if is_judged(row[0]) == judged]
            for sent in _parts(part) if self.shared else [part] if part else []:
                ids = [record.id for record, _ in sent]
                place.put(sent)
                # Before what may fail: written again, the row would be the same as is stored.
                if self._nearest is not None and judged:
                    self._nearest.put(ids, np.stack([vector for _, vector in sent]))
                elif self._nearest is not None:
                    self._nearest.drop(ids)
                other.drop(ids)
        if self._nearest is not None and len(self._nearest) > EXACT_MOST:
            self._judged.know_names()
            self._nearest = None

    @translated()
    def delete(self, ids: Sequence[str]) -> None:
        self._raise_schema()
        for rows in (self._judged, self._unjudged):
            rows.drop(ids)
        if self._nearest is not None:
            self._nearest.drop(ids)

    @translated()
    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        nearest = self._nearest
        if nearest is not None and not records:
            return nearest.find(queries, k), []
        return self._judged.find(queries, k, records=records)

    @translated()
    def stamp(self) -> str:
        metadata = self._client.get_collection(NAME, embedding_function=None).metadata
        return str((metadata or {}).get("stamp", ""))

    @translated()
    def restamp(self) -> str:
        stamp = uuid.uuid4().hex
        self._judged.rows.modify(metadata={**self._identity, "stamp": stamp})
        return stamp


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in parts of at most `SENT` characters: a server refuses a request too large."""
    part: list[Row] = []
    size = 0
    for row in rows:
        length = len(row[0].text) + sum(len(o.prediction or "") for o in row[0].outcomes)
        if part and size + length > SENT:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part
