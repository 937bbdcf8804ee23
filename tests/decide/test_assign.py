"""Few calls go by the price of success, many are solved as one, also in a plain engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aios_eccos.config import ModelEntry, parse_settings
from aios_eccos.decide.assign import WHOLE_BATCH, assigned
from aios_eccos.decide.slot_prices import SlotPrices
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Candidate, Model, Price, Query
from aios_eccos.workload.memory import MemoryWorkload

NAMES = ("small", "large")
POOL = tuple(Model(name, limit=5_000) for name in NAMES)
PLENTY, TIGHT = np.array([5_000, 5_000]), np.array([5_000, 5])
SETTINGS = parse_settings({})


def calls(count: int, floor: float = 0.8, **changes: object) -> list[Candidate]:
    """Calls from easy to hard: the small model's success falls, the large one manages most."""
    plain = Candidate(
        query=Query("?"),
        models=NAMES,
        success=np.array([0.5, 0.95]),
        output_tokens=np.array([100.0, 100.0]),
        support=np.array([9.0, 9.0]),
        cost=np.array([1e-5, 1e-3]),
        allowed=np.array([True, True]),
        novelty=0.0,
        # A price at which every call would go to the small model: only a floor keeps the floor.
        worth=Price(floor=floor, value=1e-6, batch_floor=floor),
    )
    plain = replace(plain, **changes)
    return [
        replace(plain, query=Query("?", id=f"q{i}"), success=np.array([1 - hard, 0.95]))
        for i, hard in enumerate(np.linspace(0, 1, count))
    ]


def success(candidates: list[Candidate], choice: np.ndarray) -> float:
    return float(np.mean([c.success[j] for c, j in zip(candidates, choice, strict=True) if j >= 0]))


def assign(candidates: list[Candidate], free: np.ndarray = PLENTY, **settings: object):
    prices = SlotPrices(POOL, MemoryWorkload())
    return assigned(candidates, free, parse_settings(settings), prices)


@pytest.mark.parametrize(("count", "whole"), [(WHOLE_BATCH - 1, False), (WHOLE_BATCH, True)])
def test_from_the_limit_on_the_floor_is_kept_on_the_batch_itself(count: int, whole: bool) -> None:
    batch = calls(count)
    found = assign(batch)
    assert found.whole is whole
    assert (success(batch, found.solution.choice) >= 0.8 - 1e-9) is whole


def test_calls_without_a_price_do_not_keep_the_others_from_their_floor() -> None:
    """They have the strongest model, and are not the others' to save by."""
    new = calls(20, worth=Price())
    batch = [*calls(WHOLE_BATCH), *(replace(c, query=Query("?", id=c.query.id + "n")) for c in new)]
    found = assign(batch)
    choice = found.solution.choice
    assert found.whole
    assert success(batch[:WHOLE_BATCH], choice[:WHOLE_BATCH]) == pytest.approx(0.8, abs=1e-3)
    strongest = [int(c.success.argmax()) for c in new]
    assert choice[WHOLE_BATCH:].tolist() == strongest


@pytest.mark.parametrize("priced", [0, 3, WHOLE_BATCH])
def test_what_calls_without_a_price_would_give_for_a_slot_is_no_sum_of_dollars(priced: int) -> None:
    """They take the strongest model at any cost: a slot of it would be worth thousands."""
    new = calls(20, worth=Price())
    batch = [*calls(priced, worth=Price(floor=0.8, value=1.0, batch_floor=0.8)), *new]
    found = assign([replace(c, query=Query("?", id=f"{i}")) for i, c in enumerate(batch)], TIGHT)
    assert 1 in found.solution.choice and 0 in found.solution.choice[-20:]
    assert found.solution.slot_prices.tolist() == [0.0, 0.0]


def test_a_slot_for_calls_with_a_price_is_worth_dollars() -> None:
    batch = calls(30, worth=Price(floor=0.8, value=1.0, batch_floor=0.8))
    assert 0.0 < assign(batch, TIGHT).solution.slot_prices[1] <= 1.0


def test_too_few_calls_with_a_floor_are_no_whole_batch() -> None:
    assert not assign([*calls(WHOLE_BATCH - 1), *calls(20, worth=Price())]).whole
    prices = SlotPrices(POOL, MemoryWorkload())
    found = assigned(calls(WHOLE_BATCH), PLENTY, SETTINGS, prices, whole_batches=False)
    assert not found.whole


