"""Rows of other people's files, one at a time."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aios_eccos.errors import DataError

#: One answer, or a prompt, is longer than Python's csv allows by default.
_CSV_FIELD = 16 * 1024 * 1024


def read_table(path: Path) -> Iterator[object]:
    """Rows of a CSV, JSON, JSON-lines or parquet table, plain or gzipped; never of a pickle."""
    suffix = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if suffix in ("pkl", "pickle"):
        raise DataError(
            "a pickle can run code and is not read: write it as CSV, JSON or parquet with the "
            "program that you trust it with",
            source=path.name,
        )
    if suffix == "csv":
        yield from _csv_rows(path)
    elif suffix == "parquet":
        yield from _parquet_rows(path)
    elif suffix in ("json", "jsonl"):
        yield from read_json(path)
    else:
        raise DataError("wanted .csv, .json, .jsonl or .parquet", source=path.name)


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    before = csv.field_size_limit(_CSV_FIELD)
    try:
        with _open(path) as file:
            yield from csv.DictReader(file)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(error), source=path.name) from error
    finally:
        csv.field_size_limit(before)


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError("parquet needs `pip install pyarrow`", source=path.name) from error
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise DataError(str(error), source=path.name) from error


def read_json(path: Path) -> Iterator[object]:
    """The elements of a JSON list, or (.jsonl) one JSON value a line, or the line's error."""
    try:
        with _open(path) as file:
            if ".jsonl" in path.suffixes:
                yield from map(_parsed, filter(str.strip, file))
                return
            whole = json.load(file)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", source=path.name) from error
    if not isinstance(whole, list):
        raise DataError(f"wanted a JSON list, found {type(whole).__name__}", source=path.name)
    yield from whole


def _parsed(line: str) -> object:
    """The value of a line; an error that stands for a line that is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return DataError(f"no JSON: {error}")


def _open(path: Path) -> Any:
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig", newline="")
