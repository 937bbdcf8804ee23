"""Public data sets (QAServe, RouterBench; ZeroEval in `lab.zeroeval`) to QAServe rows.

Every row is one that `history.dataset.parse_row` takes. Rows and files of another shape are left
out and named; if nothing else is there, the first of them is the error.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from aios_eccos.errors import DataError
from aios_eccos.files import replacing
from aios_eccos.history.dataset import parse_row
from aios_eccos.providers.tokens import estimated

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


Row: TypeAlias = dict[str, Any]
#: Called with each file, and with the first row of a file, that is left out.
OnLeftOut: TypeAlias = Callable[[DataError], None]
_Value = TypeVar("_Value")

#: Shares of right answers outside of which something was misread, and answers that can show it.
PLAUSIBLE, ENOUGH = (0.05, 0.99), 100
#: RouterBench's columns that are no model's.
_NO_MODEL = re.compile(
    r"(?:sample_id|prompt|eval_name|oracle_model_to_route_to|Unnamed: \d+|.*\|.*)?"
)


def read_qaserve(path: Path, on_left_out: OnLeftOut = lambda error: None) -> Iterator[Row]:
    """Rows of a QAServe / OmniRouteEval file (.json, .jsonl), or of a folder of them."""
    return _read(path, read_json, _qaserve, on_left_out)


def read_routerbench(path: Path, on_left_out: OnLeftOut = lambda error: None) -> Iterator[Row]:
    """Rows of a RouterBench table, or of a folder of them.

    Lengths come from the responses (`MODEL|model_response`); without any no row can be priced,
    which is an error.
    """
    return _read(path, read_table, _routerbench, on_left_out)


def _read(
    path: Path,
    rows_of: Callable[[Path], Iterable[Any]],
    read: Callable[[Any], Row],
    on_left_out: OnLeftOut,
) -> Iterator[Row]:
    """The rows of a file, or of all files of a folder that can be read."""
    if not path.is_dir():
        yield from good_rows(rows_of(path), read, path.name, on_left_out)
        return
    errors, empty = [DataError("holds no files", source=path.name)], True
    for file in sorted(filter(Path.is_file, path.iterdir())):
        try:
            for row in good_rows(rows_of(file), read, file.name, on_left_out):
                empty = False
                yield row
        except DataError as error:
            errors.append(error)
            on_left_out(error)
    if empty:
        raise errors[-1]


def good_rows(
    items: Iterable[Any], read: Callable[[Any], _Value], name: str, on_left_out: OnLeftOut
) -> Iterator[_Value]:
    """What `read` makes of the items; those that it refuses are left out, all of them an error."""
    refused, number = list[DataError](), 0
    for number, item in enumerate(items, start=1):
        try:
            if isinstance(item, DataError):
                raise item
            found = read(item)
        except DataError as error:
            refused.append(DataError(error.reason, source=name, line=number))
        else:
            yield found
    if refused and len(refused) == number:
        raise refused[0]
    if refused:
        reason = f"{refused[0].reason} ({len(refused)} rows left out)"
        on_left_out(DataError(reason, source=name, line=refused[0].line))


def _qaserve(row: object) -> Row:
    if not isinstance(row, Mapping) or not {"query", "outputs"} <= set(row):
        raise DataError("no QAServe row: wanted query, input_token_length and outputs")
    if not isinstance(row["outputs"], list):
        raise DataError("outputs: wanted a list")
    found: Row = {key: row[key] for key in ("query_id", "task", "split") if key in row}
    found["query"] = row["query"]
    found["input_token_length"] = row.get("input_token_length", tokens_of(str(row["query"])))
    found["outputs"] = [
        # NaN stands for what is missing; JSON has no such number.
        {k: None if v != v else v for k, v in output.items() if k != "prediction"}
        if isinstance(output, Mapping)
        else output
        for output in row["outputs"]
    ]
    return checked(found)


def _routerbench(row: object) -> Row:
    if not isinstance(row, Mapping):
        raise DataError("wanted one object a row")
    if not {"prompt", "eval_name"} <= set(row):
        raise DataError(
            "no RouterBench table: wanted the columns sample_id, prompt, eval_name and one a "
            f"model, found {', '.join(list(row)[:6])}"
        )
    models = [name for name in row if not _NO_MODEL.fullmatch(name)]
    responses = {name: f"{name}|model_response" for name in models}
    if not any(column in row for column in responses.values()):
        raise DataError(
            "no model has a column of scores and one of responses (NAME|model_response)"
        )
    prompt = _text(row["prompt"])
    found: Row = {"query_id": str(row["sample_id"])} if row.get("sample_id") else {}
    found |= {"task": str(row["eval_name"]), "query": prompt}
    found["input_token_length"] = tokens_of(prompt)
    found["outputs"] = [
        {
            "model_name": name,
            "correctness": _score(row[name], name),
            "output_token_length": tokens_of(_text(row.get(responses[name]))),
        }
        for name in models
    ]
    return checked(found)


def _score(value: object, model: str) -> float | None:
    try:
        score = None if value in (None, "") else float(str(value))
    except ValueError as error:
        raise DataError(f"{model} = {value!r:.40}: no score") from error
    if score is None or score != score:
        return None
    if not 0 <= score <= 1:
        raise DataError(f"{model} = {score:g}: wanted 0 to 1")
    return score


def _text(value: object) -> str:
    """Prompts and responses are lists of texts, or Python's notation of one; a turn a paragraph."""
    if isinstance(value, str) and value[:1] == "[":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return str(value)
    return "\n\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


def tokens_of(text: str) -> int | None:
    """A guess at the tokens of a text; None of no text, whose count is not known."""
    return estimated(text) or None


def checked(row: Row) -> Row:
    """The row, if it is one that `ingest` would take, else DataError."""
    parse_row(row)
    return row


def refuse_implausible(rows: Iterable[Row], *, by_task: bool) -> Iterator[Row]:
    """The rows; at their end DataError if hardly any or nearly all answers are right.

    Args:
        by_task: look at each task alone, as its answers were graded here.
    """
    grades: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        found = [output["correctness"] for output in row["outputs"]]
        grades[f" in {row['task']}" if by_task else ""] += [g for g in found if g is not None]
        yield row
    for place, found in grades.items():
        share = sum(found) / max(len(found), 1)
        if len(found) >= ENOUGH and not PLAUSIBLE[0] <= share <= PLAUSIBLE[1]:
            raise DataError(
                f"{share:.1%} of {len(found)} answers are right{place}: references or scores seem "
                "misread, nothing is written; --accept writes it all the same"
            )


def write_rows(rows: Iterable[Row], target: Path) -> int:
    """Write one row a line (gzipped for .gz), whole or not at all; returns how many."""
    count = 0
    try:
        opened = gzip.open if target.suffix == ".gz" else open
        with replacing(target, mode=0o644) as part, opened(part, "wt", encoding="utf-8") as file:
            for count, row in enumerate(rows, start=1):  # noqa: B007
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if not count:
                raise DataError("holds no rows", source=target.name)
    except OSError as error:
        raise DataError(error.strerror or str(error), source=str(target)) from error
    return count
