"""The history's contract, and what every store has in common: merging, masking, arrays."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import HistoryError
from aios_eccos.records import HistoryTable, Outcome, Record, Signals
from aios_eccos.values import FloatArray

Embeddings: TypeAlias = NDArray[np.float32]

#: Version of what is stored; a store made by a newer one is refused. Of 1, rows that nobody has
#: judged lay among the others; up to 2, outcomes had no signals.
SCHEMA = 3

#: Two embeddings of one text differ by less (float rounding of other batch sizes).
SAME_EMBEDDING = 1e-4


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest records of each of n queries, nearest first.

    Attributes:
        ids: n tuples of at most k record ids.
        similarity: (n, k) cosine in -1..1; NaN pads rows with fewer than k records.
        correctness: (n, k, m) 0..1, NaN = missing; m in the order of the models asked for.
        output_tokens: (n, k, m), NaN = missing.
        tasks: n tuples of task labels, like `ids`.
    """

    ids: tuple[tuple[str, ...], ...]
    similarity: FloatArray
    correctness: FloatArray
    output_tokens: FloatArray
    tasks: tuple[tuple[str, ...], ...]


class HistoryStore(Protocol):
    """Past queries by nearness. Safe to use from several threads.

    Every method raises `HistoryError` where the store cannot be read or written.
    """

    @property
    def version(self) -> int:
        """Changes whenever rows change, so that what was fitted on them can be fitted anew."""
        ...

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> int:
        """Add records or, by id, update them (outcomes are merged per model, see `merge`).

        Args:
            embeddings: (n, d) rows of unit length. None is allowed where all ids are known.

        Returns:
            How many records are new or changed.

        Raises:
            HistoryError: an unknown id without an embedding, or an embedding of another dimension.
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

    def compared(self) -> list[str]:
        """The ids of records on which more than one model was judged, in the order of `table`."""
        ...

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """Store a verdict (0..1) on what `model` did; False if the record is unknown."""
        ...

    def recall(self, ids: Sequence[str]) -> dict[str, tuple[Record, Embeddings]]:
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


def merge(old: Record | None, new: Record, *, keep_text: bool) -> Record:
    """The record after `new` arrived; equal to `old` if `new` says nothing new.

    Per model, a value that `new` knows replaces the old one, and one it does not know stays. What
    the row itself says (task, split, length) is taken from `new` where it says anything; source,
    agent and time of creation stay as they were first.

    Args:
        keep_text: whether query and answer texts may be kept.
    """
    if not keep_text:
        bare = tuple(dataclasses.replace(outcome, prediction=None) for outcome in new.outcomes)
        new = dataclasses.replace(new, text="", outcomes=bare)
    known = {outcome.model: outcome for outcome in old.outcomes} if old is not None else {}
    for outcome in new.outcomes:
        known[outcome.model] = _merge_outcome(known.get(outcome.model), outcome)
    outcomes = tuple(known.values())
    if old is None:
        return dataclasses.replace(new, outcomes=outcomes, created=new.created or time.time())
    return dataclasses.replace(
        old,
        text=new.text or old.text,
        input_tokens=new.input_tokens or old.input_tokens,
        outcomes=outcomes,
        task=new.task or old.task,
        split=new.split or old.split,
    )


def is_judged(record: Record) -> bool:
    """Whether the correctness of any model is known; that of no whole answer is not."""
    return any(o.error is None and o.correctness is not None for o in record.outcomes)


def rank(judged: bool, created: float, record_id: str) -> tuple[bool, int, int, str]:
    """Sort key of the order that `HistoryStore.table` has."""
    return not judged, -int(created // 86_400), zlib.crc32(record_id.encode()), record_id


def update_row(
    old: tuple[Record, Embeddings] | None,
    new: Record,
    embedding: Embeddings | None,
    store_text: bool | None,
) -> tuple[Record, Embeddings] | None:
    """The row after `new` arrived; None if nothing changes.

    Args:
        embedding: (d,) of `new`; None keeps the row's.
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.

    Raises:
        HistoryError: a new row without an embedding.
    """
    keep_text = new.source != "live" if store_text is None else store_text
    merged = merge(old[0] if old else None, new, keep_text=keep_text)
    if old is not None and (
        embedding is None or np.allclose(embedding, old[1], atol=SAME_EMBEDDING)
    ):
        return None if merged == old[0] else (merged, old[1])
    if embedding is None:
        raise HistoryError(f"record {new.id!r} is new and has no embedding")
    return merged, embedding


def _merge_outcome(old: Outcome | None, new: Outcome) -> Outcome:
    if old is None:
        return new
    fields = {field.name: getattr(new, field.name) for field in dataclasses.fields(new)}
    known = {name: value for name, value in fields.items() if value not in (None, Signals())}
    if new.output_tokens is not None:
        known["error"] = new.error  # a whole answer makes up for an earlier failure
    return dataclasses.replace(old, **known)


def verdict(old: Record, model: str, correctness: float) -> Record:
    """`old` with a verdict on one model.

    Raises:
        HistoryError: the verdict is not in 0..1.
    """
    if not 0 <= correctness <= 1:
        raise HistoryError(f"verdict {correctness} on {model}: allowed 0..1")
    judged = Record(old.id, "", 0, (Outcome(model, correctness=float(correctness)),))
    return merge(old, judged, keep_text=True)


def check_embeddings(embeddings: NDArray[Any], rows: int | None, dimension: int) -> Embeddings:
    """The embeddings as finite float32 of shape (rows, dimension).

    Raises:
        HistoryError: another shape, or a number that is not finite.
    """
    array = np.ascontiguousarray(embeddings, dtype=np.float32)
    wanted = (array.shape[0] if rows is None and array.ndim else rows, dimension)
    if array.shape != wanted:
        raise HistoryError(f"embeddings have shape {array.shape}, the history wants {wanted}")
    if not np.isfinite(array).all():
        raise HistoryError("embeddings hold numbers that are not finite")
    return array
