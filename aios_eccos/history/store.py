"""What the history answers, and the seam to where its rows lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.records import Record
from aios_eccos.values import FloatArray

Embeddings: TypeAlias = NDArray[np.float32]

#: A record and its (d,) embedding; a record that may come without one.
Row: TypeAlias = tuple[Record, Embeddings]
Given: TypeAlias = tuple[Record, Embeddings | None]

#: Version of what is stored; a store made by another one is refused.
SCHEMA = 4
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
        keys: n tuples of `question_key`s, like `ids`.
    """

    ids: tuple[tuple[str, ...], ...]
    similarity: FloatArray
    correctness: FloatArray
    output_tokens: FloatArray
    tasks: tuple[tuple[str, ...], ...]
    keys: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class AuditedCalls:
    """Audits' records beside those of their calls.

    Attributes:
        models: the M model names. references: n names, "" where it is not known.
        correctness: (n, M) of the audits; verdicts: (n, M) of the calls; NaN = missing.
    """

    models: tuple[str, ...]
    references: tuple[str, ...]
    correctness: FloatArray
    verdicts: FloatArray


@dataclass(frozen=True, slots=True)
class Changes:
    """What adding records came to: new ones, and known ones that are no longer what they were.

    `renamed` are ids that another question had already, with the ids given instead.
    """

    added: int = 0
    updated: int = 0
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> int:
        return self.added + self.updated

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.added + other.added, self.updated + other.updated, self.renamed + other.renamed
        )


class Rows(Protocol):
    """Where rows lie, judged and unjudged ones. One writer at a time; readers at any time.

    Attributes:
        shared: whether other processes write too.
        batch: most rows written at a time.
    """

    shared: bool
    batch: int

    def counts(self) -> tuple[int, int]:
        """Number of judged rows, and of all."""
        ...

    def ids(self, where: Mapping[str, object]) -> list[str]:
        """The ids of rows whose fields have these values (`{"$lt": x}`: less)."""
        ...

    def records(self) -> Iterator[Record]:
        """All records; of one in two rows, as while it moves, that which counts comes last."""
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
        """Per (n, d) unit row, ids and cosines of at most k judged rows, nearest first.

        And, if `records`, these themselves: reading them takes most of the time.
        """
        ...

    def stamp(self) -> str:
        """What the last writer of shared rows left, to tell that rows changed."""
        ...

    def restamp(self) -> str:
        """Tell other processes that rows changed; returns the new stamp."""
        ...
