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
from aios_eccos.history.rows import from_metadata, to_metadata
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
#: Vectors read at a time.
HELD_PAGE = 5_000


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
        self._identity = {
            "schema": SCHEMA, "embedder": embedder.name, "dimension": embedder.dimension
        }  # fmt: skip
        with translated():
            self._judged, self._unjudged = self._open(NAME), self._open(UNJUDGED)
            most = int(client.get_max_batch_size())
        self.batch = min(most, PAGE) if shared else most
        self._nearest: Nearest | None = None
        if not shared:
            for rows in (self._judged, self._unjudged):
                self._probe(rows)
            if self.counts()[0] <= EXACT_MOST:
                self._nearest = self._held()

    def _open(self, name: str) -> Any:
        rows = self._client.get_or_create_collection(
            name,
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine"}},
            metadata=self._identity,
        )
        self._check_identity(rows.metadata or {})
        return rows

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        if stored.get("schema") != SCHEMA:
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
    def _probe(self, rows: Any) -> None:
        """Read and find one row, since a lost index would only show as missing neighbors."""
        if wanted := min(8, int(rows.count())):
            row = rows.get(limit=1, include=["embeddings"])["embeddings"]
            found = rows.query(query_embeddings=row, n_results=wanted, include=["distances"])
            if len(found["ids"][0]) < wanted:
                raise ValueError("the index does not hold the rows")

    @translated()
    def _held(self) -> Nearest:
        """The judged rows' vectors, to be searched without Chroma."""
        found, ids = Nearest(), list(self._judged.get(include=[])["ids"])
        for start in range(0, len(ids), HELD_PAGE):
            got = self._judged.get(ids=ids[start : start + HELD_PAGE], include=["embeddings"])
            found.put(got["ids"], np.asarray(got["embeddings"], dtype=np.float32))
        return found

    @translated()
    def counts(self) -> tuple[int, int]:
        judged = int(self._judged.count())
        both = judged + int(self._unjudged.count())
        self._keep()
        return judged, both

    @translated()
    def ids(self, where: Mapping[str, object] | None = None) -> list[str]:
        parts = [{name: value} for name, value in (where or {}).items()]
        condition = {"$and": parts} if len(parts) > 1 else next(iter(parts), None)
        both = (self._unjudged, self._judged)
        found = (rows.get(where=condition, include=[])["ids"] for rows in both)
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    @translated()
    def read(self, ids: Sequence[str], *, vectors: bool = True) -> dict[str, Row]:
        found: dict[str, Row] = {}
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), PAGE):
            part = unique[start : start + PAGE]
            # In this order, since a row that moves meanwhile is first added there, then removed.
            for rows in (self._unjudged, self._judged):
                found.update(_read(rows, part, vectors=vectors))
        return found

    @translated()
    def write(self, rows: Mapping[str, Row]) -> None:
        for judged, place, other in (
            (True, self._judged, self._unjudged),
            (False, self._unjudged, self._judged),
        ):
            part = [row for row in rows.values() if is_judged(row[0]) == judged]
            for sent in _parts(part) if self.shared else [part] if part else []:
                ids = [record.id for record, _ in sent]
                place.upsert(
                    ids=ids,
                    embeddings=np.stack([vector for _, vector in sent]),
                    metadatas=[to_metadata(record) for record, _ in sent],
                )
                # Before what may fail: written again, the row would be the same as is stored.
                if self._nearest is not None and judged:
                    self._nearest.put(ids, np.stack([vector for _, vector in sent]))
                elif self._nearest is not None:
                    self._nearest.drop(ids)
                _delete(other, ids)
        if self._nearest is not None and len(self._nearest) > EXACT_MOST:
            self._nearest = None

    @translated()
    def delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), self.batch):
            for rows in (self._judged, self._unjudged):
                _delete(rows, list(ids[start : start + self.batch]))
        if self._nearest is not None:
            self._nearest.drop(ids)

    @translated()
    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        nearest = self._nearest
        if nearest is not None and not records:
            return nearest.find(queries, k), []
        include = ["distances", "metadatas"] if records else ["distances"]
        got = self._judged.query(query_embeddings=queries, n_results=k, include=include)
        near = [
            [(record_id, 1.0 - far) for record_id, far in zip(*pair, strict=True)]
            for pair in zip(got["ids"], got["distances"], strict=True)
        ]
        found = [
            from_metadata(record_id, metadata)
            for pair in zip(got["ids"], got["metadatas"] if records else (), strict=False)
            for record_id, metadata in zip(*pair, strict=True)
            if metadata is not None
        ]
        return near, found

    @translated()
    def stamp(self) -> str:
        metadata = self._client.get_collection(NAME, embedding_function=None).metadata
        return str((metadata or {}).get("stamp", ""))

    @translated()
    def restamp(self) -> str:
        stamp = uuid.uuid4().hex
        self._judged.modify(metadata={**self._identity, "stamp": stamp})
        return stamp


def _read(rows: Any, ids: list[str], *, vectors: bool) -> dict[str, Row]:
    include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
    got = rows.get(ids=ids, include=include)
    embeddings = got["embeddings"] if vectors else [()] * len(got["ids"])
    return {
        record_id: (from_metadata(record_id, metadata), np.asarray(vector, dtype=np.float32))
        for record_id, metadata, vector in zip(
            got["ids"], got["metadatas"], embeddings, strict=True
        )
    }


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


def _delete(rows: Any, ids: list[str]) -> None:
    held = rows.get(ids=ids, include=[])["ids"]
    if held:
        rows.delete(ids=held)
