"""Recorded calls through a whole engine, each judged by the way that people's verdicts take."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.config import parse_settings
from aios_eccos.floor.learn import head_path
from aios_eccos.forecast.head.artifact import data_hash, save_head
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.lab.fitted import records_of
from aios_eccos.lab.problem import Problem
from aios_eccos.locate import Config, Location
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import EdgeView
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, IntArray, Query

#: Seconds that an answer, or the history, may take.
TIMEOUT_S = 600.0


def end_to_end(problem: Problem, floor: float, split: int) -> list[dict[str, Any]]:
    """The test rows, one call at a time: under default settings, and at an absolute floor."""
    rows = []
    for asked in ({}, {"quality_floor": floor}):
        with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
            settings = parse_settings({"redis": "memory", **asked})
            config = Config(Location(None, None, Path(folder), "evaluation"), settings, ())
            choice, floors = _served(problem, config)
        realised, cost = problem.calls.came_to(choice)
        strongest = np.full(problem.n, int(problem.past_means()[0].argmax()))
        best, dearest = problem.calls.came_to(strongest)
        rows.append(
            {
                "split": split,
                "asked": str(settings.quality_floor),
                "floor": floors,
                "realised": realised,
                "cost_per_call_usd": cost,
                "strongest": best,
                "strongest_cost_usd": dearest,
            }
        )
    return rows


def _served(problem: Problem, config: Config) -> tuple[IntArray, float]:
    """(n,) columns of the test rows, and the mean absolute floor asked of them."""
    data, folder = problem.fitted.data, config.location.state_dir
    history = MemoryHistory()
    history.add(records_of(problem.history), problem.history.embeddings)
    hashed = data_hash(problem.history)
    save_head(head_path(folder), problem.fitted.head, embedder=data.embedder.name, data=hashed)
    choice = np.empty(problem.n, dtype=np.int64)
    floors = []
    stores = history, BackgroundEmbedder(lambda: data.embedder)
    with Engine(config, models=data.models, stores=lambda config: stores) as engine:
        engine.wait_ready(TIMEOUT_S)
        stores[1].wait(TIMEOUT_S)
        reader = Reader.of_engine(engine, lambda: EdgeView(mode="route", waiting=0, running=0))
        for row in range(problem.n):
            query = Query(problem.test.texts[row], input_tokens=int(problem.test.input_tokens[row]))
            result = engine.dispatcher.submit(query, _answers(problem, row)).result(TIMEOUT_S)
            engine.recorder.flush()
            if result.decision is not None and result.decision.model is not None:
                choice[row] = problem.models.index(result.decision.model)
                floors.append(result.decision.candidate.worth.floor)
            reader.feedback("last", float(problem.outcomes[row, choice[row]]))
    return choice, float(np.mean(floors))


def _answers(problem: Problem, row: int) -> Callable[[str, float], Answer]:
    """Recorded answers, as far as the plugin looks at them."""

    def answer(model: str, left: float) -> Answer:
        tokens = int(problem.test.output_tokens[row, problem.models.index(model)])
        return Answer("recorded", int(problem.test.input_tokens[row]), tokens)

    return answer
