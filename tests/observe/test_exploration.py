"""Exploration while serving: capped, within limits, told apart, and what it teaches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubly_robust import doubly_robust
from observe_world import LARGE, SMALL, World, make_engine

from aios_eccos.config import ModelEntry
from aios_eccos.floor.alarm import read_alarms
from aios_eccos.floor.explore import chance_of
from aios_eccos.metrics import Z
from aios_eccos.observe import render
from aios_eccos.observe.trace import read_traces
from aios_eccos.serve.tracing import decide_dry
from aios_eccos.values import EXPLORED, Model, Query
from aios_eccos.workload.periods import TOTAL, PeriodSums, names_of

NEW = ModelEntry(
    name="new",
    hostname="http://new",
    concurrency=8,
    input_cost_per_token=1e-3,
    output_cost_per_token=1e-3,
    strength=0.1,
)
POOL = [entry.model() for entry in (SMALL, LARGE, NEW)]
#: Ids of calls by their own draw.
DRAWS = {name: chance_of(name) for name in map(str, range(4000))}
EXPLORERS = [name for name, draw in DRAWS.items() if draw < 0.02]
OTHERS = [name for name, draw in DRAWS.items() if draw >= 0.02]


@pytest.fixture
def unjudged(tmp_path: Path) -> Iterator[World]:
    with make_engine(tmp_path) as engine:
        assert engine.wait_ready(60)
        with_new_model(engine)
        yield World(engine)


@pytest.fixture
def world(unjudged: World) -> World:
    """Where verdicts come."""
    verdicts_come(unjudged.engine)
    return unjudged


def with_new_model(engine, pool=POOL) -> None:
    """A pool with a model of which nothing is known."""
    engine.use(engine.config, models=pool)
    engine.learn()


def verdicts_come(engine) -> None:
    engine.ledger.add_sums([PeriodSums(TOTAL, 0.0, {"verdicts": 1.0})])
    engine.floors.look()


def test_draws_are_uniform_and_a_calls_own() -> None:
    draws = np.array(list(DRAWS.values()))
    assert abs(draws.mean() - 0.5) < 0.02 and abs((draws < 0.02).mean() - 0.02) < 0.007
    assert chance_of("a") == chance_of("a") != chance_of("b")


def test_a_new_model_gets_its_share_and_the_trace_says_with_what_chance(world: World) -> None:
    served = world.call(id=EXPLORERS[0])
    assert served.decision.model == "new" and served.decision.status == EXPLORED
    assert "few verdicts" in served.decision.reason
    other = world.call(id=OTHERS[0])
    assert other.decision.model != "new" and other.decision.status != EXPLORED
    traces = {trace.call: trace for trace in read_traces(world.engine.ledger.decisions(5))}
    for name in (EXPLORERS[0], OTHERS[0]):
        chances = {option.model: option.chance for option in traces[name].options}
        assert chances == {"small: 8b": 0.0, "large": 0.0, "new": pytest.approx(0.02)}
    view = world.reader.explain(traces[EXPLORERS[0]].id)
    assert view.bound_by == "exploration" and "few verdicts" in view.sentence
    assert world.reader.status().windows[0].limited == 0


def test_it_is_off_until_verdicts_come_and_at_zero(unjudged: World) -> None:
    world = unjudged
    assert world.call(id=EXPLORERS[1]).decision.model != "new"
    world.reader.feedback("last", 1.0)
    assert world.call(id=EXPLORERS[2]).decision.model == "new"
    world.change(exploration=0.0, quality_floor=0.9)
    with_new_model(world.engine)
    assert world.call(id=EXPLORERS[3]).decision.model != "new"


def test_never_above_a_limit_nor_on_a_second_try_nor_against_the_callers_own_floor(
    world: World,
) -> None:
    engine = world.engine
    with_new_model(engine, [POOL[0], POOL[1], replace(POOL[2], limit=1)])
    queries = [Query("0.2", id=name, agent="w", input_tokens=50) for name in EXPLORERS[:6]]
    candidates = engine.router.forecast(queries)
    decisions = engine.router.assign(candidates, engine.router.slots()).decisions
    assert [d.model for d in decisions].count("new") == 1
    assert all(d.model is not None for d in decisions), "no call waits for it"
    for decision in decisions:
        engine.router.release(decision)
    asked = replace(queries[0], floor=0.9)
    pinned = replace(queries[1], allowed=("large",))
    assert [p.lot for p in engine.router.forecast([asked, pinned])] == [None, None]
    dry = decide_dry(engine.router, engine.router.slots(), "0.2")
    assert dry.status != EXPLORED and all(option.chance == 0 for option in dry.options)


def test_a_failed_call_explores_no_further(world: World) -> None:
    from observe_world import failing

    from aios_eccos.values import Answer

    answers = iter([failing(retryable=True), lambda model: Answer("fine", 50, 100)])
    world.answer = lambda model: next(answers)(model)
    settled = world.call(id=EXPLORERS[3])
    assert settled.attempts == 2
    assert settled.decision.model != "new" and settled.decision.status != EXPLORED


def test_explored_calls_neither_steer_nor_bet(world: World) -> None:
    engine = world.engine
    engine.floors.controlled = frozenset({""})
    world.call(id=EXPLORERS[4])
    world.reader.feedback("last", 0.0)
    assert engine.workload.read_prices() == {}
    assert read_alarms(engine.ledger, time.time()) == []
    assert world.reader.status().windows[0].verdicts == 2, "it counts as a verdict all the same"


def test_what_explored_calls_teach_is_a_forecast_of_all_calls(world: World) -> None:
    for place, name in enumerate([*EXPLORERS[5:25], *OTHERS[2:22]]):
        world.call(id=name)
        if place < 20:
            world.reader.feedback("last", float(place % 2))
    traces = read_traces(world.engine.ledger.decisions(40))
    forecast = np.array([o.success for t in traces for o in t.options if o.model == "new"])
    verdicts = {name: float(i % 2) for i, name in enumerate(EXPLORERS[5:25])}
    outcome = np.array([verdicts.get(t.call, math.nan) for t in traces])
    wanted = doubly_robust(forecast, outcome, np.full(40, 0.02))
    models = world.reader.models()
    found = next(m.explored for m in models.models if m.model == "new")
    assert (found.calls, found.judged) == (20, 20)
    assert found.effective == pytest.approx(20.0)
    assert found.success.value == pytest.approx(min(max(wanted.value, 0), 1), abs=1e-3)
    half = Z * wanted.standard_error
    assert found.success.high == pytest.approx(min(max(wanted.value + half, 0), 1), abs=1e-3)
    assert "forecast, doubly robust" in render.models(models)
    world.reader.feedback("last", 1.0)  # not explored
    assert next(m.explored for m in world.reader.models().models if m.model == "large") is None


def test_only_calls_that_could_explore_a_model_speak_of_it(world: World) -> None:
    with_new_model(world.engine, POOL[:2])  # it comes later
    for name in OTHERS[40:60]:
        world.call(id=name)
    with_new_model(world.engine)
    for name in OTHERS[60:80]:
        world.call(id=name, allowed=("small: 8b", "large"))
    for place, name in enumerate(EXPLORERS[25:30]):
        world.call(id=name)
        if place == 0:
            world.reader.feedback("last", 0.5)
    assert world.reader.total()["explore_n:new"] == 5
    traces = read_traces(world.engine.ledger.decisions(5))
    forecast = np.array([o.success for t in traces for o in t.options if o.model == "new"])
    outcome = np.array([0.5 if t.call == EXPLORERS[25] else math.nan for t in traces])
    wanted = doubly_robust(forecast, outcome, np.full(5, 0.02))
    (found,) = (m.explored for m in world.reader.models().models if m.model == "new")
    assert (found.calls, found.judged) == (5, 1)
    off = float(np.nanmean(outcome - forecast))
    assert wanted.value == pytest.approx(forecast.mean() + off), "no verdict is not: no correction"
    assert found.success.value == pytest.approx(wanted.value, abs=1e-3)


def test_calls_far_from_all_history_are_counted(world: World) -> None:
    world.call(id=OTHERS[30])
    world.call(text="2.0", id=OTHERS[31])  # opposite to the easiest on the line
    assert world.reader.total()["far"] == 1 and world.reader.total()["placed"] == 2
    view = world.reader.status()
    assert view.windows[0].far_share == 0.5
    assert "50.0 % of calls were far from all history" in render.status(view)


def test_models_with_verdicts_enough_are_not_explored(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        assert engine.wait_ready(60)
        verdicts_come(engine)
        known = World(engine)
        for name in EXPLORERS[:5]:
            assert known.call(id=name).decision.status != EXPLORED
        assert isinstance(engine.router.models[0], Model)
        assert names_of("explored", known.reader.total()) == []
