"""The rows of one Chroma collection: whose vectors they are, and reading and writing in pages."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aios_eccos.errors import EmbedderError, HistoryError
from aios_eccos.values import Record

from .client import translated
from .rows import from_metadata, to_metadata
from .store import SCHEMA, Embeddings

NAME = "eccos_history"
#: Rows read at a time: between two reads, other threads of this process run.
PAGE = 250


class ChromaCollection:
    """Records as Chroma keeps them. Not safe for several writers at once.

    Args:
        client: a Chroma client.
        embedder, dimension: of the vectors.
        shared: whether other processes write to it too.

    Raises:
        EmbedderError: the collection was made by another embedder.
        HistoryError: it cannot be read, or a newer version made it.
    """

    def __init__(self, client: Any, *, embedder: str, dimension: int, shared: bool) -> None:
        self._client = client
        self._identity = {"schema": SCHEMA, "embedder": embedder, "dimension": dimension}
        with translated():
            self._rows = client.get_or_create_collection(
                NAME,
                embedding_function=None,
                configuration={"hnsw": {"space": "cosine"}},
                metadata=self._identity,
            )
            self._check_identity(self._rows.metadata or {})
            most = int(client.get_max_batch_size())
            #: Most rows written at a time.
            self.batch = min(most, PAGE) if shared else most
        count = self.count()
        if count and not shared:
            self._probe(min(8, count))

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
    def _probe(self, wanted: int) -> None:
        """Read and find one row, since a lost index would only show as missing neighbors."""
        row = self._rows.get(limit=1, include=["embeddings"])
        found = self._rows.query(
            query_embeddings=row["embeddings"], n_results=wanted, include=["distances"]
        )
        if len(found["ids"][0]) < wanted:
            raise ValueError("the index does not hold the rows")

    @translated()
    def count(self) -> int:
        """Number of rows."""
        return int(self._rows.count())

    @translated()
    def ids(self, where: Mapping[str, Any] | None = None) -> list[str]:
        """The ids of the rows that a condition on their metadata selects, or of all."""
        return list(self._rows.get(where=where, include=[])["ids"])

    @translated()
    def read(
        self, ids: Sequence[str], *, vectors: bool = False
    ) -> dict[str, tuple[Record, Embeddings]]:
        """Rows by id, as far as there are; their embeddings are empty where not asked for."""
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        found: dict[str, tuple[Record, Embeddings]] = {}
        for start in range(0, len(ids), PAGE):
            got = self._rows.get(ids=list(ids[start : start + PAGE]), include=include)
            embeddings = got["embeddings"] if vectors else [()] * len(got["ids"])
            for record_id, metadata, vector in zip(
                got["ids"], got["metadatas"], embeddings, strict=True
            ):
                record = from_metadata(record_id, metadata)
                found[record_id] = record, np.asarray(vector, dtype=np.float32)
        return found

    def every(self) -> Iterator[Record]:
        """All rows, a page at a time: together they would be millions of objects."""
        ids = self.ids()
        for start in range(0, len(ids), PAGE):
            for record, _ in self.read(ids[start : start + PAGE]).values():
                yield record

    @translated()
    def write(self, rows: Mapping[str, tuple[Record, Embeddings]]) -> None:
        """Add or replace at most `batch` rows."""
        self._rows.upsert(
            ids=list(rows),
            embeddings=np.stack([vector for _, vector in rows.values()]),
            metadatas=[to_metadata(record) for record, _ in rows.values()],
        )

    @translated()
    def update(self, record: Record) -> None:
        """Replace what is known of a row, keeping its embedding."""
        self._rows.update(ids=[record.id], metadatas=[to_metadata(record)])

    @translated()
    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows."""
        for start in range(0, len(ids), self.batch):
            self._rows.delete(ids=list(ids[start : start + self.batch]))

    @translated()
    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        """Per query, ids and cosines of at most k rows, nearest first.

        Args:
            records: whether the rows are given too (reading them takes most of the time).
        """
        include = ["distances", "metadatas"] if records else ["distances"]
        got = self._rows.query(query_embeddings=queries, n_results=k, include=include)
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
        self._rows.modify(metadata={**self._identity, "stamp": stamp})
        return stamp
