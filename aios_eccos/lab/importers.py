"""Public data sets to QAServe rows, so that others can reproduce what is measured here.

- QAServe / OmniRouteEval: a JSON list, as AIOS's SmartRouting bootstraps from.
- RouterBench: one row a prompt, one column of scores per model (CSV, JSON, parquet; never pickle).
- ZeroEval: see `lab.zeroeval`.

Every importer yields rows that `history.dataset.parse_row` takes. Rows and files of another shape
are left out and named; where nothing else is there, the first of them is the error. Token counts
that a format lacks are characters / 4, rounded up.
"""

from __future__ import annotations

import ast
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
from aios_eccos.lab.tables import read_json, read_table

Row: TypeAlias = dict[str, Any]
#: Told of each file, and of the first row of a file, that is left out.
Odd: TypeAlias = Callable[[DataError], None]
_Found = TypeVar("_Found")

#: Characters a token, where no count is recorded.
CHARACTERS_PER_TOKEN = 4
#: Shares of right answers outside of which something was misread, and answers that can show it.
PLAUSIBLE, ENOUGH = (0.05, 0.99), 100
#: RouterBench's columns that are no model's.
_NO_MODEL = ("sample_id", "prompt", "eval_name", "oracle_model_to_route_to", "")


def read_qaserve(path: Path, odd: Odd = lambda error: None) -> Iterator[Row]:
    """Rows of QAServe / OmniRouteEval JSON lists (.json, .jsonl), a file or a folder of them.

    Answers themselves are left out.

    Raises:
        DataError: no row with query, input_token_length and outputs in it.
    """
    return _of_files(path, lambda file: good_rows(read_json(file), _qaserve, file.name, odd), odd)


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


def read_routerbench(path: Path, odd: Odd = lambda error: None) -> Iterator[Row]:
    """Rows of RouterBench tables: sample_id, prompt, eval_name, a column of scores per model.

    Lengths come from the models' responses (`MODEL|model_response`); without them no row can be
    priced, which is an error.

    Args:
        path: a table, or a folder of them.

    Raises:
        DataError: a pickle, another format, or a table without models or responses.
    """
    return _of_files(
        path, lambda file: good_rows(read_table(file), _routerbench, file.name, odd), odd
    )


def _routerbench(row: Mapping[str, Any]) -> Row:
    if not {"prompt", "eval_name"} <= set(row):
        raise DataError(
            "no RouterBench table: wanted the columns sample_id, prompt, eval_name and one a "
            f"model, found {', '.join(list(row)[:6])}"
        )
    models = [
        k for k in row if k not in _NO_MODEL and "|" not in k and not re.match(r"Unnamed: \d", k)
    ]
    if not models or not any(f"{model}|model_response" in row for model in models):
        raise DataError(
            "no model has a column of scores and one of responses (NAME|model_response)"
        )
    prompt = _text(row["prompt"])
    task = str(row["eval_name"])
    outputs = [
        {
            "model_name": model,
            "correctness": _score(row[model], model),
            "output_token_length": tokens_of(_text(row.get(f"{model}|model_response"))),
        }
        for model in models
    ]
    return checked(
        {
            **({"query_id": str(row["sample_id"])} if row.get("sample_id") else {}),
            "task": task,
            "query": prompt,
            "input_token_length": tokens_of(prompt),
            "outputs": outputs,
        }
    )


def good_rows(
    items: Iterable[Any], read: Callable[[Any], _Found], name: str, odd: Odd
) -> Iterator[_Found]:
    """What `read` makes of the items; those that it refuses are left out and told of.

    Raises:
        DataError: it refuses all of them.
    """
    first, refused, good = None, 0, 0
    for number, item in enumerate(items, start=1):
        try:
            found = read(item)
        except DataError as error:
            refused += 1
            first = first or DataError(error.reason, source=name, line=number)
        else:
            good += 1
            yield found
    if first is not None and not good:
        raise first
    if first is not None:
        odd(DataError(f"{first.reason} ({refused} rows left out)", source=name, line=first.line))


def _of_files(path: Path, read: Callable[[Path], Iterator[Row]], odd: Odd) -> Iterator[Row]:
    """The rows of a file, or of all files of a folder that can be read."""
    if not path.is_dir():
        yield from read(path)
        return
    last, rows = DataError("holds no files", source=path.name), 0
    for file in sorted(file for file in path.iterdir() if file.is_file()):
        try:
            for row in read(file):
                rows += 1
                yield row
        except DataError as error:
            last = error
            odd(error)
    if not rows:
        raise last


def plausible(rows: Iterable[Row], *, by_task: bool) -> Iterator[Row]:
    """The rows; at their end, an error if hardly any or nearly all answers are right.

    Args:
        by_task: look at each task alone, as its answers were graded here.

    Raises:
        DataError: names the task and the share.
    """
    seen: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        grades = [output["correctness"] for output in row["outputs"]]
        seen[str(row.get("task", "")) if by_task else ""] += [g for g in grades if g is not None]
        yield row
    for task, grades in seen.items():
        share = sum(grades) / max(len(grades), 1)
        if len(grades) >= ENOUGH and not PLAUSIBLE[0] <= share <= PLAUSIBLE[1]:
            place = f" in {task}" if task else ""
            raise DataError(
                f"{share:.1%} of {len(grades)} answers are right{place}: references or scores seem "
                "misread, nothing is written; --accept writes it all the same"
            )


def write_rows(rows: Iterable[Row], target: Path) -> int:
    """Write one row a line (gzipped for .gz), whole or not at all; returns how many.

    Raises:
        DataError: there are none, or the file cannot be written.
    """
    count = 0
    try:
        opened = gzip.open if target.suffix == ".gz" else open
        with replacing(target) as part, opened(part, "wt", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
            if not count:
                raise DataError("holds no rows", source=target.name)
    except OSError as error:
        raise DataError(error.strerror or str(error), source=str(target)) from error
    return count


def checked(row: Row, source: str = "", line: int = 0) -> Row:
    """The row, if it is one that `ingest` would take.

    Raises:
        DataError: it is not.
    """
    try:
        parse_row(row)
    except DataError as error:
        raise DataError(error.reason, source=source, line=line) from error
    return row


def tokens_of(text: str) -> int | None:
    """A guess at the tokens of a text; None of no text, whose count is not known."""
    return -(-len(text) // CHARACTERS_PER_TOKEN) or None


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
