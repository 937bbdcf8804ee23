"""Three models of different ability: replay servers that answer by the question's grade."""

from __future__ import annotations

from aios_eccos.collect.prompts import prompt_for
from aios_eccos.collect.questions import Question
from aios_eccos.records import Outcome, Record

#: Levels of the shipped set that each model answers rightly.
ABILITY = {
    "weak-1b": ("easy",),
    "mid-8b": ("easy", "medium"),
    "strong-70b": ("easy", "medium", "hard"),
}
TOKENS = {"weak-1b": 40, "mid-8b": 60, "strong-70b": 80}
#: Dollars per million input and output tokens.
PRICES = {"weak-1b": (0.1, 0.2), "mid-8b": (0.5, 1.0), "strong-70b": (5.0, 10.0)}


def right(question: Question) -> str:
    return f"Let me think.\nAnswer: {question.answer}"


def wrong(question: Question) -> str:
    other = "AB"[question.answer == "A"] if question.choices else "12345678"
    return f"Let me think.\nAnswer: {other}"


def recorded(questions: list[Question]) -> list[Record]:
    """What each model answers to each question's prompt."""
    return [
        Record(
            id=q.id,
            text=prompt_for(q),
            input_tokens=50,
            outcomes=tuple(
                Outcome(
                    name,
                    output_tokens=TOKENS[name],
                    prediction=right(q) if q.task.endswith(levels) else wrong(q),
                )
                for name, levels in ABILITY.items()
            ),
        )
        for q in questions
    ]


def write_models(path, servers, prices=PRICES):
    """A --models-file for these servers."""
    lines = []
    for name in servers.models:
        lines.append(f"- {{name: {name}, backend: vllm, hostname: {servers.url(name)}")
        if name in prices:
            read, write = (f"{p / 1e6:.10f}" for p in prices[name])
            lines[-1] += f", input_cost_per_token: {read}, output_cost_per_token: {write}"
        lines[-1] += "}"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
