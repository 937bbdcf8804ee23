"""Records as plain rows: Chroma's metadata, and the JSON that travels through the inbox."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aios_eccos.errors import DataError
from aios_eccos.history.merge import TEXTS, storable
from aios_eccos.records import Outcome, Record, Signals

#: Order of an outcome's columns in its compact form: then come the signals, then the answer.
FIELDS = ("model", "correctness", "output_tokens", "latency_s", "error", "prediction")
SIGNALS = tuple(field.name for field in dataclasses.fields(Signals))
#: A record's columns besides id and outcomes. The text lies among them and not in Chroma's
#: documents, which would be indexed word by word.
COLUMNS: dict[str, type[str | int | float]] = {
    "input_tokens": int,
    "task": str,
    "split": str,
    "source": str,
    "agent": str,
    "created": float,
    "text": str,
}


def to_metadata(record: Record) -> dict[str, str | int | float]:
    """A record's row in Chroma, apart from id and embedding."""
    return {"outcomes": _pack(record.outcomes)} | {n: getattr(record, n) for n in COLUMNS}


def from_metadata(record_id: str, metadata: Mapping[str, Any]) -> Record:
    """Inverse of `to_metadata`."""
    outcomes = tuple(_outcome(row) for row in json.loads(metadata["outcomes"]))
    fields: dict[str, Any] = {name: kind(metadata[name]) for name, kind in COLUMNS.items()}
    return Record(record_id, outcomes=outcomes, **fields)


def holder(place: str, metadata: Mapping[str, Any]) -> str:
    """The id of the record whose row lies at a place (Chroma's id); "" where the place is free."""
    return str(metadata.get("id", place))


def read_row(place: str, metadata: Mapping[str, Any]) -> Record | None:
    """The record whose row lies at a place; None where the place is free."""
    record_id = holder(place, metadata)
    return from_metadata(record_id, metadata) if record_id else None


def _pack(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as compact JSON: one list each, unknown values at the end left out."""
    rows = []
    for outcome in outcomes:
        row = [getattr(outcome, name) for name in FIELDS]
        row += [*(getattr(outcome.signals, name) for name in SIGNALS), outcome.answer]
        while row[-1] is None:
            row.pop()
        rows.append(row)
    return json.dumps(rows, separators=(",", ":"), allow_nan=False)


def _outcome(row: list[Any]) -> Outcome:
    own, answer = len(FIELDS), len(FIELDS) + len(SIGNALS)
    known = [*row[:own], *[None] * (own - len(row))]
    columns = [*known, Signals(*row[own:answer]), *row[answer:]]
    return Outcome(*columns)


@dataclass(frozen=True, slots=True)
class Message:
    """What a message of the inbox says.

    Attributes:
        records: to be stored; one without text brings verdicts.
        forget: the agent that is to be forgotten, if any.
        refused: records that cannot be stored, each as a message of its own, and why.
    """

    records: tuple[Record, ...] = ()
    forget: str | None = None
    refused: tuple[tuple[bytes, DataError], ...] = ()


def encode_records(records: Sequence[Record]) -> bytes:
    """Records as JSON, for the way from one process to the history's owner."""
    rows = [{"id": record.id, **to_metadata(record)} for record in records]
    return json.dumps(rows, separators=(",", ":"), allow_nan=False).encode()


def encode_forget(agent: str) -> bytes:
    """The wish to forget an agent, for the way to the history's owner."""
    return json.dumps({"forget": agent}).encode()


def decode_message(message: bytes) -> Message:
    """Inverse of `encode_records` and `encode_forget`; `DataError` for what is of neither."""
    try:
        raw = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise DataError(f"inbox message of {len(message)} bytes: {error!r:.200}") from error
    if isinstance(raw, dict) and isinstance(raw.get("forget"), str):
        return Message(forget=raw["forget"])
    if not isinstance(raw, list):
        raise DataError(f"inbox message of {len(message)} bytes: neither records nor a wish")
    records, refused = [], []
    for row in raw:
        try:
            records.append(_handed(row))
        except DataError as error:
            refused.append((json.dumps([row]).encode(), error))
    return Message(tuple(records), refused=tuple(refused))


def _handed(row: Any) -> Record:
    """A record as it was handed over: whoever did has mended what had to be (`push_records`)."""
    try:
        record = from_metadata(str(row["id"]), row)
        if storable(record) != record or not all(isinstance(row[name], str) for name in TEXTS):
            raise DataError("inbox record: its texts or numbers cannot be stored")
        return record
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise DataError(f"inbox record: {error!r:.200}") from error
