"""Public data sets to QAServe rows, so that others can reproduce what is measured here.

- QAServe / OmniRouteEval: a JSON list, as AIOS's SmartRouting bootstraps from.
- ZeroEval `result_dirs`: TASK/MODEL.json, a list of answers with their reference.
- RouterBench: one row a prompt, one column of scores per model (CSV, JSON, parquet; never pickle).

Every importer yields rows that `history.dataset.parse_row` takes, and refuses a file that is not of
its format with the reason. Token counts that a format lacks are characters / 4, rounded up.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from aios_eccos import files
from aios_eccos.errors import DataError
from aios_eccos.history.dataset import parse_row
from aios_eccos.lab.tables import read_json, read_table

Row: TypeAlias = dict[str, Any]
#: Grades an answer: (task, reference, answer as the model wrote it).
Grade: TypeAlias = Callable[[str, str, str], bool]

#: Characters a token, where no count is recorded.
CHARACTERS_PER_TOKEN = 4
#: RouterBench's columns that are no model's.
_NO_MODEL = ("sample_id", "prompt", "eval_name", "oracle_model_to_route_to", "")


def read_qaserve(path: Path) -> Iterator[Row]:
    """Rows of a QAServe / OmniRouteEval JSON list (or .jsonl); answers themselves are left out.

    Raises:
        DataError: not JSON, no list, or a row without query, input_token_length and outputs.
    """
    for number, row in enumerate(read_json(path), start=1):
        if not isinstance(row, Mapping) or not {"query", "outputs"} <= set(row):
            raise DataError(
                "no QAServe row: wanted query, input_token_length and outputs",
                source=path.name,
                line=number,
            )
        found: Row = {key: row[key] for key in ("query_id", "task", "split") if key in row}
        found["query"] = row["query"]
        found["input_token_length"] = row.get("input_token_length", _tokens(str(row["query"])))
        found["outputs"] = [
            {k: v for k, v in output.items() if k != "prediction"}
            if isinstance(output, Mapping)
            else output
            for output in _list(row["outputs"], path, number)
        ]
        yield _checked(found, path, number)


def read_zeroeval(path: Path, grade: Grade) -> Iterator[Row]:
    """Rows of a ZeroEval `result_dirs` folder, or of one task's folder in it.

    Args:
        grade: judges each answer against its reference.

    Raises:
        DataError: no folder of TASK/MODEL.json files, or a file of another shape.
    """
    files = sorted(path.glob("*/*.json")) or sorted(path.glob("*.json"))
    files = [file for file in files if not file.name.endswith(".summary.json")]
    if not path.is_dir() or not files:
        raise DataError(
            "wanted ZeroEval's result_dirs: a folder of TASK/MODEL.json", source=path.name
        )
    rows: dict[tuple[str, str], Row] = {}
    for file in files:
        task, model = file.parent.name, file.stem
        for number, item in enumerate(read_json(file), start=1):
            answer = _zeroeval_item(item, file, number)
            key = (task, answer["id"])
            row = rows.setdefault(
                key,
                {
                    "query_id": f"{task}/{answer['id']}",
                    "task": task,
                    "query": answer["question"],
                    "input_token_length": _tokens(answer["prompt"]),
                    "outputs": [],
                },
            )
            row["outputs"].append(
                {
                    "model_name": model,
                    "correctness": grade(task, answer["reference"], answer["output"]),
                    "output_token_length": _tokens(answer["output"]),
                }
            )
    for number, row in enumerate(rows.values(), start=1):
        yield _checked(row, path, number)


def _zeroeval_item(item: object, file: Path, number: int) -> dict[str, str]:
    wanted = "wanted ZeroEval's objects with id, question, output and answer"
    if not isinstance(item, Mapping):
        raise DataError(wanted, source=file.name, line=number)
    reference = item.get("answer", item.get("correct_answer"))
    output, identity = item.get("output"), item.get("id", item.get("session_id"))
    question = item.get("question")
    if (
        not isinstance(question, str)
        or not isinstance(output, list)
        or not output
        or reference is None
        or identity is None
    ):
        raise DataError(wanted, source=file.name, line=number)
    history = item.get("chat_history")
    prompt = str(history[-1]) if isinstance(history, list) and history else question
    choices = item.get("choices")
    if isinstance(choices, list):
        question += "".join(f"\n{chr(65 + i)}. {text}" for i, text in enumerate(choices))
    return {
        "id": str(identity),
        "question": question,
        "prompt": prompt,
        "output": str(output[0]),
        "reference": str(reference),
    }


def read_routerbench(path: Path) -> Iterator[Row]:
    """Rows of a RouterBench table: sample_id, prompt, eval_name, a column of scores per model.

    Lengths come from the models' responses (`MODEL|model_response`); without them no row can be
    priced, which is an error.

    Raises:
        DataError: a pickle, another format, or a table without models or responses.
    """
    for number, row in enumerate(read_table(path), start=1):
        if not {"prompt", "eval_name"} <= set(row):
            raise DataError(
                "no RouterBench table: wanted the columns sample_id, prompt, eval_name and one a "
                f"model, found {', '.join(list(row)[:6])}",
                source=path.name,
                line=number,
            )
        models = [k for k in row if k not in _NO_MODEL and "|" not in k and not k.startswith("Un")]
        if not models or not any(f"{model}|model_response" in row for model in models):
            raise DataError(
                "no model has a column of scores and one of responses (NAME|model_response)",
                source=path.name,
                line=number,
            )
        prompt = _routerbench_text(row["prompt"])
        task = str(row["eval_name"])
        outputs = []
        for model in models:
            score = _score(row[model], path, number, model)
            response = row.get(f"{model}|model_response")
            outputs.append(
                {
                    "model_name": model,
                    "correctness": score,
                    "output_token_length": _tokens(_routerbench_text(response)),
                }
            )
        found = {
            "query_id": str(row.get("sample_id") or f"{task}.{number}"),
            "task": task,
            "query": prompt,
            "input_token_length": _tokens(prompt),
            "outputs": outputs,
        }
        yield _checked(found, path, number)


def write_rows(rows: Iterable[Row], target: Path) -> int:
    """Write one row a line (gzipped for .gz), whole or not at all; returns how many.

    Raises:
        DataError: there are none, or the file cannot be written.
    """
    count = 0
    opened = gzip.open if target.suffix == ".gz" else open
    try:
        with files.replacing(target) as part:
            with opened(part, "wt", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            if not count:
                raise DataError("holds no rows", source=target.name)
    except OSError as error:
        raise DataError(error.strerror or str(error), source=str(target)) from error
    return count


def _list(value: object, path: Path, number: int) -> list[Any]:
    if not isinstance(value, list):
        raise DataError("outputs: wanted a list", source=path.name, line=number)
    return value


def _checked(row: Row, path: Path, number: int) -> Row:
    """The row, if it is one that `ingest` would take."""
    try:
        parse_row(row)
    except DataError as error:
        raise DataError(error.reason, source=path.name, line=number) from error
    return row


def _score(value: object, path: Path, number: int, model: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        score = float(str(value))
    except ValueError as error:
        raise DataError(
            f"{model} = {value!r:.40}: no score", source=path.name, line=number
        ) from error
    if not 0 <= score <= 1:
        raise DataError(f"{model} = {score:g}: wanted 0 to 1", source=path.name, line=number)
    return score


def _routerbench_text(value: object) -> str:
    """Prompts and responses are stored as the text of a list of one string, or as they are."""
    text = value[0] if isinstance(value, list) and value else value
    found = re.fullmatch(r"\[(['\"])(.*)\1\]", str(text or ""), re.DOTALL)
    return found[2].replace("\\n", "\n").replace("\\'", "'") if found else str(text or "")


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)
