"""What a record is after something arrived for it: mended, told apart from others, merged."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import DataError, HistoryError
from aios_eccos.history.store import Embeddings, Given, Row
from aios_eccos.records import LIVE, Outcome, Record, Signals, text_key

#: Two embeddings of one text differ by less (float rounding of other batch sizes).
SAME_EMBEDDING = 1e-4
#: Longest text of a query or answer that is kept, in characters; the rest is cut off.
MAX_TEXT = 1 << 20
#: Counts beyond this are damage; they would also not be exact in arrays.
MAX_TOKENS = 10**9
#: The texts of a record.
TEXTS = ("id", "text", "task", "split", "source", "agent")


def mend(text: str) -> str:
    """Without what UTF-8 and SQLite cannot hold: lone surrogates and NUL; at most `MAX_TEXT`."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def storable(record: Record) -> Record:
    """The record as it can be stored: texts mended, numbers that cannot be as missing.

    Raises:
        DataError: it has no id, no outcome's model, or a count or grade out of range.
    """
    tokens = _count(record.input_tokens)
    if tokens is None:
        raise DataError(f"input_tokens = {record.input_tokens!r:.80}: allowed 0..{MAX_TOKENS}")
    texts: dict[str, Any] = {name: mend(getattr(record, name)) for name in TEXTS}
    if not texts["id"]:
        raise DataError("a record without an id")
    return dataclasses.replace(
        record,
        **texts,
        input_tokens=tokens,
        outcomes=tuple(map(_storable, record.outcomes)),
        created=max(record.created, 0.0) if math.isfinite(record.created) else 0.0,
    )


def _storable(outcome: Outcome) -> Outcome:
    grade, seconds = outcome.correctness, outcome.latency_s
    if not isinstance(outcome.model, str) or not outcome.model:
        raise DataError("an outcome without a model")
    if grade is not None and math.isnan(grade):
        grade = None
    if grade is not None and not 0 <= grade <= 1:
        raise DataError(f"correctness of {outcome.model!r:.80} = {grade!r:.80}: allowed 0..1")
    return dataclasses.replace(
        outcome,
        model=mend(outcome.model),
        correctness=None if grade is None else float(grade),
        output_tokens=_count(outcome.output_tokens),
        latency_s=seconds if seconds is not None and 0 <= seconds < math.inf else None,
        error=None if outcome.error is None else mend(outcome.error),
        prediction=None if outcome.prediction is None else mend(outcome.prediction),
        answer=None if outcome.answer is None else mend(outcome.answer),
    )


def _count(value: float | None) -> int | None:
    """A whole number of tokens, None where it is none that can be."""
    if value is None or not 0 <= value <= MAX_TOKENS or value != int(value):
        return None
    return int(value)


def finite(embeddings: Embeddings | None, row: int) -> Embeddings | None:
    """One of the embeddings, if there are any; `DataError` where it holds NaN or infinity."""
    if embeddings is not None and not np.isfinite(embeddings[row]).all():
        raise DataError("its embedding holds numbers that are not finite")
    return None if embeddings is None else embeddings[row]


def kept_apart(given: Sequence[Given], known: Mapping[str, Row]) -> list[Given]:
    """The records, each under an id that no other question has: the same whenever it is asked."""
    first: dict[str, Given] = {**known}
    apart = []
    for record, vector in given:
        if not _is_same_question(first.setdefault(record.id, (record, vector)), record, vector):
            tail = hashlib.sha256(text_key(record.text).encode()).hexdigest()[:8]
            record = dataclasses.replace(record, id=f"{record.id}#{tail}")
        apart.append((record, vector))
    return apart


def _is_same_question(old: Given, new: Record, embedding: Embeddings | None) -> bool:
    """Whether `new`, under the id of `old`, asks the same: by text, where both are known.

    A record without text, as one that brings a verdict, means whatever has its id.
    """
    if new.text and old[0].text:
        return text_key(new.text) == text_key(old[0].text)
    return not new.text or embedding is None or old[1] is None or _close(embedding, old[1])


def merge(old: Record | None, new: Record, *, keep_text: bool) -> Record:
    """The record after `new` arrived; equal to `old` if `new` says nothing new.

    Per model, a value that `new` knows replaces the old one, and one it does not know stays. What
    the row itself says (task, split, length) is taken from `new` where it says anything; source,
    agent and time of creation stay as they were first.
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
        text=old.text or new.text,
        input_tokens=new.input_tokens or old.input_tokens,
        outcomes=outcomes,
        task=new.task or old.task,
        split=new.split or old.split,
    )


def _merge_outcome(old: Outcome | None, new: Outcome) -> Outcome:
    if old is None:
        return new
    fields = {field.name: getattr(new, field.name) for field in dataclasses.fields(new)}
    known = {name: value for name, value in fields.items() if value not in (None, Signals())}
    if new.output_tokens is not None:
        known["error"] = new.error  # a whole answer makes up for an earlier failure
    return dataclasses.replace(old, **known)


def update_row(
    old: Row | None, new: Record, embedding: Embeddings | None, store_text: bool | None
) -> Row:
    """The row after `new` arrived; `old` itself if nothing changes.

    Args:
        embedding: (d,) of `new`; None keeps the row's; a new row without is a `HistoryError`.
        store_text: see `History`.
    """
    keep_text = new.source not in LIVE if store_text is None else store_text
    merged = merge(old[0] if old else None, new, keep_text=keep_text)
    if old is not None and (embedding is None or _close(embedding, old[1])):
        return old if merged == old[0] else (merged, old[1])
    if embedding is None:
        raise HistoryError(f"record {new.id!r} is new and has no embedding")
    return merged, embedding


def is_same_row(one: Row, other: Row | None) -> bool:
    return other is not None and one[0] == other[0] and np.array_equal(one[1], other[1])


def _close(one: Embeddings, two: Embeddings) -> bool:
    return bool(np.allclose(one, two, atol=SAME_EMBEDDING))


def verdict(record_id: str, model: str, correctness: float) -> Record:
    """A verdict on one model, 0..1 or it is a `HistoryError`, as a record to merge."""
    if not 0 <= correctness <= 1:
        raise HistoryError(f"verdict {correctness} on {model}: allowed 0..1")
    return Record(record_id, "", 0, (Outcome(model, correctness=float(correctness)),))


def is_judged(record: Record) -> bool:
    """Whether the correctness of any model is known; that of no whole answer is not."""
    return any(o.error is None and o.correctness is not None for o in record.outcomes)


def check_embeddings(embeddings: NDArray[Any], rows: int | None, dimension: int) -> Embeddings:
    """The embeddings as float32; `HistoryError` where their shape is not (rows, dimension)."""
    array = np.ascontiguousarray(embeddings, dtype=np.float32)
    wanted = (array.shape[0] if rows is None and array.ndim else rows, dimension)
    if array.shape != wanted:
        raise HistoryError(f"embeddings have shape {array.shape}, the history wants {wanted}")
    return array
