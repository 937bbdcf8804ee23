"""Floors and budgets one call at a time: in quiet times, when calls change, and in an engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.config import parse_settings
from aios_eccos.floor.control import BOOST, ETA
from aios_eccos.floor.learn import head_path
from aios_eccos.forecast.head.artifact import data_hash, save_head
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.lab.dataset import Recorded
from aios_eccos.lab.fitted import Fitted, records_of
from aios_eccos.lab.problem import Arrival, Problem, column_means, pose
from aios_eccos.lab.served import Run, expected, settings_of, stream
from aios_eccos.locate import Config, Location
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.views import EdgeView
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, IntArray, Query

#: (eta, boost, share of outcomes seen, calls until an outcome is there); None = no control.
STREAMS: tuple[tuple[float | None, float, float, int], ...] = (
    (None, 1.0, 0.0, 0), (ETA, BOOST, 1.0, 0), (ETA, 1.0, 1.0, 0), (2 * ETA, 1.0, 1.0, 0),
    (ETA, BOOST, 0.2, 0), (ETA, BOOST, 0.05, 0), (ETA, BOOST, 1.0, 50),
)  # fmt: skip
#: The same after calls have changed, all outcomes seen at once.
MOVED: tuple[tuple[float | None, float], ...] = ((None, 1.0), (ETA, BOOST), (ETA, 1.0),
                                                 (2 * ETA, 1.0))  # fmt: skip
#: Shares of the way from the cheapest to the strongest model at which floors are asked there.
FLOORS = (0.5, 0.7, 0.9)
#: Orders in which the calls of a split come.
ORDERS = 2
#: Budgets, even in log dollars between the cheapest and the strongest model's cost.
BUDGETS = 7


#: Of a run: realised less asked success, cost beside the frontier's, share of moves to an end.
Streamed = tuple[float, float, float]


def streams(problem: Problem, number: int, floors: Sequence[float]) -> list[list[Streamed]]:
    """A split's runs under each way of control; cost against the test rows' own frontier."""
    front = problem.frontier
    ways = []
    for way in STREAMS:
        runs = [
            (floor, _run(problem, floor, (number, turn), *way))
            for floor in floors
            for turn in range(ORDERS)
        ]
        means = [(floor, run.success.mean(), run.spent.mean(), run.at_end) for floor, run in runs]
        ways.append(
            [(had - floor, cost / front.cost_at(had), end) for floor, had, cost, end in means]
        )
    return ways


def stream_rows(splits: Sequence[list[list[Streamed]]]) -> list[dict[str, Any]]:
    """Error and cost of each way of control over the splits."""
    rows = []
    for (eta, boost, seen, delay), runs in zip(STREAMS, zip(*splits, strict=True), strict=True):
        errors, costs, ends = np.array([run for split in runs for run in split]).T
        rows.append(
            {
                "eta": eta,
                "boost": boost,
                "observed_share": seen,
                "delay": delay,
                "error": float(np.abs(errors).mean()),
                "worst": float(errors.min()),
                "cost_ratio": float(np.nanmean(costs)),
                "share_at_end": float(np.mean(ends)),
            }
        )
    return rows


def _run(
    problem: Problem,
    floor: float,
    salt: Sequence[int],
    eta: float | None,
    boost: float,
    seen: float = 1.0,
    delay: int = 0,
) -> Run:
    """The test rows in a random order, under a floor that is controlled in one of the ways."""
    rng = np.random.default_rng([*salt])
    order = rng.permutation(problem.n)
    visible = rng.uniform(size=problem.n) < seen
    if eta is None:  # nothing moves the price, so all calls can be served at once
        choice = problem.calls.choose(expected(problem, floor).value)[order]
        calls = problem.calls.rows(order)
        line = np.arange(problem.n)
        return Run(choice, calls.outcomes[line, choice], calls.spent[line, choice], 0.0)
    settings = settings_of("floor", floor, floor_step=eta)
    return stream(problem, settings, order, seen=visible, delay=delay, boosted=boost > 1)


def budgets_asked(data: Recorded, histories: Sequence[IntArray]) -> list[float]:
    """The budgets of splits with these rows as history."""
    means = [
        (column_means(data.table.correctness[rows]), column_means(data.spent[rows]))
        for rows in histories
    ]
    success, cost = np.mean(means, axis=0)
    ends = float(cost.min()), float(cost[success.argmax()])
    return [float(budget) for budget in np.geomspace(*ends, BUDGETS + 2)[1:-1]]


def budgets(problem: Problem, number: int, asked: Sequence[float]) -> list[tuple[float, float]]:
    """A split's spending and success under each budget, one call at a time."""
    order = np.random.default_rng(number).permutation(problem.n)
    runs = [stream(problem, settings_of("budget", budget), order) for budget in asked]
    return [(float(run.spent.mean()), float(run.success.mean())) for run in runs]


def budget_rows(
    asked: Sequence[float], splits: Sequence[list[tuple[float, float]]]
) -> list[dict[str, Any]]:
    """What is spent under each budget; means over the splits."""
    rows = []
    for budget, runs in zip(asked, zip(*splits, strict=True), strict=True):
        spent, had = (float(np.mean(values)) for values in zip(*runs, strict=True))
        row = {"budget": budget, "cost_per_call_usd": spent, "cost_to_budget": spent / budget}
        rows.append(row | {"realised": had})
    return rows


def shift(data: Recorded, seed: int) -> dict[str, Any]:
    """History without the hardest task, then a stream of nothing else, with outcomes.

    The floors asked lie between what the cheapest and the strongest model reach on the stream.
    """
    tasks = np.array(data.table.tasks)
    means = {str(t): float(np.nanmean(data.table.correctness[tasks == t])) for t in set(tasks)}
    big = {t: mean for t, mean in means.items() if (tasks == t).sum() >= 0.1 * len(tasks)}
    hardest = min(big, key=lambda t: (big[t], t))
    test = np.flatnonzero((tasks == hardest) & data.whole)
    history = Fitted(data, np.flatnonzero(tasks != hardest))
    problem = pose(history, "hybrid", test, Arrival(order="file"))
    single = problem.outcomes.mean(axis=0)
    cheapest = float(single[int(np.argmin(problem.spent.mean(axis=0)))])
    floors = [cheapest + share * (float(single.max()) - cheapest) for share in FLOORS]
    rows = []
    for eta, boost in MOVED:
        runs = [
            (floor, _run(problem, floor, (seed, turn), eta, boost))
            for floor in floors
            for turn in range(ORDERS)
        ]
        later = [floor - float(run.success[100:].mean()) for floor, run in runs]
        rows.append(
            {
                "eta": eta,
                "boost": boost,
                "shortfall_after_100": float(np.mean(later)),
                "worst": float(np.max(later)),
                "cost_per_call_usd": float(np.mean([run.spent.mean() for _, run in runs])),
            }
        )
    return {"task": hardest, "floors": floors, "rows": rows}


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
