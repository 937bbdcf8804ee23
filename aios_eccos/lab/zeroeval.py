"""ZeroEval's `result_dirs` as QAServe rows, graded by ZeroEval's own rules.

They are not those of `collect.grade`: of the answers to GSM8K and MATH the first number counts, of
CRUXEval the text. So the accuracies that ZeroEval publishes come out, model by model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aios_eccos.collect.grade import grade
from aios_eccos.collect.numbers import parse_whole
from aios_eccos.collect.questions import Question
from aios_eccos.errors import DataError
from aios_eccos.lab.importers import Odd, Row, checked, good_rows, tokens_of
from aios_eccos.lab.tables import read_json

#: Tasks whose references are numbers, and texts of Python literals.
NUMERIC, LITERAL = ("gsm", "math", "numersense", "aime"), ("crux",)

_FIELD = [
    re.compile(pattern)
    for pattern in (
        r'"answer"\s*:\s*"([^"]*)"',
        r'"answer"\s*:\s*([^,\s]*)',
        r"answer\s*:\s*([^,\s]*)",
    )
]
_BOX_AT_THE_END = re.compile(r"\\boxed{(\w+)}")
_FIRST_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_zeroeval(path: Path, odd: Odd = lambda error: None) -> Iterator[Row]:
    """Rows of a `result_dirs` folder, or of one task's folder in it; other files are odd.

    Raises:
        DataError: no folder of TASK/MODEL.json files, or none of them holds ZeroEval's answers.
    """
    files = sorted(path.glob("*/*.json")) or sorted(path.glob("*.json"))
    files = [file for file in files if not file.name.endswith("summary.json")]
    if not path.is_dir() or not files:
        raise DataError(
            "wanted ZeroEval's result_dirs: a folder of TASK/MODEL.json", source=path.name
        )
    rows: dict[tuple[str, str], Row] = {}
    last: DataError | None = None
    for file in files:
        try:
            for item in good_rows(read_json(file), _item, f"{file.parent.name}/{file.name}", odd):
                _add(rows, file, item)
        except DataError as error:
            last = error
            odd(error)
    for folder in sorted(path.glob("*/*/")):
        if folder.is_dir():
            odd(DataError("another run of its task", source=f"{folder.parent.name}/{folder.name}"))
    if not rows and last is not None:
        raise last
    for number, row in enumerate(rows.values(), start=1):
        yield checked(row, path.name, number)


def _add(rows: dict[tuple[str, str], Row], file: Path, item: Mapping[str, Any]) -> None:
    task, question = file.parent.name, item["question"]
    row = rows.setdefault(
        (task, item["id"]),
        {
            "query_id": f"{task}/{item['id']}",
            "task": task,
            "query": question
            + "".join(f"\n{chr(65 + i)}. {c}" for i, c in enumerate(item["choices"])),
            "input_token_length": tokens_of(item["prompt"]),
            "outputs": [],
        },
    )
    row["outputs"].append(
        {
            "model_name": file.stem,
            "correctness": grade_zeroeval(
                task, item["reference"], item["output"], item["choices"], file.stem
            ),
            "output_token_length": tokens_of(item["output"]),
        }
    )


def _item(item: object) -> dict[str, Any]:
    found = item if isinstance(item, Mapping) else {}
    reference = found.get("answer", found.get("correct_answer"))
    output, identity = found.get("output"), found.get("id", found.get("session_id"))
    question = found.get("question", found.get("problem"))
    said = output[0] if isinstance(output, list) and output else None
    known = isinstance(question, str) and isinstance(said, str)
    if not known or reference is None or identity is None:
        raise DataError("wanted ZeroEval's objects with id, question, output and answer")
    history, choices = found.get("chat_history"), found.get("choices")
    return {
        "id": str(identity),
        "question": question,
        "prompt": str(history[-1]) if isinstance(history, list) and history else question,
        "output": said,
        "reference": str(reference),
        "choices": [str(choice) for choice in choices] if isinstance(choices, list) else [],
    }


def grade_zeroeval(
    task: str, reference: str, output: str, choices: list[str] | None = None, model: str = ""
) -> bool | None:
    """Whether ZeroEval counts an answer as right; None where its reference cannot be read."""
    said = _answer(output, model)
    if choices or re.fullmatch("[A-Z]", reference):
        letters = {text: chr(65 + place) for place, text in reversed([*enumerate(choices or [])])}
        letter = letters.get(reference, reference)
        return said is not None and (said == letter or f"{letter})" in said)
    if task.lower().startswith(LITERAL):
        wanted, got = reference.strip("'\""), (said or "").strip("'\"").replace("\n", "\\n")
        return said is not None and got == wanted
    if task.lower().startswith(NUMERIC):
        number = _number(reference.rsplit("#", 1)[-1])
        return None if number is None else number == _number(said or "")
    return grade(Question("", task, "", reference, "exact"), output)


def _answer(output: str, model: str) -> str | None:
    """The `answer` field of the first whole object, else of the first text that looks like one."""
    found = _first_object(output)
    if found is not None and "answer" in found:
        return str(found["answer"])
    for field in _FIELD:
        match = field.search(output)
        if match:
            return match[1]
    boxed = _BOX_AT_THE_END.search(output)
    return boxed[1] if boxed and "Llama-3.1" in model and "boxed" in output[-30:] else None


def _first_object(text: str) -> dict[str, Any] | None:
    depth, start = 0, 0
    for brace in re.finditer(r"[{}]", text):
        if brace[0] == "{":
            start = start if depth else brace.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                try:
                    found = json.loads(text[start : brace.end()].replace("\n", ""))
                except (ValueError, RecursionError):
                    return None
                return found if isinstance(found, dict) else None
    return None


def _number(text: str) -> float | None:
    bare = re.sub(r"[$,]", "", text).strip()
    fraction = parse_whole(bare) if "/" in bare else None
    found = _FIRST_NUMBER.search(bare)
    if fraction is not None:
        return float(fraction.value)
    return float(found[0]) if found else None
