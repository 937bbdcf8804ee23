"""An engine, as anyone makes one, controls its floor by the verdicts that come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe_world import World, make_engine

from aios_eccos.floor.control import ETA, START_AT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_engine(tmp_path, exploration=0, quality_floor=0.8) as engine:
        assert engine.wait_ready(60)
        yield World(engine)


def moved(world: World) -> float:
    """The log of the general floor's factor."""
    return math.log(world.engine.workload.read_prices().get("shift::0.8", 1.0))


def judged(world: World, verdict: float, count: int = 1) -> list[str]:
    """Ids of calls that were served and judged."""
    ids = []
    for _ in range(count):
        ids.append(world.call("0.5").query.id)
        world.reader.feedback(ids[-1], verdict)
    return ids


def test_verdicts_move_the_price_that_later_calls_are_served_at(world: World) -> None:
    judged(world, 0.0, START_AT)
    assert moved(world) == 0.0, "until then, history alone decides"
    before = world.call("0.5").decision.candidate.price
    judged(world, 0.0, 5)
    assert moved(world) > 3 * ETA
    assert world.call("0.5").decision.candidate.price > before


def test_a_changed_verdict_takes_back_what_the_first_one_did(world: World) -> None:
    judged(world, 0.8, START_AT)  # at the floor: no alarm, no larger steps
    start = moved(world)
    ids = judged(world, 1.0, 4)
    right = moved(world)
    assert right - start == pytest.approx(4 * ETA * (0.8 - 1.0))
    for identity in ids:
        world.reader.feedback(identity, 0.5)
    assert moved(world) - start == pytest.approx(4 * ETA * (0.8 - 0.5))


def test_what_verdicts_did_outlives_a_refresh(world: World) -> None:
    judged(world, 0.0, START_AT + 5)
    before = world.call("0.5").decision.candidate.price
    world.change(window_ms=1, quality_floor=0.8)
    world.engine.learn()
    after = world.call("0.5").decision.candidate.price
    assert after > 0.5 * before and moved(world) > 3 * ETA
