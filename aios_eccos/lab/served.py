"""Recorded calls through the classes that a kernel runs.

Recorded forecasts take the place of a predictor; nothing of the rule, the price or its control is
written here a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aios_eccos.config import Settings, parse_settings
from aios_eccos.floor.floors import Floors
from aios_eccos.floor.learned import Learned
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.lab.problem import Problem
from aios_eccos.observe.trace import Trace
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import (
    Answer,
    BoolArray,
    CallResult,
    Candidate,
    Decision,
    Failure,
    FloatArray,
    Forecast,
    IntArray,
    Model,
    Price,
    Query,
    Slots,
    Vote,
)
from aios_eccos.verdicts.taken import take_verdict
from aios_eccos.workload.memory import MemoryWorkload

#: Effective records behind a recorded forecast: more than a price of success asks for.
SUPPORT = 99.0
#: Without plans.
NONE_ASKED = np.empty(0, dtype=bool)


class RecordedPredictor:
    """A predictor that says what was recorded of the queries that come next."""

    name = "recorded"
    wants_layers = False
    success: FloatArray
    tokens: FloatArray

    def forecast(
        self,
        queries: Sequence[Query],
        embeddings: NDArray[np.float32] | None,
        models: Sequence[Model],
        layers: NDArray[np.float32] | None = None,
    ) -> Forecast:
        names = tuple(model.name for model in models)
        support = np.full(self.success.shape, SUPPORT)
        return Forecast(names, self.success, self.tokens, support, np.zeros(len(queries)))


class Served:
    """A router, its floors and a workload that serve recorded calls under the settings.

    `models` are in the order of the rows' columns; the predictor that was `learned` is replaced.
    """

    def __init__(
        self,
        models: Sequence[Model],
        settings: Settings,
        learned: Learned,
        workload: MemoryWorkload | None = None,
    ) -> None:
        self.workload = workload or MemoryWorkload()
        self.floors = Floors(settings, self.workload, self.workload)
        self._forecasts = RecordedPredictor()
        self._settings = settings
        known = replace(learned, predictor=self._forecasts, embedder=None)
        self.router = Router(models, settings, self.workload, known, self.floors)
        # One call at a time: whenever one comes, all slots are free.
        self._free = self.router.slots()
        plans = () if learned.plans is None else learned.plans.plans
        names = (*(model.name for model in models), *(plan.name for plan in plans))
        self._columns = {name: column for column, name in enumerate(names)}

    def column(self, trace: Trace) -> int:
        return self._columns[trace.model or ""]

    def forecast(
        self, queries: Sequence[Query], success: FloatArray, tokens: FloatArray
    ) -> list[Candidate]:
        """The calls with their price of success; (n, m) forecasts."""
        self._forecasts.success, self._forecasts.tokens = success, tokens
        return self.router.forecast(queries)

    def serve(
        self,
        query: Query,
        success: FloatArray,
        tokens: FloatArray,
        had_tokens: FloatArray | None = None,
        failure: Failure | None = None,
        escapes: BoolArray = NONE_ASKED,
    ) -> Trace:
        """Serve one call with (m,) forecasts, and move the price as a settled call does.

        Args:
            had_tokens: (m,) output tokens of the recorded answers; default: the forecast.
            escapes: (k,) whether each plan's escape is asked.
        """
        candidates = self.forecast([query], success[None], tokens[None])
        (decision,) = self.router.assign(candidates, self._free).decisions
        self.router.release(decision)
        if decision.model is None:
            raise ValueError("the call would have to wait; recorded calls are served one by one")
        return self.settle(decision, tokens if had_tokens is None else had_tokens, failure, escapes)

    def settle(
        self,
        decision: Decision,
        had_tokens: FloatArray,
        failure: Failure | None = None,
        escapes: BoolArray = NONE_ASKED,
    ) -> Trace:
        """Move the price as a call does that was answered, or failed; arguments as of `serve`."""
        query, m = decision.candidate.query, len(self.router.models)
        differ = decision.plan is not None and bool(escapes[self._columns[decision.plan.name] - m])
        asked, vote = _asked(decision, differ)
        answers = {
            name: Answer("", query.input_tokens, round(had_tokens[self._columns[name]]), failure)
            for name in asked
        }
        given = answers[asked[-1] if differ else asked[0]]
        attempts = len(asked)
        result = CallResult(query, given, decision, attempts, 0.0, 0.0, vote=vote, said=answers)
        trace = trace_of(result, self.router.prices, self._settings, self.router.models)
        (trace,) = self.floors.settled([trace])
        return replace(trace, id=query.id)

    def judge(self, trace: Trace, outcome: float) -> None:
        """Take a verdict (0..1) on a served call."""
        take_verdict(self.workload, self.floors, trace, outcome)


def _asked(decision: Decision, differ: bool) -> tuple[tuple[str, ...], Vote | None]:
    """The models that a decision asks, whether or not a plan's members differ; and their vote."""
    plan = decision.plan
    if plan is None:
        return (decision.model or "",), None
    if differ:
        return plan.models, Vote(plan.members, plan.escape, "differed", plan.escape)
    return plan.members, Vote(plan.members, plan.escape, "agreed", plan.members[0])


