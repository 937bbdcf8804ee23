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
from aios_eccos.lab.importers import OnLeftOut, Row, checked, good_rows, read_json, tokens_of

#: Tasks whose references are numbers, and texts of Python literals.
NUMERIC, LITERAL = ("gsm", "math", "numersense", "aime"), ("crux",)

_QUOTED = re.compile(r'"answer"\s*:\s*"([^"]*)"')
_BARE = re.compile(r'"answer"\s*:\s*([^,\s]*)'), re.compile(r"answer\s*:\s*([^,\s]*)")
_BOX = re.compile(r"\\boxed{(\w+)}")
_FIRST_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read_zeroeval(path: Path, on_left_out: OnLeftOut = lambda error: None) -> Iterator[Row]:
    """Rows of a `result_dirs` folder, or of one task's folder in it; other files are left out."""
    files = sorted(path.glob("*/*.json")) or sorted(path.glob("*.json"))
    files = [file for file in files if not file.name.endswith("summary.json")]
    if not files:
        raise DataError(
            "wanted ZeroEval's result_dirs: a folder of TASK/MODEL.json", source=path.name
        )
    rows: dict[str, Row] = {}
    errors = []
    for file in files:
        try:
            for item in good_rows(
                read_json(file), _item, f"{file.parent.name}/{file.name}", on_left_out
            ):
                _add(rows, file.parent.name, file.stem, item)
        except DataError as error:
            errors.append(error)
    if not rows:
        raise errors[0]
    for folder in filter(Path.is_dir, sorted(path.glob("*/*"))):
        name = f"{folder.parent.name}/{folder.name}"
        errors.append(DataError("another run of its task", source=name))
    for left_out in errors:
        on_left_out(left_out)
    yield from map(checked, rows.values())


def _item(item: object) -> dict[str, Any]:
    found = item if isinstance(item, Mapping) else {}
    reference = found.get("answer", found.get("correct_answer"))
    question = found.get("question", found.get("problem"))
    identity, history = found.get("id", found.get("session_id")), found.get("chat_history")
    output, choices = found.get("output") or [None], found.get("choices") or []
    texts = isinstance(question, str) and isinstance(output, list) and isinstance(output[0], str)
    if not texts or reference is None or identity is None or not isinstance(choices, list):
        raise DataError("wanted ZeroEval's objects with id, question, output and answer")
    return {
        "id": identity,
        "question": question,
        "prompt": str(history[-1]) if isinstance(history, list) and history else question,
        "output": output[0],
        "reference": str(reference),
        "choices": [str(choice) for choice in choices],
    }


def _add(rows: dict[str, Row], task: str, model: str, item: Mapping[str, Any]) -> None:
    choices, output = item["choices"], item["output"]
    row = rows.setdefault(
        f"{task}/{item['id']}",
        {
            "query_id": f"{task}/{item['id']}",
            "task": task,
            "query": item["question"]
            + "".join(f"\n{chr(65 + i)}. {c}" for i, c in enumerate(choices)),
            "input_token_length": tokens_of(item["prompt"]),
            "outputs": [],
        },
    )
    right = grade_zeroeval(task, item["reference"], output, choices, model)
    length = tokens_of(output)
    row["outputs"].append(
        {"model_name": model, "correctness": right, "output_token_length": length}
    )


def grade_zeroeval(
    task: str, reference: str, output: str, choices: list[str] | None = None, model: str = ""
) -> bool | None:
    """Whether ZeroEval counts an answer as right; None where its reference cannot be read."""
    answer = _answer(output, model)
    if choices or re.fullmatch("[A-Z]", reference):
        place = choices.index(reference) if choices and reference in choices else None
        letter = reference if place is None else chr(65 + place)
        return answer is not None and (answer == letter or f"{letter})" in answer)
    if task.lower().startswith(LITERAL):
        literal = (answer or "").strip("'\"").replace("\n", "\\n")
        return answer is not None and literal == reference.strip("'\"")
    if task.lower().startswith(NUMERIC):
        number = _number(reference.rsplit("#", 1)[-1])
        return None if number is None else number == _number(answer or "")
    return grade(Question("", task, "", reference, "exact"), output)


def _answer(output: str, model: str) -> str | None:
    """The `answer` field of the first whole object, else of the first text that looks like one."""
    found = _first_object(output)
    if "answer" in found:
        return str(found["answer"])
    field = _QUOTED.search(output) or _BARE[0].search(output) or _BARE[1].search(output)
    # Llama 3.1 answers in a box, whatever it is asked for.
    boxed = "Llama-3.1" in model and "boxed" in output[-30:]
    field = field or (_BOX.search(output) if boxed else None)
    return field[1] if field else None


def _first_object(text: str) -> dict[str, Any]:
    depth = start = 0
    for brace in re.finditer(r"[{}]", text):
        start = start if depth else brace.start()
        depth = depth + 1 if brace[0] == "{" else max(depth - 1, 0)
        if not depth and brace.start() > start:
            try:
                found = json.loads(text[start : brace.end()].replace("\n", ""))
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}


def _number(text: str) -> float | None:
    bare = re.sub(r"[$,]", "", text).strip()
    fraction = parse_whole(bare) if "/" in bare else None
    found = _FIRST_NUMBER.search(bare)
    return float(fraction.value) if fraction else float(found[0]) if found else None
