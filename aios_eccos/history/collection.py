"""The rows in Chroma: whose vectors they are, and reading and writing in pages.

Judged rows and those that nobody has judged lie in collections of their own, so that searches among
the judged need no filter: Chroma's takes more time than the search, the more the fewer rows match.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aios_eccos.errors import EmbedderError, HistoryError
from aios_eccos.history.client import names_of, translated
from aios_eccos.history.rows import from_metadata, to_metadata
from aios_eccos.history.store import SCHEMA, Embeddings, is_judged
from aios_eccos.records import Record

log = logging.getLogger("aios_eccos.history")

NAME = "eccos_history"
#: Where the rows lie that nobody has judged, as most live calls.
UNJUDGED = "eccos_history_unjudged"
#: Rows read at a time: between two reads, other threads of this process run.
PAGE = 250


class ChromaCollection:
    """Records as Chroma keeps them. Not safe for several writers at once.

    Args:
        client: a Chroma client.
        embedder, dimension: of the vectors.
        shared: whether other processes write to it too.

    Raises:
        EmbedderError: the rows were made by another embedder.
        HistoryError: it cannot be read, or a newer version made it.
    """

    def __init__(self, client: Any, *, embedder: str, dimension: int, shared: bool) -> None:
        self._client = client
        self._identity = {"schema": SCHEMA, "embedder": embedder, "dimension": dimension}
        with translated():
            self._judged = self._open(NAME)
            if self._is_mixed(self._judged) and UNJUDGED not in names_of(client):
                self._set_apart()
            self._unjudged = self._open(UNJUDGED)
            most = int(client.get_max_batch_size())
            #: Most rows written at a time.
            self.batch = min(most, PAGE) if shared else most
        if not shared:
            for rows in (self._judged, self._unjudged):
                self._probe(rows)
        self._part(self._judged, judged=True)
        self._part(self._unjudged, judged=False)

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
        schema = stored.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise HistoryError(
                f"the history has schema {schema}, this version reads up to {SCHEMA}: upgrade "
                "aios-eccos, or begin anew with `aios-eccos ingest --rebuild FILE...`"
            )
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
        wanted = min(8, int(rows.count()))
        if not wanted:
            return
        row = rows.get(limit=1, include=["embeddings"])
        found = rows.query(
            query_embeddings=row["embeddings"], n_results=wanted, include=["distances"]
        )
        if len(found["ids"][0]) < wanted:
            raise ValueError("the index does not hold the rows")

    def _is_mixed(self, rows: Any) -> bool:
        """Whether judged and unjudged rows lie together, as in schema 1."""
        return bool(rows.metadata["schema"] < 2)

    def _set_apart(self) -> None:
        """Make of what schema 1 laid together the unjudged rows, from which the judged ones move.

        Not the other way around: searches are slow for good among the remains of many deleted rows.
        """
        for page in self._pages(self._judged):
            rows = self._read(self._judged, page, vectors=False).values()
            if not all(is_judged(record) for record, _ in rows):
                self._judged.modify(name=UNJUDGED)
                self._judged = self._open(NAME)
                return

    @translated()
    def _part(self, rows: Any, *, judged: bool) -> None:
        """Move what does not belong there out of what an older version wrote, and say so."""
        before = rows.metadata["schema"]
        if before >= SCHEMA:
            return
        log.info("the history is brought from schema %s to %s", before, SCHEMA)
        for page in self._pages(rows) if self._is_mixed(rows) else ():
            found = self._read(rows, page, vectors=True)
            self._write({i: row for i, row in found.items() if is_judged(row[0]) != judged})
        rows.modify(metadata=self._identity)

    def _pages(self, rows: Any) -> Iterator[list[str]]:
        ids = list(rows.get(include=[])["ids"])
        for start in range(0, len(ids), PAGE):
            yield ids[start : start + PAGE]

    @translated()
    def counts(self) -> tuple[int, int]:
        """Number of judged rows, and of all."""
        judged = int(self._judged.count())
        return judged, judged + int(self._unjudged.count())

    @translated()
    def ids(self, where: Mapping[str, Any] | None = None) -> list[str]:
        """The ids of the rows that a condition on their metadata selects, or of all."""
        both = (self._unjudged, self._judged)
        found = (rows.get(where=where, include=[])["ids"] for rows in both)
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    @translated()
    def read(
        self, ids: Sequence[str], *, vectors: bool = False
    ) -> dict[str, tuple[Record, Embeddings]]:
        """Rows by id, as far as there are; their embeddings are empty where not asked for."""
        found: dict[str, tuple[Record, Embeddings]] = {}
        for start in range(0, len(ids), PAGE):
            part = list(ids[start : start + PAGE])
            # In this order, since a row that moves meanwhile is first added there, then removed.
            for rows in (self._unjudged, self._judged):
                found.update(self._read(rows, part, vectors=vectors))
        return found

    def _read(
        self, rows: Any, ids: list[str], *, vectors: bool
    ) -> dict[str, tuple[Record, Embeddings]]:
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        got = rows.get(ids=ids, include=include)
        embeddings = got["embeddings"] if vectors else [()] * len(got["ids"])
        return {
            record_id: (from_metadata(record_id, metadata), np.asarray(vector, dtype=np.float32))
            for record_id, metadata, vector in zip(
                got["ids"], got["metadatas"], embeddings, strict=True
            )
        }

    def every(self) -> Iterator[Record]:
        """All rows, a page at a time: together they would be millions of objects."""
        ids = self.ids()
        for start in range(0, len(ids), PAGE):
            for record, _ in self.read(ids[start : start + PAGE]).values():
                yield record

    @translated()
    def write(self, rows: Mapping[str, tuple[Record, Embeddings]]) -> None:
        """Add or replace at most `batch` rows."""
        self._write(rows)

    def _write(self, rows: Mapping[str, tuple[Record, Embeddings]]) -> None:
        for judged, place, other in (
            (True, self._judged, self._unjudged),
            (False, self._unjudged, self._judged),
        ):
            part = {i: row for i, row in rows.items() if is_judged(row[0]) == judged}
            if not part:
                continue
            place.upsert(
                ids=list(part),
                embeddings=np.stack([vector for _, vector in part.values()]),
                metadatas=[to_metadata(record) for record, _ in part.values()],
            )
            moved = other.get(ids=list(part), include=[])["ids"]
            if moved:
                other.delete(ids=moved)

    @translated()
    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        for start in range(0, len(ids), self.batch):
            part = list(ids[start : start + self.batch])
            for rows in (self._judged, self._unjudged):
                held = rows.get(ids=part, include=[])["ids"]
                if held:
                    rows.delete(ids=held)

    @translated()
    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        """Per query, ids and cosines of at most k judged rows, nearest first.

        Args:
            records: whether the rows are given too (reading them takes most of the time).
        """
        include = ["distances", "metadatas"] if records else ["distances"]
        got = self._judged.query(query_embeddings=queries, n_results=k, include=include)
        near = [
            [(record_id, 1.0 - far) for record_id, far in zip(*pair, strict=True)]
            for pair in zip(got["ids"], got["distances"], strict=True)
        ]
        found = [
            from_metadata(record_id, metadata)
            for pair in zip(got["ids"], got["metadatas"] if records else (), strict=records)
            for record_id, metadata in zip(*pair, strict=True)
            if metadata is not None
        ]
        return near, found

    @translated()
    def stamp(self) -> str:
        """What the last writer of a shared collection left, to tell that rows changed."""
        metadata = self._client.get_collection(NAME, embedding_function=None).metadata
        return str((metadata or {}).get("stamp", ""))

    @translated()
    def restamp(self) -> str:
        """Tell other processes that rows changed; returns the new stamp."""
        stamp = uuid.uuid4().hex
        self._judged.modify(metadata={**self._identity, "stamp": stamp})
        return stamp
