"""A pool, a settled call that was held for the reference, and scripted answers to its copies."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aios_eccos.config import Settings, parse_settings
from aios_eccos.floor.earn import Audited, Earning
from aios_eccos.records import Record
from aios_eccos.serve.attempt import Refusals
from aios_eccos.serve.auditor import Auditor
from aios_eccos.serve.router import Router
from aios_eccos.serve.spare import SpareRequests
from aios_eccos.values import Answer, CallResult, Failure, Gate, Model, Query, Repeat
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import TOTAL

SMALL = Model("small", limit=4, input_price=1e-7, output_price=1e-7)
JUDGE = Model("judge", limit=4, input_price=5e-6, output_price=5e-6)
LARGE = Model("large", limit=4, input_price=1e-5, output_price=1e-5, strength=0.95)
POOL = (SMALL, JUDGE, LARGE)
#: Stands in prompts and answers, and must stand nowhere else.
CANARY = "canary-7391"
FAILED = Answer(failure=Failure("500", 500))
HELD = Gate("large", "95 % of the strongest", 0.05, 0.0, 0.0, frozenset(), 0.5, shadow="small")


class World:
    """An auditor over a real router and workload; `said` maps a model to its answer or a wait."""

    def __init__(
        self,
        said: Mapping[str, str | Answer | threading.Event],
        pool: Sequence[Model] = POOL,
        **settings: Any,
    ) -> None:
        options = {"audit": "5 %", "judge": "judge"} | settings
        self.workload = MemoryWorkload()
        self.settings: Settings = parse_settings(options)
        self.router = Router(pool, self.settings, self.workload)
        self.refusals = Refusals()
        self.refusals.use(POOL)
        self.waiting = 0
        self.said = dict(said)
        self.asked: list[tuple[str, list[str]]] = []
        self.told: list[Audited] = []
        self.records: list[Record] = []
        earning = self.earning = Earning(self.workload)
        taken = earning.taken
        earning.taken = lambda audit: (self.told.append(audit), taken(audit))[1]  # type: ignore[method-assign]
        self.requests = SpareRequests(self.workload, lambda: self.router, lambda: self.waiting)
        self.auditor = Auditor(
            self.requests,
            self.workload,
            earning,
            lambda: self.refusals,
            lambda record, vector: self.records.append(record),
            lambda policy, turns: None,
            lambda form: form and f"key of {form}",
        )

    def ask(self, model: str, messages: Sequence[Mapping[str, str]]) -> Answer:
        self.asked.append((model, [message["content"] for message in messages]))
        said = self.said[model]
        if isinstance(said, threading.Event):
            said.wait()
            return FAILED
        if isinstance(said, Answer):
            return said
        return Answer(value=said, input_tokens=1000, output_tokens=100)

    def repeat(self) -> Repeat:
        prompt = f"What is it, {CANARY}?"
        return Repeat(
            ask=lambda model, _: self.ask(model, [{"role": "user", "content": prompt}]),
            plain=lambda model, messages, _: self.ask(model, messages),
            said=lambda value: (value, ()),
            instruction=lambda: prompt,
        )

    def settled(
        self, answer: str | Answer = "The answer is 42.", gate: Gate | None = HELD, **query: Any
    ) -> CallResult:
        """A call that the reference has answered."""
        asked = Query(text=f"What is it, {CANARY}?", input_tokens=1000, **query)
        (decision,) = self.router.route([asked]).decisions
        self.router.release(decision)
        decision = replace(decision, model="large", gate=gate)
        if isinstance(answer, str):
            answer = Answer(value=answer, input_tokens=1000, output_tokens=100)
        return CallResult(asked, answer, decision, 1, 0.0, 0.1, repeat=self.repeat)

    def audit(self, *results: CallResult) -> None:
        """Offer calls, and wait until they are audited."""
        for result in results:
            self.auditor.offer(result)
        assert self.auditor.wait_idle()

    def sum(self, name: str) -> float:
        return self.workload.sums([TOTAL])[0].get(name, 0.0)

    def in_flight(self) -> int:
        limits = {model.slot: model.limit for model in POOL}
        return sum(load.in_use for load in self.workload.loads(limits).values())
