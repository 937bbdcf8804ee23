"""The history's contract: what every store of past queries does, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.records import HistoryTable, Record
from aios_eccos.values import FloatArray

Embeddings: TypeAlias = NDArray[np.float32]

#: A record and its (d,) embedding.
Row: TypeAlias = tuple[Record, Embeddings]

#: Version of what is stored; a store made by another one is refused.
SCHEMA = 3
#: Rows read at a time: between two reads, other threads of this process run.
PAGE = 250


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest records of each of n queries, nearest first.

    Attributes:
        ids: n tuples of at most k record ids.
        similarity: (n, k) cosine in -1..1; NaN pads rows with fewer than k records.
        correctness: (n, k, m) 0..1, NaN = missing; m in the order of the models asked for.
        output_tokens: (n, k, m), NaN = missing.
        tasks: n tuples of task labels, like `ids`.
        keys: n tuples of `question_key`s, like `ids`; empty: the ids.
    """

    ids: tuple[tuple[str, ...], ...]
    similarity: FloatArray
    correctness: FloatArray
    output_tokens: FloatArray
    tasks: tuple[tuple[str, ...], ...]
    keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What adding records came to.

    Attributes:
        added: records that are new.
        updated: known records that are no longer what they were.
        renamed: ids that another question had already, with the ids given instead.
    """

    added: int = 0
    updated: int = 0
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> int:
        """Records that are new or changed."""
        return self.added + self.updated

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.added + other.added, self.updated + other.updated, self.renamed + other.renamed
        )


class HistoryStore(Protocol):
    """Past queries by nearness. Safe to use from several threads.

    Every method raises `HistoryError` where the store cannot be read or written.
    """

    @property
    def version(self) -> int:
        """Changes whenever rows change, so that what was fitted on them can be fitted anew."""
        ...

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> Changes:
        """Add records or, by id, update them (outcomes are merged per model, see `merge`).

        Two questions are never merged: one whose id another question has gets an id of its own.
        A record that cannot be stored keeps no other one out.

        Args:
            embeddings: (n, d) rows of unit length. None is allowed where all ids are known.

        Raises:
            HistoryError: embeddings of another shape: nothing is stored. Or records that cannot
                be, such as an unknown id without an embedding: all others are stored.
        """
        ...

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """The k judged records nearest to each of the (n, d) unit rows, by cosine.

        Live calls without a verdict (see `is_judged`) say nothing about success, and would take
        the places of those that do.
        """
        ...

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        """The history as arrays: at most `limit` rows; only `splits` if given.

        Judged records come first, of those the newest day. Within a day (UTC) the order is as good
        as random but always the same, so that the first rows are a sample of a data set and not
        the end of its file.
        """
        ...

    def compared(self) -> dict[str, str]:
        """The records on which more than one model was judged, in the order of `table`.

        By id, each one's `question_key`.
        """
        ...

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """Store a verdict (0..1) on what `model` did; False if the record is not known yet.

        A verdict that comes before its record is kept for a while, and joins it.
        """
        ...

    def recall(self, ids: Sequence[str]) -> dict[str, Row]:
        """Records with their (d,) embeddings, by id; unknown ids are left out."""
        ...

    def count(self) -> int:
        """Number of records."""
        ...

    def forget(self, *, agent: str) -> int:
        """Remove every record of an agent; returns how many there were."""
        ...

    def close(self) -> None:
        """Release files, locks and connections; harmless when repeated."""
        ...


class Rows(Protocol):
    """Where rows lie, judged and unjudged ones. One writer at a time; readers at any time."""

    #: Whether other processes write too.
    shared: bool
    #: Most rows written at a time.
    batch: int

    def counts(self) -> tuple[int, int]:
        """Number of judged rows, and of all."""
        ...

    def ids(self, where: Mapping[str, object] | None = None) -> list[str]:
        """The ids of all rows, or of those whose fields have these values (`{"$lt": x}`: less)."""
        ...

    def read(self, ids: Sequence[str], *, vectors: bool = True) -> dict[str, Row]:
        """Rows by id, as far as there are; embeddings that are not asked for are empty."""
        ...

    def write(self, rows: Mapping[str, Row]) -> None:
        """Add or replace at most `batch` rows."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows; unknown ids are none."""
        ...

    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        """Per query, ids and cosines of at most k judged rows, nearest first.

        Args:
            queries: (n, d) unit rows.
            records: whether the rows are given too (reading them takes most of the time).
        """
        ...

    def stamp(self) -> str:
        """What the last writer of shared rows left, to tell that rows changed."""
        ...

    def restamp(self) -> str:
        """Tell other processes that rows changed; returns the new stamp."""
        ...
