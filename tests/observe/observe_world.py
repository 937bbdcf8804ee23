"""A small living engine: two models, a history whose truth is known, a workload in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aios_eccos.config import ModelEntry, Settings, parse_settings
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import EdgeView
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, CallResult, Failure, Query

SMALL = ModelEntry(
    name="small: 8b",
    hostname="http://small",
    concurrency=64,
    input_cost_per_token=1e-7,
    output_cost_per_token=1e-7,
)
LARGE = ModelEntry(
    name="large",
    hostname="http://large",
    concurrency=64,
    input_cost_per_token=1e-5,
    output_cost_per_token=1e-5,
)


class Line:
    """Embeds on a line from easy to hard: the number that the text begins with."""

    ready = True

    def try_embed(self, texts):
        angle = np.array([float(t.split()[0]) for t in texts]) * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def try_embed_with_layers(self, texts):
        return None

    def close(self):
        pass


def toy_stores(config: Config) -> tuple[MemoryHistory, Line]:
    """A history in memory: the small model's success falls with hardness."""
    draw = np.random.default_rng(7)
    hardness = draw.uniform(0, 1, 240)
    records = [
        Record(
            id=f"q{i:03}",
            text=f"{h:.6f}",
            input_tokens=50,
            outcomes=(
                Outcome(SMALL.name, float(draw.uniform() > h), 100),
                Outcome(LARGE.name, float(draw.uniform() < 0.95), 100),
            ),
            task="sums",
        )
        for i, h in enumerate(hardness)
    ]
    history = MemoryHistory(dimension=2)
    history.add(records, Line().try_embed([r.text for r in records]))
    return history, Line()


class World:
    """The engine, its reader, and a way to have calls served."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.reader = Reader.of_engine(engine, self.edge)
        self.answer: Callable[[str], Answer] = lambda model: Answer("fine", 50, 100)
        self._number = itertools.count()

    def edge(self) -> EdgeView:
        waiting, running = self.engine.dispatcher.depth()
        history = self.engine.history
        return EdgeView(
            mode="route",
            waiting=waiting,
            running=running,
            lost_traces=self.engine.recorder.lost,
            history=history.count() if history else None,
            floors_from="verdicts",
        )

    def call(self, text: str = "0.2", agent: str = "writer", **fields: object) -> CallResult:
        """One call, served and kept."""
        query = Query(text, agent=agent, input_tokens=50, **fields)  # type: ignore[arg-type]
        settled = self.engine.dispatcher.submit(query, lambda m, left: self.answer(m)).result(60)
        assert self.engine.recorder.flush()
        return settled

    def calls(self, count: int, text: str = "0.2") -> None:
        """Several calls at once."""
        futures = [
            self.engine.dispatcher.submit(
                Query(text, agent="writer", input_tokens=50), lambda m, left: self.answer(m)
            )
            for _ in range(count)
        ]
        for future in futures:
            future.result(60)
        assert self.engine.recorder.flush()

    def change(self, **settings: object) -> None:
        """A refresh with other settings."""
        config = self.engine.config
        merged = {**config.settings.model_dump(exclude_unset=True), **settings}
        self.engine.use(replace(config, settings=parse_settings(merged)))


def make_engine(
    folder: Path, entries: tuple[ModelEntry, ...] = (SMALL, LARGE), **settings: object
) -> Engine:
    parsed: Settings = parse_settings({"quality_floor": 0.9, "redis": "memory", **settings})
    location = Location(None, None, folder, "test")
    return Engine(Config(location, parsed, entries), stores=toy_stores)


def failing(reason: str = "503", retryable: bool = False) -> Callable[[str], Answer]:
    return lambda model: Answer(failure=Failure(reason, 503, retryable))
