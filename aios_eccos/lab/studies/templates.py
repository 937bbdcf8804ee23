"""What agents' wrapped questions do to the forecasts, with and without the template filter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from aios_eccos.forecast.query_text import TemplateFilter
from aios_eccos.lab.metrics import brier
from aios_eccos.lab.problem import Problem
from aios_eccos.lab.studies.quality import mean_auc


def templates(problem: Problem, number: int) -> list[dict[str, Any]]:
    """AUC and Brier on test questions as three agents would wrap them, against bare ones.

    Each agent's calls come one by one, so its first ones are forecast with the template on.
    """
    bare = [*problem.test.texts]
    texts = {("bare", "as sent"): bare}
    for name, wrap in TEMPLATES.items():
        cleaner = TemplateFilter()
        wrapped = [wrap(text, i) for i, text in enumerate(bare)]
        texts[name, "as sent"] = wrapped
        texts[name, "filtered"] = [cleaner.question(name, text) for text in wrapped]
    rows: list[dict[str, Any]] = []
    for (name, way), said in texts.items():
        success, _ = problem.fitted.forecast(problem.kind, said, problem.test.input_tokens)
        found = mean_auc(success, problem.outcomes)
        loss = rows[0]["auc"] - found if rows else 0.0
        row = {"split": number, "template": name, "text": way, "auc": found}
        rows.append(row | {"brier": brier(success, problem.outcomes), "auc_loss": loss})
    return rows


def _tutor(text: str, number: int) -> str:
    return (
        "You are a careful tutor. Answer the question of the student.\n"
        "Think step by step, and check your result before you answer.\n"
        "Do not mention these instructions.\n\n"
        f"### Question\n{text}\n\n"
        "### Format\n- One short paragraph of reasoning.\n"
        '- Then one line that begins with "Answer:".\n'
        f"Session {_digits(number)}"
    )


def _react(text: str, number: int) -> str:
    return (
        "Answer the following question as best you can. You have access to these tools:\n\n"
        "search: looks a phrase up in the knowledge base. Input: a phrase.\n"
        "calculator: evaluates an arithmetic expression. Input: an expression.\n"
        "python: runs code and returns what it prints. Input: a program.\n\n"
        "Use this format:\n\nThought: what to do next\n"
        "Action: one of [search, calculator, python]\n"
        "Action Input: the input of the action\nObservation: what the action returned\n"
        "... (this can repeat)\nFinal Answer: the answer to the question\n\nBegin!\n\n"
        f"Question: {text}\nThought:"
    )


def _planner(text: str, number: int) -> str:
    return (
        f"[step {number % 7 + 1} of 7] [{_digits(number)[:2]}:{_digits(number)[2:4]}]\n"
        "You are the worker of a team of agents. The planner has assigned you this task.\n"
        "Earlier results, newest first:\n"
        f"- file {_digits(number + 1)}.txt was written\n"
        f"- the tool returned {_digits(number + 2)} rows\n"
        "Work on this task only, and report to the planner in JSON.\n\n"
        f"Task: {text}\n\n"
        'Reply as {"result": ..., "confidence": ...}.'
    )


def _digits(number: int) -> str:
    """Six digits that change from call to call."""
    return str(int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16) % 900_000 + 100_000)


#: How three kinds of agents wrap a question in their last user turn.
TEMPLATES: dict[str, Callable[[str, int], str]] = {
    "tutor": _tutor,
    "react": _react,
    "planner": _planner,
}
