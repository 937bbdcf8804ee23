"""Data sets of recorded answers, in QAServe's shape, row by row."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from aios_eccos.errors import DataError
from aios_eccos.history.merge import MAX_TOKENS, mend
from aios_eccos.records import Outcome, Record, text_key

KINDS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
#: Longest row, in bytes; a longer one is a damaged file and would fill the memory.
MAX_ROW = 8 << 20
#: Largest .json file, unpacked, in bytes; it is held in one piece (.jsonl has no such limit).
MAX_JSON = 1 << 30
#: Longest name of a model, task or record, in characters.
MAX_NAME = 500
#: Longest answer that is believed, in seconds: a day.
MAX_SECONDS = 86_400.0


def read_records(path: Path) -> Iterator[Record | DataError]:
    """The records of a file in order; a bad row is given as the error that names it.

    Raises:
        DataError: the file itself cannot be opened, or is none of the kinds.
    """
    before: dict[str, dict[str, int]] = {}
    for line, row in read_rows(path):
        try:
            record = parse_row(row)
            _check_repeated(record, before.setdefault(record.id, {}))
            yield record
        except DataError as error:
            yield DataError(error.reason[:300], source=str(path), line=line)


def read_rows(path: Path) -> Iterator[tuple[int, object]]:
    """The rows of a file as JSON with their lines; a `DataError` stands for one that is none.

    Files are .json (a list of rows, or rows one after the other) or .jsonl, plain or gzipped.
    Of .jsonl, one row at a time is in memory.

    Raises:
        DataError: the file itself cannot be opened, or is none of these kinds.
    """
    source = str(path)
    zipped = path.suffix == ".gz"
    kind = "".join(path.suffixes[-2:]) if zipped else path.suffix
    if kind not in KINDS:
        raise DataError(f"unknown kind of file, wanted {', '.join(KINDS)}", source=source)
    try:
        file: Any = gzip.open(path) if zipped else path.open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise DataError(error.strerror or str(error), source=source) from error
    with file:
        yield from _lines(file) if kind.startswith(".jsonl") else _elements(file)


def _check_repeated(record: Record, before: dict[str, int]) -> None:
    """Refuse a row that says otherwise than an earlier one of its id: which of them is right?

    `before` holds hashes of what earlier rows said, by what it is about; this row's are added.
    """
    facts: dict[str, object] = {
        "queries": text_key(record.text),
        "lengths of the query": record.input_tokens,
        "tasks": record.task,
        "splits": record.split,
    }
    facts |= {f"outputs of {outcome.model!r}": outcome for outcome in record.outcomes}
    hashes = {name: hash(fact) for name, fact in facts.items()}
    other = [name for name, value in hashes.items() if before.get(name, value) != value]
    if other:
        raise DataError(f"query_id {record.id!r:.80} stands twice, with different {other[0]}")
    before.update(hashes)


def count_rows(paths: Sequence[Path]) -> int | None:
    """Rows in .jsonl files, bad and empty ones among them; None where that cannot be told."""
    total = 0
    for path in paths:
        if ".jsonl" not in path.suffixes[-2:]:
            return None
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                last = b"\n"
                while block := file.read(1 << 20):
                    total += block.count(b"\n")
                    last = block[-1:]
                total += last != b"\n"
        except (EOFError, OSError, zlib.error):
            return None
    return total


def _lines(file: IO[bytes]) -> Iterator[tuple[int, object]]:
    """Line numbers and parsed rows; a `DataError` stands for a row that cannot be parsed."""
    line = 0
    try:
        while raw := file.readline(MAX_ROW):
            line += 1
            if len(raw) == MAX_ROW and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_ROW)
                yield line, DataError(f"row longer than {MAX_ROW >> 20} MB")
            elif raw.strip():
                yield line, _parse(raw)
    except (EOFError, OSError, zlib.error) as error:
        yield line + 1, DataError(f"the file breaks off: {error}")


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return DataError(f"no JSON: {error}")


def _elements(file: IO[bytes]) -> Iterator[tuple[int, object]]:
    """The elements of a JSON list, or JSON values one after the other, with their lines."""
    try:
        raw = file.read(MAX_JSON + 1)
        if len(raw) > MAX_JSON:
            yield 1, DataError(f"larger than {MAX_JSON >> 30} GB: use .jsonl")
            return
        text = raw.decode("utf-8-sig")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        yield 1, DataError(f"the file cannot be read: {error}")
        return
    decoder = json.JSONDecoder()
    at, line, listed = 0, 1, False
    while True:
        start = at
        while at < len(text) and (text[at].isspace() or text[at] in ",]"):
            at += 1
        if not listed and at < len(text) and text[at] == "[" and not text[:at].strip():
            at, listed = at + 1, True
            continue
        line += text.count("\n", start, at)
        if at >= len(text):
            if listed and not text.rstrip().endswith("]"):
                yield line, DataError("the file breaks off: the list does not end")
            return
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield line, DataError(f"no JSON, nothing is read from here on: {error}")
            return
        yield line, row
        line += text.count("\n", at, end)
        at = end


def parse_row(row: object) -> Record:
    """One row of a data set; a `DataError` names the field, its value and what is allowed."""
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, Mapping):
        raise DataError(f"wanted an object, found {type(row).__name__}")
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise _wrong("query", query, "text that is not empty")
    text = mend(query)
    key = row.get("query_id")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    tokens = _count(row.get("input_token_length"), "input_token_length")
    if tokens is None:
        raise DataError("input_token_length: missing")
    return Record(
        id=_name(key, "query_id") or hashlib.sha256(text.encode()).hexdigest(),
        text=text,
        input_tokens=tokens,
        outcomes=_outcomes(row.get("outputs")),
        task=_name(row.get("task"), "task"),
        split=_name(row.get("split"), "split"),
    )


def _outcomes(raw: object) -> tuple[Outcome, ...]:
    if not isinstance(raw, list) or not raw:
        raise _wrong("outputs", raw, "a list of at least one object")
    outcomes: dict[str, Outcome] = {}
    for position, item in enumerate(raw):
        place = f"outputs[{position}]"
        if not isinstance(item, Mapping):
            raise _wrong(place, item, "an object")
        outcome = _outcome(item, place)
        if outcome.model in outcomes:
            raise DataError(f"{place}.model_name {outcome.model!r} stands twice")
        outcomes[outcome.model] = outcome
    graded = any(outcome.correctness is not None for outcome in outcomes.values())
    for position, item in enumerate([] if graded else raw):
        if _is_nan(item.get("correctness")):
            raise _wrong(f"outputs[{position}].correctness", math.nan, "a number in 0..1")
    return tuple(outcomes.values())


def _outcome(item: Mapping[str, Any], place: str) -> Outcome:
    """One answer; of one that failed or was cut off, the grade says nothing about the model."""
    model = _name(item.get("model_name"), f"{place}.model_name")
    if not model:
        raise DataError(f"{place}.model_name: missing")
    error = item.get("error")
    reason = (mend(error)[:100] if isinstance(error, str) else "error") if error else None
    if item.get("truncated") or item.get("finish_reason") == "length":
        reason = reason or "truncated"
    grade = _number(item.get("correctness"), f"{place}.correctness", most=1.0)
    prediction = item.get("prediction")
    return Outcome(
        model=model,
        correctness=None if reason else grade,
        output_tokens=_count(item.get("output_token_length"), f"{place}.output_token_length"),
        latency_s=_number(item.get("latency_s"), f"{place}.latency_s", most=MAX_SECONDS),
        error=reason,
        prediction=mend(prediction) if isinstance(prediction, str) else None,
        answer=None if reason else _answer(item.get("answer")),
    )


def _answer(value: object) -> str | None:
    """A final answer, compared for equality alone; whatever is no text is so by its JSON."""
    if value is None or _is_nan(value):
        return None
    return mend(value if isinstance(value, str) else json.dumps(value, sort_keys=True)) or None


def _is_nan(value: object) -> bool:
    """Tables write NaN for what is missing."""
    return isinstance(value, float) and math.isnan(value)


def _number(value: object, place: str, *, most: float) -> float | None:
    if value is None or _is_nan(value):
        return None
    if not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise _wrong(place, value, f"a number in 0..{most:g}")
    return float(value)


def _count(value: object, place: str) -> int | None:
    if value is None or _is_nan(value):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        in_range = 0 <= value <= MAX_TOKENS
        if in_range and value == int(value):
            return int(value)
    raise _wrong(place, value, f"a whole number in 0..{MAX_TOKENS}")


def _name(value: object, place: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_NAME or not mend(value).isprintable():
        raise _wrong(place, value, f"printable text of at most {MAX_NAME} characters")
    return mend(value)


def _wrong(place: str, value: object, allowed: str) -> DataError:
    found = "missing" if value is None else f"{value!r:.80}"
    return DataError(f"{place} = {found}: wanted {allowed}")
