"""Rows as arrays: everything of a record but its text and its vector, for look-up by id."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aios_eccos.history.merge import is_judged
from aios_eccos.history.store import AuditedCalls, Embeddings, Neighbors, Rows
from aios_eccos.records import (
    AUDIT,
    LIVE,
    HistoryTable,
    Outcome,
    Record,
    answer_number,
    question_key,
)
from aios_eccos.values import FloatArray, IntArray

DAY_S = 86_400.0


class _Label(NamedTuple):
    row: int = 0
    judged: bool = False
    live: bool = False
    created: float = 0.0
    split: str = ""
    task: str = ""
    key: str = ""


#: Of a record that is not there.
GONE = _Label()


class Mirror:
    """Outcomes and labels by record id. Safe to use from several threads.

    Row 0 and column 0 are those of an unknown record and of an unknown model: NaN, and no answer.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._lock = threading.Lock()
        self._labels: dict[str, _Label] = {}
        self._columns: dict[str, int] = {}
        self._unused: list[int] = []
        self._values = np.full((64, 8, 2), np.nan)
        self._answers = np.zeros((64, 8), dtype=np.int64)
        for record in records:
            self.put(record)

    def put(self, record: Record) -> None:
        """Add or replace a record."""
        with self._lock:
            row = self._labels.get(record.id, GONE).row
            row = row or (self._unused.pop() if self._unused else len(self._labels) + 1)
            columns = [
                self._columns.setdefault(outcome.model, len(self._columns) + 1)
                for outcome in record.outcomes
            ]
            self._grow(row + 1, len(self._columns) + 1)
            self._values[row] = np.nan
            self._answers[row] = 0
            for column, outcome in zip(columns, record.outcomes, strict=True):
                self._values[row, column] = _facts(outcome)
                self._answers[row, column] = answer_number(outcome.answer)
            self._labels[record.id] = _Label(
                row, is_judged(record), record.source in LIVE, record.created, record.split,
                record.task, question_key(record.text, record.id),
            )  # fmt: skip

    def drop(self, record_id: str) -> None:
        """Remove a record, if it is there."""
        with self._lock:
            label = self._labels.pop(record_id, None)
            if label is not None:
                self._unused.append(label.row)

    def _grow(self, rows: int, columns: int) -> None:
        height, width, _ = self._values.shape
        if rows > height or columns > width:
            shape = 2 * rows if rows > height else height, 2 * columns if columns > width else width
            values, answers = np.full((*shape, 2), np.nan), np.zeros(shape, dtype=np.int64)
            values[:height, :width] = self._values
            answers[:height, :width] = self._answers
            self._values, self._answers = values, answers

    def values(self, ids: Sequence[str], models: Sequence[str]) -> FloatArray:
        """(n, m, 2) correctness and output tokens of records; NaN = missing."""
        with self._lock:
            found: FloatArray = self._values[self._rows(ids)[:, None], self._at(models)]
        return found

    def answers(self, ids: Sequence[str], models: Sequence[str]) -> IntArray:
        """(n, m) `answer_number`s of records; 0 = missing."""
        with self._lock:
            found: IntArray = self._answers[self._rows(ids)[:, None], self._at(models)]
        return found

    def _rows(self, ids: Sequence[str]) -> IntArray:
        """(n,) rows of records."""
        return np.array([self._labels.get(each, GONE).row for each in ids], dtype=np.int64)

    def _at(self, models: Sequence[str]) -> IntArray:
        """(m,) columns."""
        return np.array([self._columns.get(name, 0) for name in models], dtype=np.int64)

    def neighbors(
        self, near: Sequence[Sequence[tuple[str, float]]], models: Sequence[str], k: int
    ) -> Neighbors:
        """What `Rows.find` found as `Neighbors`; records that are gone by now are left out."""
        known = self._labels
        found = [[(i, c, label) for i, c in row if (label := known.get(i))] for row in near]
        similarity, rows = np.full((len(near), k), np.nan), np.zeros((len(near), k), dtype=np.int64)
        for at, row in enumerate(found):
            similarity[at, : len(row)] = [cosine for _, cosine, _ in row]
            rows[at, : len(row)] = [label.row for *_, label in row]
        with self._lock:
            values = self._values[rows[:, :, None], self._at(models)]
        return Neighbors(
            ids=tuple(tuple(record_id for record_id, *_ in row) for row in found),
            similarity=similarity,
            correctness=values[..., 0],
            output_tokens=values[..., 1],
            tasks=tuple(tuple(label.task for *_, label in row) for row in found),
            keys=tuple(tuple(label.key for *_, label in row) for row in found),
        )

    def newest(self, splits: Collection[str] | None = None) -> list[str]:
        """The ids of all records, or of those of some splits, in the order of `History.table`."""
        with self._lock:
            order = sorted(
                (not label.judged, -int(label.created // 86_400), zlib.crc32(i.encode()), i)
                for i, label in self._labels.items()
                if splits is None or label.split in splits
            )
        return [record_id for *_, record_id in order]

    def compared(self) -> dict[str, str]:
        """See `History.compared`."""
        order = self.newest()
        with self._lock:
            labels = {i: self._labels[i] for i in order if i in self._labels}
            rows = [label.row for label in labels.values()]
            verdicts = (~np.isnan(self._values[rows, :, 0])).sum(axis=1)
            pairs = zip(labels.items(), verdicts, strict=True)
            return {record_id: label.key for (record_id, label), n in pairs if n > 1}

    def audited(self) -> AuditedCalls:
        """See `History.audited`."""
        with self._lock:
            models = tuple(self._columns)
            found = [(i, label) for i, label in self._labels.items() if i.startswith(AUDIT)]
            calls = [self._labels.get(i.removeprefix(AUDIT), GONE).row for i, _ in found]
            columns = slice(1, len(models) + 1)
            return AuditedCalls(
                models=models,
                references=tuple(label.task for _, label in found),
                correctness=self._values[[label.row for _, label in found], columns, 0],
                verdicts=self._values[calls, columns, 0],
            )

    def surplus(self, most: int) -> list[str]:
        """The ids to give up so that `most` records stay: live ones first, the oldest first."""
        with self._lock:
            order = sorted((not label.live, label.created, i) for i, label in self._labels.items())
        return [record_id for _, _, record_id in order[: max(len(order) - most, 0)]]


def build_table(records: Sequence[Record], embeddings: Embeddings) -> HistoryTable:
    """Records and their (N, d) embeddings as arrays; models sorted by name."""
    models = tuple(sorted({outcome.model for record in records for outcome in record.outcomes}))
    ids = tuple(record.id for record in records)
    mirror = Mirror(records)
    values = mirror.values(ids, models)
    return HistoryTable(
        ids=ids,
        models=models,
        embeddings=np.asarray(embeddings, dtype=np.float32),
        input_tokens=np.array([record.input_tokens for record in records], dtype=float),
        correctness=values[..., 0],
        output_tokens=values[..., 1],
        answers=mirror.answers(ids, models),
        tasks=tuple(record.task for record in records),
        splits=tuple(record.split for record in records),
        texts=tuple(record.text for record in records),
        sources=tuple(record.source for record in records),
        created=np.array([record.created for record in records], dtype=float),
    )


def _facts(outcome: Outcome) -> tuple[float, float]:
    """Correctness and output tokens, NaN = missing; a call without a whole answer has neither.

    An answer that was cut off has no length either; a verdict on it counts all the same.
    """
    if outcome.error is not None:
        return np.nan, np.nan
    cut_off = outcome.signals.truncated or outcome.output_tokens is None
    return (
        np.nan if outcome.correctness is None else outcome.correctness,
        np.nan if cut_off else float(outcome.output_tokens or 0),
    )


def read_mirror(rows: Rows) -> Mirror:
    """Outcomes and labels of every row."""
    return Mirror(rows.records())


def expired(rows: Rows, max_age_days: float) -> list[str]:
    """Live records that are older."""
    before = time.time() - max_age_days * DAY_S
    where = [{"source": source, "created": {"$lt": before}} for source in LIVE]
    return [name for each in where for name in rows.ids(each)]
