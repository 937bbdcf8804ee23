"""One run of collect: what it opens, from the plan to the finished data set, and what it says."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aios_eccos.collect.budget import Budget
from aios_eccos.collect.client import Client, Endpoint, Patience
from aios_eccos.collect.collector import Collector, Ending, Progress
from aios_eccos.collect.journal import Journal
from aios_eccos.collect.questions import Question
from aios_eccos.collect.reply import RowFile
from aios_eccos.collect.sandbox import Sandbox
from aios_eccos.collect.slots import Slots
from aios_eccos.metrics import mean_of
from aios_eccos.workload.store import SlotStore


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model's answers: whole ones, and missing outcomes (truncated, errors).

    `success` is among those that were graded, `output_tokens` a mean over whole and truncated ones;
    `counted`: whose tokens were counted here, as the provider gave none.
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
    price_state: Literal["priced", "free", "unknown"]
    by_task: dict[str, float]


def _report_on(endpoint: Endpoint, collector: Collector, money: bool) -> ModelReport:
    name, graded = endpoint.name, collector.graded
    mine = [(q, graded[q.id, name]) for q in collector.questions if (q.id, name) in graded]
    replies = [g.reply for _, g in mine]
    paid = [r for r in replies if r.tokens_from]
    times = sorted(r.latency_s for r in replies if r.status == "ok")
    grades: dict[str, list[bool]] = defaultdict(list)
    for question, g in mine:
        if g.correct is not None:
            grades[question.task].append(g.correct)
    return ModelReport(
        name=name,
        answers=len(times),
        success=mean_of([right for task in grades.values() for right in task]),
        truncated=sum(r.status == "truncated" for r in replies),
        errors=sum(r.status == "error" for r in replies),
        input_tokens=sum(r.input_tokens for r in paid),
        output_tokens=mean_of([r.output_tokens for r in paid]),
        reasoning_tokens=sum(r.reasoning_tokens for r in paid),
        cached_tokens=sum(r.cached_tokens for r in paid),
        counted=sum(r.tokens_from != "usage" for r in paid),
        latency_p50_s=_quantile(times, 0.5),
        latency_p95_s=_quantile(times, 0.95),
        cost_usd=collector.cost_by_model.get(name, 0.0) if money else None,
        price_state=endpoint.model.price_state,
        by_task={task: sum(right) / len(right) for task, right in grades.items()},
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


#: Requests at once for one model, where neither the plan nor the model's own limit says less.
DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What to collect into `out`, a .jsonl file; the journal lies beside it.

    `max_cost` is in dollars over resumed runs too, `concurrency` by model; None = no limit, and the
    model's own limit, at most `DEFAULT_CONCURRENCY`.
    """

    questions: Sequence[Question]
    endpoints: Sequence[Endpoint]
    judge: Endpoint | None
    out: Path
    max_cost: float | None = None
    max_tokens: int = 4096
    concurrency: int | None = None
    patience: Patience = field(default_factory=Patience)

    @property
    def journal(self) -> Path:
        return self.out.with_name(self.out.name + ".journal")

    @property
    def data_hash(self) -> str:
        return hashlib.sha256(repr(list(self.questions)).encode()).hexdigest()[:16]

    @property
    def asked(self) -> list[Endpoint]:
        """The models and the judge, each once."""
        named = {endpoint.name: endpoint for endpoint in self.endpoints}
        if self.judge is not None:
            named.setdefault(self.judge.name, self.judge)
        return list(named.values())


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run; `complete` rows have every model, `held` answers are of earlier runs."""

    ending: Ending
    held: int
    records: int
    complete: int
    cost_usd: float | None
    models: tuple[ModelReport, ...]
    given_up: dict[str, str]


def run(
    plan: Plan,
    *,
    workload: SlotStore | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Summary:
    """Collect until everything is asked, the money is spent or Ctrl-C; then write the records.

    The first Ctrl-C waits for the answers on their way, the second does not.

    Args:
        workload: where living kernels lend their models' slots; None where there are none.

    Raises:
        ConfigError: a price, a judge or LiteLLM is missing.
        DataError: the journal or the data set cannot be written.
    """
    with _opened(plan, workload, on_progress) as (collector, budget, rows):
        held = collector.resume()
        on_progress(collector.progress)
        collector.start()
        try:
            ending = collector.wait()
        except KeyboardInterrupt:
            on_interrupt()
            ending = _wind_up(collector)
        found = collector.rows()
        rows.replace(found)
        money = budget.prices.money
        return Summary(
            ending=ending,
            held=held,
            records=len(found),
            complete=sum(len(row["outputs"]) == len(plan.endpoints) for row in found),
            cost_usd=budget.spent if money else None,
            models=tuple(_report_on(endpoint, collector, money) for endpoint in plan.asked),
            given_up=collector.given_up,
        )


def _wind_up(collector: Collector) -> Ending:
    collector.stop()
    try:
        return collector.wait()
    except KeyboardInterrupt:
        return "interrupted"


@contextmanager
def _opened(
    plan: Plan, workload: SlotStore | None, on_progress: Callable[[Progress], None]
) -> Iterator[tuple[Collector, Budget, RowFile]]:
    stop = threading.Event()
    with ExitStack() as stack:
        budget = Budget(plan.asked, plan.max_cost, plan.max_tokens)
        slots = None if workload is None else Slots(workload, stop)
        how: dict[str, Any] = {"patience": plan.patience, "stop": stop, "slots": slots}
        clients = {
            e.name: stack.enter_context(closing(Client(e, max_tokens=plan.max_tokens, **how)))
            for e in plan.asked
        }
        journal = stack.enter_context(Journal(plan.journal))
        sandbox = stack.enter_context(Sandbox())
        rows = RowFile(plan.out)
        collector = Collector(
            plan.questions,
            {endpoint.name: clients[endpoint.name] for endpoint in plan.endpoints},
            budget=budget,
            journal=journal,
            sandbox=sandbox,
            stop=stop,
            concurrency={
                e.name: plan.concurrency or min(DEFAULT_CONCURRENCY, e.model.limit)
                for e in plan.asked
            },
            judge=clients[plan.judge.name] if plan.judge else None,
            on_row=rows.append,
            on_progress=on_progress,
        )
        yield collector, budget, rows
