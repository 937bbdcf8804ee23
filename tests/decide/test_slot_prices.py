"""A scarce slot's price: it goes to who gains most, falls to zero, and every kernel sees it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.decide.assign import LOST_MOST, assigned
from aios_eccos.decide.slot_prices import WRITTEN_AFTER, SlotPrices, after, losses
from aios_eccos.errors import WorkloadError
from aios_eccos.values import Candidate, Model, Price, Query
from aios_eccos.workload.memory import MemoryWorkload

CHEAP, DEAR = Model("cheap", limit=2), Model("dear", limit=50)
POOL = (CHEAP, DEAR)
SETTINGS = parse_settings({})
#: The dear model costs this much more; both answer all questions alike.
LITTLE, MUCH = 1e-4, 1e-2


def candidate(
    extra: float, allowed=(True, True), price: float = 1e-3, number: int = 0
) -> Candidate:
    return Candidate(
        query=Query("?", id=f"q{number}"),
        models=("cheap", "dear"),
        success=np.array([0.8, 0.8]),
        output_tokens=np.array([100.0, 100.0]),
        support=np.ones(2),
        cost=np.array([1e-4, 1e-4 + extra]),
        allowed=np.array(allowed),
        novelty=0.0,
        worth=Price(floor=0.7, value=price),
    )


def serve(shared: SlotPrices, extra: float, free=(2, 50), settings=SETTINGS, **more) -> int:
    found = assigned([candidate(extra, **more)], np.array(free), settings, shared)
    if found.lost is not None:
        shared.note_losses(found.lost, found.usual)
    return int(found.solution.choice[0])


def scarce(workload=None) -> SlotPrices:
    """After many calls of which some found the cheap model full and would have gained much."""
    shared = SlotPrices(POOL, workload or MemoryWorkload())
    for _ in range(200):
        serve(shared, MUCH, free=(0, 50))
    return shared


def test_a_scarce_slot_is_kept_for_who_gains_most() -> None:
    fresh = SlotPrices(POOL, MemoryWorkload())
    assert serve(fresh, LITTLE, free=(1, 50)) == serve(fresh, MUCH, free=(1, 50)) == 0
    shared = scarce()
    assert 0 < shared.slots[0] * 100 < MUCH
    assert shared.slots[1] == 0
    assert serve(shared, LITTLE, free=(1, 50)) == 1
    assert serve(shared, MUCH, free=(1, 50)) == 0


def test_an_idle_model_is_not_avoided_after_a_busy_spell() -> None:
    assert serve(scarce(), LITTLE, free=(2, 50)) == 0


def test_the_worth_of_success_at_the_end_of_its_range_does_not_make_prices_soar() -> None:
    shared = SlotPrices(POOL, MemoryWorkload())
    sure = replace(candidate(0.0, price=1e9), success=np.array([0.9, 0.1]))
    for _ in range(2_000):
        found = assigned([sure], np.array([0, 50]), SETTINGS, shared)
        shared.note_losses(found.lost, found.usual)
    assert shared.slots[0] * 100 == pytest.approx(LOST_MOST * 1e-4, rel=0.01)


def test_no_call_waits_for_a_price_and_no_limit_is_broken() -> None:
    shared = scarce()
    assert serve(shared, LITTLE, free=(1, 0)) == 0, "dear or not, the slot is free"
    batch = [candidate(MUCH, number=i) for i in range(5)]
    choice = assigned(batch, np.array([2, 2]), SETTINGS, shared).solution.choice
    assert np.bincount(choice[choice >= 0], minlength=2).tolist() == [2, 2]


def test_the_price_falls_to_zero_where_no_limit_binds() -> None:
    workload = MemoryWorkload()
    shared = scarce(workload)
    price = shared.slots[0]
    for _ in range(100):
        serve(shared, MUCH)
    assert 0 < shared.slots[0] < price
    for _ in range(2_000):
        serve(shared, MUCH)
    assert not shared.slots.any()
    again = SlotPrices(POOL, workload)
    again.take(workload.read_prices())
    assert not again.slots.any()


def test_another_kernel_and_the_next_start_see_it() -> None:
    workload = MemoryWorkload()
    first = scarce(workload)
    other = SlotPrices(POOL, workload)
    other.take(workload.read_prices())
    assert other.slots == pytest.approx(first.slots)


def test_a_price_is_written_once_for_several_calls() -> None:
    workload = MemoryWorkload()
    shared = SlotPrices(POOL, workload)
    for _ in range(WRITTEN_AFTER - 1):
        serve(shared, MUCH, free=(0, 50))
    assert workload.read_prices() == {}
    serve(shared, MUCH, free=(0, 50))
    assert set(workload.read_prices()) == {f"slot:{CHEAP.slot}"}


def test_all_prices_that_moved_are_written_at_once() -> None:
    sets: list[dict[str, float]] = []

    class Counted(MemoryWorkload):
        def set_prices(self, prices):
            sets.append(dict(prices))
            super().set_prices(prices)

    shared = SlotPrices(POOL, Counted())
    for _ in range(WRITTEN_AFTER):
        shared.note_losses(np.array([[1e-5, 2e-5]]), 1e-6)
    assert [len(prices) for prices in sets] == [2]


def test_reading_and_learning_at_once_mix_no_prices() -> None:
    shared = scarce()
    got = threading.Event()
    with shared._lock:
        reader = threading.Thread(target=lambda: (shared.take({}), got.set()))
        reader.start()
        assert not got.wait(0.1), "it waits until what is being learned is in"
    reader.join(60)
    assert got.is_set()


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"allowed": (False, True)}, id="pinned"),
        pytest.param({"price": np.inf}, id="no history"),
        pytest.param({"settings": parse_settings({"over_capacity": "wait"})}, id="it waits"),
    ],
)
def test_who_had_no_choice_teaches_nothing(more) -> None:
    shared = SlotPrices(POOL, MemoryWorkload())
    for _ in range(3 * WRITTEN_AFTER):
        serve(shared, MUCH, free=(0, 50), **more)
    assert not shared.slots.any()


def test_a_store_out_of_reach_leaves_what_was_learned(caplog) -> None:
    class Gone(MemoryWorkload):
        def set_prices(self, prices):
            raise WorkloadError("away")

    assert scarce(Gone()).slots[0] > 0
    assert "away" in caplog.text


def test_what_a_call_lost_is_what_its_second_best_costs_it() -> None:
    value = np.array([[1.0, 4.0, np.inf, 3.0], [1.0, 4.0, 0.0, 9.0], [5.5, 4.0, 9.0, 9.0]])
    carried = np.array([[0.0, 2.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    tokens, choice = np.full((3, 4), 10.0), np.array([1, 1, 1])
    lost = losses(value, carried, tokens, choice, np.array([True, True, True, False]), 9.0)
    nothing = np.nan
    wanted = [[0.5, 0.0, nothing, 0.0], [0.3, 0.0, 0.4, nothing], [0.05, 0.0, nothing, nothing]]
    np.testing.assert_allclose(lost, wanted)
    dear = np.array([[1.0, 0.0, 0.0, 0.0]])
    assert np.isnan(losses(value[2:], dear, tokens[:1], choice[:1], np.full(4, True), 9.0)[0, 0])
    few = losses(value, carried, tokens, choice, np.array([True, True, True, False]), 3.5)
    assert few[0, 0] == pytest.approx(0.35), "what success is worth does not make a price soar"


def test_a_price_moves_by_the_calls_that_say_something() -> None:
    prices = np.array([1.0, 1.0, 1.0])
    lost = np.array([[3.0, 0.0, np.nan]] * 10_000)
    assert after(prices, lost) == pytest.approx([3.0, 0.0, 1.0])
