"""An engine in this process that serves the shipped recordings with everything switched on.

What operators look at has something to show then: policies, plans, audits, caps, a canary, floors.
No AIOS, no model and no network are needed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

from aios_eccos.config import parse_settings
from aios_eccos.history.embed.cache import CachedEmbedder, EmbeddingCache
from aios_eccos.lab.commands.demo import SHIPPED_DATA, SHIPPED_PRICES, SHIPPED_VECTORS
from aios_eccos.lab.dataset import load_dataset, load_prices, pool
from aios_eccos.lab.outlook import add_shipped
from aios_eccos.locate import Config, Location
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import CanaryView, EdgeView
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Failure, Query, Repeat
from aios_eccos.verdicts.keys import AnswerKeys

SETTINGS = {
    "quality_floor": "95 %",
    "redis": "memory",
    "mode": "canary",
    "canary_share": "50 %",
    "audit": "10 %",
    "max_cost": {"day": 1.5},
    "plans": ["small-8b + medium-70b, else large-400b"],
    "agents": {"coder/*": {"quality_floor": 0.7, "max_cost": {"month": 0.4}}},
    "exploration": 0.02,
}
#: Agents that ask, and which of them asks twice as often.
AGENTS = ("coder/review", "coder/write", "travel", "travel", "mail")
#: Share of calls that get a verdict, and of requests that fail.
JUDGED, FAILED = 0.3, 0.01
#: The calls are spread over so long before now, seconds.
SPREAD_S = 20 * 3600.0
CALLS = 500


class Household:
    """An engine with its reader, and the recorded questions that its calls ask."""

    def __init__(self, engine: Engine, records: list[Record]) -> None:
        self.engine, self.records = engine, records
        self.reader = Reader.of_engine(engine, self.edge)
        self.draw = random.Random(0)

    def edge(self) -> EdgeView:
        waiting, running = self.engine.dispatcher.depth()
        history, canary = self.engine.history, self.engine.canary.figures()
        return EdgeView(
            mode=self.engine.config.settings.mode,
            waiting=waiting,
            running=running,
            history=None if history is None else history.count(),
            floors_from="verdicts",
            fairness=self.engine.dispatcher.fairness(),
            canary=None if canary is None else CanaryView.model_validate(canary),
        )

    def serve(self, calls: int = CALLS, spread_s: float = SPREAD_S) -> None:
        """Serve calls as if they had come over the last hours, the last ones just now."""
        real = time.time
        for number in range(calls):
            behind = spread_s * (1 - (number + 1) / calls) ** 2
            with mock.patch("time.time", lambda behind=behind: real() - behind):
                self.call(self.draw.choice(self.records))
        self.engine.recorder.flush()

    def call(self, record: Record, agent: str | None = None) -> None:
        """One call of one of `AGENTS`, or of another; some get a verdict."""
        observed = self.engine.config.settings.mode == "canary" and self.draw.random() < 0.5
        allowed = ("large-400b",) if observed else None
        query = Query(
            record.text,
            agent=agent or self.draw.choice(AGENTS),
            input_tokens=record.input_tokens,
            allowed=allowed,
            observed=observed,
        )
        answers = {outcome.model: outcome for outcome in record.outcomes}

        def ask(model: str, seconds: float) -> Answer:
            return answered(record, answers[model], self.draw.random() < FAILED)

        def repeat() -> Repeat:
            return Repeat(ask, lambda model, asked, s: ask(model, s), said, lambda: record.text)

        future = self.engine.dispatcher.submit(query, ask, repeat)
        settled = future.result(60)
        self.engine.recorder.flush()
        self.engine.auditor.wait_idle()
        if self.draw.random() < JUDGED and settled.answer.failure is None:
            trace = self.reader.find("last")
            model = trace.vote.answered_by if trace.vote is not None else trace.model
            self.reader.feedback("last", answers[model or ""].correctness or 0.0)


def answered(record: Record, outcome: Outcome, fails: bool) -> Answer:
    """The recorded answer: right ones are equal, wrong ones are each model's own."""
    if fails:
        return Answer(failure=Failure("503 from its server", 503, retryable=True))
    text = f"The answer is {record.id if outcome.correctness else outcome.model}."
    return Answer(text, record.input_tokens, outcome.output_tokens or 1)


def with_answers(record: Record, key: Callable[[object], str | None]) -> Record:
    """The record with the keys of its answers, by which plans are forecast."""
    outcomes = (
        replace(outcome, answer=key(answered(record, outcome, fails=False).value))
        for outcome in record.outcomes
    )
    return replace(record, outcomes=tuple(outcomes))


def said(value: object) -> tuple[str | None, tuple[()]]:
    return str(value), ()


@contextlib.contextmanager
def household(folder: Path, **settings: object) -> Iterator[Household]:
    """A household without calls; `settings` take the place of those in `SETTINGS`."""
    dataset = load_dataset([SHIPPED_DATA])
    models = pool(dataset.models, load_prices(SHIPPED_PRICES), {"large-400b": 6}, 8)
    parsed = parse_settings({**SETTINGS, **settings})
    location = Location(None, None, folder, "household")
    with Engine(Config(location, parsed, ()), models=models, said=said) as engine:
        engine.wait_ready()
        if engine.history is None or engine.embedder is None:
            raise engine.upkeep.error or RuntimeError("the history did not open")
        vectors = CachedEmbedder(engine.embedder.wait(), EmbeddingCache(folder / "vectors.sqlite"))
        add_shipped(dataset, vectors, SHIPPED_VECTORS)
        keys = AnswerKeys(folder, said, lambda: parsed)
        known = [with_answers(record, keys.of) for record in dataset.split("train", "val")]
        engine.history.add(known, vectors.embed([record.text for record in known]))
        engine.learn()
        yield Household(engine, dataset.split("test"))