def test_every_policy_and_every_own_floor_has_a_row_of_its_own() -> None:
    picky = [replace(c, worth=replace(c.worth, policy="a", batch_floor=0.9)) for c in calls(200)]
    own = [replace(c, query=Query("?", id=f"own{i}", floor=0.6)) for i, c in enumerate(calls(200))]
    own = [replace(c, worth=replace(c.worth, batch_floor=0.6)) for c in own]
    plain = calls(200, floor=0.7)
    choice = assign([*picky, *own, *plain]).solution.choice
    for part, floor, mine in ((picky, 0.9, 0), (own, 0.6, 200), (plain, 0.7, 400)):
        assert success(part, choice[mine : mine + 200]) == pytest.approx(floor, abs=5e-3)


@pytest.mark.parametrize("setting", ["best_effort", "wait"])
def test_what_is_done_where_free_slots_cannot_reach_the_floor(setting: str) -> None:
    """A setting that no batch of a kernel could reach while 256 was the largest."""
    batch = calls(600, floor=0.9)
    solution = assign(batch, np.array([600, 100]), on_infeasible_floor=setting).solution
    served = solution.choice >= 0
    assert solution.status.value == "infeasible_floor"
    if setting == "best_effort":
        assert served.all() and success(batch, solution.choice) < 0.9
    else:
        assert 100 < served.sum() < 600 and success(batch, solution.choice) >= 0.9 - 1e-9


def test_bad_forecasts_close_a_model_to_their_call_alone() -> None:
    odd = calls(2)
    odd[0] = replace(odd[0], success=np.array([np.nan, 0.9]))
    odd[1] = replace(odd[1], cost=np.array([np.inf, 1e-3]))
    assert assign([*odd, *calls(3)]).solution.choice.tolist() == [1, 1, 0, 0, 0]


class Line:
    """Embeds on a line from easy to hard: the number that the text is."""

    ready = True

    def try_embed(self, texts):
        angle = np.array([float(text) for text in texts]) * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def try_embed_with_layers(self, texts):
        return None

    def close(self):
        """Nothing loads."""


def stores(config: Config) -> tuple[MemoryHistory, Line]:
    """A history in which hard questions are for the large model."""
    draw = np.random.default_rng(7)
    records = [
        Record(
            id=f"r{i}",
            text=f"{hard:.6f}",
            input_tokens=50,
            outcomes=(
                Outcome("small", float(draw.uniform() > hard), 100),
                Outcome("large", float(draw.uniform() < 0.95), 100),
            ),
        )
        for i, hard in enumerate(draw.uniform(0, 1, 400))
    ]
    history = MemoryHistory(dimension=2)
    history.add(records, Line().try_embed([record.text for record in records]))
    return history, Line()


def test_a_burst_in_a_plain_engine_is_solved_whole_under_its_floor(tmp_path: Path) -> None:
    """With the settings' own limits, and models that have slots for all."""
    entries = tuple(
        ModelEntry(
            name=name,
            hostname=f"http://{name}",
            concurrency=5_000,
            input_cost_per_token=price,
            output_cost_per_token=price,
        )
        for name, price in (("small", 1e-7), ("large", 1e-5))
    )
    settings = parse_settings({"quality_floor": 0.8, "redis": "memory", "window_ms": 1000})
    config = Config(Location(None, None, tmp_path, "test"), settings, entries)
    answered = threading.Event()

    def answer(model: str, left: float) -> Answer:
        answered.wait(60)  # the burst is there before the first answer
        return Answer("fine", 50, 100)

    with Engine(config, stores=stores) as engine:
        assert engine.wait_ready(60)
        burst = [Query(f"{hard:.4f}", input_tokens=50) for hard in np.linspace(0, 1, 700)]
        futures = [engine.dispatcher.submit(query, answer) for query in burst]
        answered.set()
        decisions = [future.result(60).decision for future in futures]
    whole = [d for d in decisions if d is not None and d.whole]
    assert len(whole) >= WHOLE_BATCH
    assert all(d.batch >= WHOLE_BATCH for d in whole)
    assert sum("were assigned as one, under the floors" in d.reason for d in whole) > 500
    assert np.mean([d.promised for d in whole]) == pytest.approx(0.8, abs=0.02)
    assert 0 < sum(d.model == "large" for d in whole) < len(whole)
