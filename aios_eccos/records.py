"""What the history keeps: past queries with their outcomes, one by one and as arrays.

All values are frozen. A missing outcome is None in a record and NaN in a table, never zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


#: Sources of records that agents' calls have left: their texts are not kept unless asked for.
LIVE = ("live", "audit")
#: Begins the ids of audits' records, before the id of the call.
AUDIT = "audit:"


def text_key(text: str) -> str:
    """What two spellings of one question share: everything but the blanks between words."""
    return " ".join(text.split())


def answer_number(answer: str | None) -> int:
    """A number that equal `Outcome.answer`s share, for arrays of int64; 0 = none."""
    if answer is None:
        return 0
    digest = hashlib.blake2b(answer.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def question_key(text: str, record_id: str) -> str:
    """What records of one question share, whatever their ids: 16 hex digits of its hash.

    Blanks and capitals make no other question. Where no text is kept, the record's id has to do.
    """
    same = text_key(text).casefold() or f"\0{record_id}"
    return hashlib.blake2b(same.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Signals:
    """What an answer shows of itself. Nobody's verdict: none of it ever becomes correctness.

    Attributes, each None where it was not asked for or cannot be known:
        valid_json: JSON was asked for, and the text is (of the schema's shape, if one was given).
        tool_calls: tools were called: all of them offered ones, with parameters of their shape.
        truncated: the answer ends at its token limit.
        empty: neither text nor tool calls.
    """

    valid_json: bool | None = None
    tool_calls: bool | None = None
    truncated: bool | None = None
    empty: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model did with one query. Money is derived from tokens at today's prices.

    Attributes:
        correctness: 0..1 from a grader or a verdict; None = nobody judged (never assumed).
        output_tokens: length of the answer; None = unknown.
        latency_s: seconds from request to answer; None = unknown.
        error: short reason ("429", "timeout", "truncated", ...) if there was no whole answer.
        prediction: the answer itself, only where a data set carries it.
        signals: what a live answer showed of itself.
        answer: what equal final answers share, and nothing else; None = no final answer is known.
            In the history it is a keyed hash (`verdicts.keys`).
    """

    model: str
    correctness: float | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    error: str | None = None
    prediction: str | None = None
    signals: Signals = Signals()
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One past query with the outcomes of the models that were asked: a row of the history.

    Attributes:
        id: stable; adding a record with a known id updates it (so re-ingesting changes nothing).
        text: the query; the store keeps it only if told to.
        task: label for reports, never used as a feature; of an audit, the reference's name.
        split: "train", "val", "test" or "" (live traffic).
        source: "ingest", "collect", "live", or "audit" (copies of a live call, compared).
        agent: who asked, for live traffic (`forget --agent`).
        created: seconds since the epoch, UTC.
    """

    id: str
    text: str
    input_tokens: int
    outcomes: tuple[Outcome, ...]
    task: str = ""
    split: str = ""
    source: str = "ingest"
    agent: str = ""
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """The history as arrays, for fitting, calibration and replay.

    Attributes:
        ids: the N record ids; models: the M model names, naming the columns.
        embeddings: (N, d) float32, rows of unit length.
        input_tokens: (N,).
        correctness: (N, M), NaN = missing.
        output_tokens: (N, M), NaN = missing.
        answers: (N, M) `answer_number`s: equal ones of a row are one final answer; 0 = missing.
        tasks, splits: N labels.
        texts: N texts, empty where none is stored.
        sources: N of `Record.source`; created: (N,) seconds since the epoch.
    """

    ids: tuple[str, ...]
    models: tuple[str, ...]
    embeddings: NDArray[np.float32]
    input_tokens: NDArray[np.float64]
    correctness: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    answers: NDArray[np.int64]
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    texts: tuple[str, ...]
    sources: tuple[str, ...]
    created: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> tuple[str, ...]:
        """N `question_key`s, equal where rows hold one question."""
        return tuple(map(question_key, self.texts, self.ids))

    def rows(self, keep: NDArray[Any] | Sequence[int]) -> HistoryTable:
        """The table of the rows that `keep` (indices or a mask) selects, in that order."""
        import numpy as np

        chosen = np.asarray(keep)
        # Of nothing, numpy makes an array of floats, which selects nothing anywhere.
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        index = np.arange(len(self))[chosen]
        return HistoryTable(
            ids=tuple(self.ids[i] for i in index),
            models=self.models,
            embeddings=self.embeddings[index],
            input_tokens=self.input_tokens[index],
            correctness=self.correctness[index],
            output_tokens=self.output_tokens[index],
            answers=self.answers[index],
            tasks=tuple(self.tasks[i] for i in index),
            splits=tuple(self.splits[i] for i in index),
            texts=tuple(self.texts[i] for i in index),
            sources=tuple(self.sources[i] for i in index),
            created=self.created[index],
        )
