"""Journal: every answer as it arrives, one JSON line each, on disk before anything else happens.

A killed run leaves at most one torn line, at the end, which the next one removes. Grades are not in
it: they follow from answer and question, and are made anew when the journal is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aios_eccos import files
from aios_eccos.collect.reply import Reply
from aios_eccos.errors import DataError, other_format

SCHEMA = "aios-eccos/collect-journal/1"


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's reply to one question, as it is journaled.

    Attributes:
        prompt: hash of what was asked; an answer to another prompt is not used.
        judged: for a judge's reply, the model whose answer it is about; else empty.
        cost_usd: at the prices of that moment; None where no price is known.
        asked_at: UTC, ISO 8601.
    """

    question: str
    model: str
    prompt: str
    reply: Reply
    judged: str = ""
    cost_usd: float | None = None
    asked_at: str = ""


def prompt_hash(prompt: str, max_tokens: int) -> str:
    """What makes an answer reusable: the same words and the same room for the answer."""
    return hashlib.sha256(f"{max_tokens}:{prompt}".encode()).hexdigest()[:16]


class Journal:
    """An append-only file that one run at a time writes, as a context manager; else DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            self._file = os.fdopen(handle, "a+b", buffering=0)
        except OSError as error:
            raise DataError(error.strerror or str(error), source=str(path)) from error
        try:
            if not files.lock_handle(self._file.fileno()):
                raise DataError("another run writes this journal", source=str(path))
            self.answers = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._file.close()

    def append(self, answer: Answer) -> None:
        """Write one answer and wait until the disk has it; DataError if it is full or gone."""
        row = dataclasses.asdict(answer)
        row |= row.pop("reply")
        with self._lock:
            if not self._file.closed:  # answers that come after an end that did not wait for them
                self._write(row)

    def _read(self) -> list[Answer]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._write({"schema": SCHEMA})
            files.sync_names(self.path.parent)
        return [
            answer
            for number, line in enumerate(lines, start=1)
            if (answer := self._parse(line, number))
        ]

    def _parse(self, line: bytes, number: int) -> Answer | None:
        """The answer of a line; None of the first, which says the schema."""
        names = {field.name for field in dataclasses.fields(Reply)}
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            if number == 1 and row.get("schema") != SCHEMA:
                away = "move the file away: answers are then asked for anew"
                raise DataError(
                    other_format("the journal", row.get("schema"), SCHEMA, away),
                    source=str(self.path),
                )
            if number == 1:
                return None
            return Answer(reply=Reply(**{name: row.pop(name) for name in names}), **row)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"damaged: {error}", source=str(self.path), line=number) from error

    def _write(self, row: dict[str, Any]) -> None:
        try:
            # ASCII only: an answer may hold lone surrogates, which UTF-8 does not.
            files.append(self._file, json.dumps(row).encode("ascii") + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"cannot be written: {error}", source=str(self.path)) from error