def served_of(
    problem: Problem, settings: Settings, workload: MemoryWorkload | None = None
) -> Served:
    """Serves a problem's rows, each model within the problem's limits, if it has any."""
    limits = problem.arrival.limits
    pool = [replace(m, limit=limits.get(m.name, problem.n)) for m in problem.fitted.data.models]
    return Served(pool, settings, learned_of(problem), workload)


def learned_of(problem: Problem) -> Learned:
    """What a problem's history teaches."""
    judged = (~np.isnan(problem.history.correctness)).sum(axis=0)
    known = dict(zip(problem.models, map(float, judged), strict=True))
    return Learned(PriorPredictor(), book=problem.book, judged=known, plans=problem.fits)


def settings_of(name: str | None, value: float, **more: object) -> Settings:
    """The default settings at a floor, or at a budget in dollars per call."""
    asked = {"budget_per_call": value} if name == "budget" else {"quality_floor": value}
    return parse_settings(asked | more)


def queries_of(problem: Problem, rows: IntArray) -> list[Query]:
    ids, tokens = problem.test.ids, problem.test.input_tokens
    return [Query("", id=ids[row], input_tokens=int(tokens[row])) for row in rows]


def priced(problem: Problem, settings: Settings, learned: Learned | None = None) -> Price:
    """What a success is worth on history alone: before outcomes or spending have moved it."""
    nothing = MemoryWorkload()
    floors = Floors(settings, nothing, nothing)
    return floors.price(Query(""), problem.columns, SUPPORT, learned or learned_of(problem), {})


def expected(problem: Problem, floor: float) -> Price:
    """The price of an expected floor."""
    return priced(problem, settings_of("floor", floor, floor_mode="expected"))


class Batches:
    """Rows served a batch at a time; `optimism`: what history takes off each row's forecast."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self._problem = problem
        self._served = served_of(problem, settings)
        limits = {model.name: model.limit for model in self._served.router.models}
        self._slots = Slots(limits, limits)
        self.optimism: list[float] = []

    def serve(self, rows: IntArray) -> IntArray:
        """(k,) columns of some rows, -1 = it waits; in a stream their outcomes are then seen."""
        problem, served = self._problem, self._served
        asked = queries_of(problem, rows), problem.success[rows], problem.tokens[rows]
        candidates = served.forecast(*asked)
        if not problem.arrival.stream:
            choice = served.router.decide(candidates, self._slots).found.solution.choice
        else:
            decisions = served.router.assign(candidates, self._slots).decisions
            place = {name: column for column, name in enumerate(problem.columns)}
            choice = np.array([-1 if d.model is None else place[d.model] for d in decisions])
            for row, column, decision in zip(rows, choice, decisions, strict=True):
                if column >= 0:
                    served.router.release(decision)
                    had = problem.test.output_tokens[row]
                    trace = served.settle(decision, had, escapes=problem.escapes[row])
                    served.judge(trace, float(problem.calls.outcomes[row, column]))
        taken = zip(candidates, choice, strict=True)
        self.optimism += [c.worth.optimism for c, column in taken if column >= 0]
        return choice


@dataclass(frozen=True, slots=True)
class Run:
    """One stream of n calls: columns, success, dollars; share of the price's moves to an end."""

    choice: IntArray
    success: FloatArray
    spent: FloatArray
    at_end: float


def stream(
    problem: Problem,
    settings: Settings,
    order: IntArray,
    *,
    seen: BoolArray | None = None,
    delay: int = 0,
    boosted: bool = True,
    workload: MemoryWorkload | None = None,
) -> Run:
    """Serve rows of a problem one at a time, in this order.

    Args:
        seen: (n,) which calls get a verdict, `delay` calls later; None = all.
        boosted: whether an alarm makes steps larger, as in a kernel.
        workload: with what earlier calls have left there; default: nothing.
    """
    served = served_of(problem, settings, workload)
    served.floors.look()
    choice = np.empty(len(order), dtype=np.int64)
    waiting: deque[tuple[int, Trace]] = deque()
    for place, (row, query) in enumerate(zip(order, queries_of(problem, order), strict=True)):
        had, escapes = problem.test.output_tokens[row], problem.escapes[row]
        trace = served.serve(query, problem.success[row], problem.tokens[row], had, escapes=escapes)
        choice[place] = served.column(trace)
        if seen is None or seen[place]:
            waiting.append((place, trace))
        while waiting and waiting[0][0] + delay <= place:
            judged, trace = waiting.popleft()
            served.judge(trace, float(problem.calls.outcomes[order[judged], choice[judged]]))
            if not boosted:
                served.floors.alarmed = frozenset()
    ends = [alarm.at_end or 0.0 for alarm in served.floors.look()]
    success, spent = problem.calls.outcomes[order, choice], problem.calls.spent[order, choice]
    return Run(choice, success, spent, max(ends, default=0.0))
