"""What each model did in a run, for the table at the end and for JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aios_eccos.collect.questions import Question
from aios_eccos.collect.record import GradedReply
from aios_eccos.forecast.pricing import PriceState


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model's answers.

    Attributes:
        answers: whole answers; truncated, errors: missing outcomes.
        success: share of right ones among those that were graded; None of none.
        output_tokens: mean over whole and truncated answers.
        counted: answers whose tokens were counted here, as the provider gave none.
        cost_usd: at the prices of `price_state`; None where no price is known at all.
    """

    name: str
    answers: int
    success: float | None
    truncated: int
    errors: int
    input_tokens: int
    output_tokens: float | None
    reasoning_tokens: int
    cached_tokens: int
    counted: int
    latency_p50_s: float | None
    latency_p95_s: float | None
    cost_usd: float | None
    price_state: PriceState
    by_task: dict[str, float]


def report_on(
    name: str,
    questions: Sequence[Question],
    graded: Mapping[tuple[str, str], GradedReply],
    cost_usd: float | None,
    price_state: PriceState,
) -> ModelReport:
    mine = {q: graded[q.id, name] for q in questions if (q.id, name) in graded}
    replies = [g.reply for g in mine.values()]
    paid = [r for r in replies if r.tokens_from]
    times = sorted(r.latency_s for r in replies if r.status == "ok")
    grades: dict[str, list[bool]] = defaultdict(list)
    for question, g in mine.items():
        if g.correct is not None:
            grades[question.task].append(g.correct)
    return ModelReport(
        name=name,
        answers=len(times),
        success=_mean([right for task in grades.values() for right in task]),
        truncated=sum(r.status == "truncated" for r in replies),
        errors=sum(r.status == "error" for r in replies),
        input_tokens=sum(r.input_tokens for r in paid),
        output_tokens=_mean([r.output_tokens for r in paid]),
        reasoning_tokens=sum(r.reasoning_tokens for r in paid),
        cached_tokens=sum(r.cached_tokens for r in paid),
        counted=sum(r.tokens_from != "usage" for r in paid),
        latency_p50_s=_quantile(times, 0.5),
        latency_p95_s=_quantile(times, 0.95),
        cost_usd=cost_usd,
        price_state=price_state,
        by_task={task: sum(right) / len(right) for task, right in grades.items()},
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
