"""Records as plain rows: Chroma's metadata, and the JSON that travels through the inbox."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from aios_eccos.errors import DataError
from aios_eccos.records import Outcome, Record, Signals

#: Order of an outcome's columns in its compact form; the signals have columns of their own.
FIELDS = tuple(field.name for field in dataclasses.fields(Outcome) if field.name != "signals")
SIGNALS = tuple(field.name for field in dataclasses.fields(Signals))


def pack(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as compact JSON: one list each, unknown values at the end left out."""
    rows = []
    for outcome in outcomes:
        row = [getattr(outcome, name) for name in FIELDS]
        row += [getattr(outcome.signals, name) for name in SIGNALS]
        while row[-1] is None:
            row.pop()
        rows.append(row)
    return json.dumps(rows, separators=(",", ":"), allow_nan=False)


def unpack(packed: str) -> tuple[Outcome, ...]:
    """Inverse of `pack`; rows of schema 2 and before end with the outcome's own columns."""
    return tuple(_outcome(row) for row in json.loads(packed))


def _outcome(row: list[Any]) -> Outcome:
    own = len(FIELDS)
    columns = row if len(row) <= own else [*row[:own], Signals(*row[own:])]
    return Outcome(*columns)


def to_metadata(record: Record) -> dict[str, str | int | float]:
    """A record's row in Chroma, apart from id and embedding.

    The text lies here and not in Chroma's documents, which would be indexed word by word.
    """
    return {
        "outcomes": pack(record.outcomes),
        "input_tokens": record.input_tokens,
        "task": record.task,
        "split": record.split,
        "source": record.source,
        "agent": record.agent,
        "created": record.created,
        "text": record.text,
    }


def from_metadata(record_id: str, metadata: Mapping[str, Any]) -> Record:
    """Inverse of `to_metadata`."""
    return Record(
        id=record_id,
        text=str(metadata["text"]),
        input_tokens=int(metadata["input_tokens"]),
        outcomes=unpack(metadata["outcomes"]),
        task=str(metadata["task"]),
        split=str(metadata["split"]),
        source=str(metadata["source"]),
        agent=str(metadata["agent"]),
        created=float(metadata["created"]),
    )


def encode_records(records: Sequence[Record]) -> bytes:
    """Records as JSON, for the way from one process to the history's owner."""
    rows = [{"id": record.id, **to_metadata(record)} for record in records]
    return json.dumps(rows, separators=(",", ":"), allow_nan=False).encode()


def encode_forget(agent: str) -> bytes:
    """The wish to forget an agent, for the way to the history's owner."""
    return json.dumps({"forget": agent}).encode()


def decode_message(message: bytes) -> list[Record] | str:
    """Inverse of `encode_records` (records) and `encode_forget` (an agent).

    Raises:
        DataError: the message is of neither.
    """
    try:
        raw = json.loads(message)
        if isinstance(raw, dict):
            return str(raw["forget"])
        return [from_metadata(str(row["id"]), row) for row in raw]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"inbox message of {len(message)} bytes: {error!r}"[:300]) from error
