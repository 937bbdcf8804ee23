"""The controlled floor at work: outcomes move the shared price, and only where they should."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.floor.control import BOOST, ControlledPrice
from aios_eccos.floor.curve import PriceBook
from aios_eccos.floor.steer import controlled, steer_judged, steer_settled
from aios_eccos.floor.worth import shift_name
from aios_eccos.observe.trace import Trace
from aios_eccos.verdicts.counted import alarm_of
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import number, periods

ETA = 0.1
SETTINGS = parse_settings({"quality_floor": 0.8})


@pytest.fixture
def store():
    with_prices = MemoryWorkload()
    yield with_prices
    with_prices.close()


def make_trace(**changes) -> Trace:
    trace = Trace(
        call="c",
        at=1.0,
        agent="a",
        mode="route",
        named=0,
        policy="",
        status="optimal",
        reason="",
        model="small",
        floor=0.8,
        success_price_usd=1e-3,
        promised=0.75,
        novelty=None,
        batch=1,
        attempts=1,
        decision_s=0.0,
        waited_s=0.0,
        served_s=0.0,
        input_tokens=1,
        output_tokens=1,
        metered=True,
        cost_usd=1e-6,
        money=True,
        failure=None,
        status_code=200,
        options=(),
    )
    return replace(trace, **changes)


def shift(store) -> float:
    return math.log(store.read_prices().get(shift_name("", SETTINGS), 1.0))


class Steered:
    """As much of a router as steering reads."""

    def __init__(self, book=None, **settings) -> None:
        self.settings = parse_settings({"quality_floor": 0.8, **settings})
        self.learned = SimpleNamespace(book=book)
        self.controlled = frozenset({""})
        self.alarmed: frozenset[str] = frozenset()


def test_a_judged_call_moves_the_price_by_floor_minus_outcome(store) -> None:
    trace = make_trace(floor=0.8, promised=0.75, success_price_usd=1e-3)
    steer_settled([trace], Steered(), store)
    assert shift(store) == pytest.approx(ETA * (0.8 - 0.75)), "the promise stands in"
    steer_judged(trace, 1.0, Steered(), store)
    assert shift(store) == pytest.approx(ETA * (0.8 - 1.0))


def test_calls_that_no_price_chose_move_nothing(store) -> None:
    trace = make_trace()
    for odd in (
        replace(trace, success_price_usd=None),
        replace(trace, floor=None),
        replace(trace, floor=0.9),
        replace(trace, failure="500"),
        replace(trace, status="explored"),
        replace(trace, policy="other/*"),
    ):
        steer_settled([odd], Steered(), store)
    idle = Steered()
    idle.controlled = frozenset()
    steer_settled([trace], idle, store)
    assert store.read_prices() == {}


@pytest.fixture
def book() -> PriceBook:
    rng = np.random.default_rng(0)
    success = rng.uniform(0.1, 0.9, (500, 2))
    cost = np.tile([1e-5, 1e-3], (500, 1))
    outcomes = (rng.uniform(size=success.shape) < success).astype(float)
    return PriceBook(("small", "large"), success, outcomes, cost)


def at_end(store) -> float | None:
    today = number("d", time.time())
    return alarm_of("", {today: store.sums(periods("d", time.time(), 1))[0]}, 1, 1).at_end


def test_the_way_back_from_an_end_does_not_grow(store, book) -> None:
    router, curve = Steered(book), book.curve()
    slack = make_trace(promised=1.0)
    for _ in range(300):
        steer_settled([slack] * 10, router, store)
    start = ControlledPrice.start(curve, 0.8)
    assert shift(store) == pytest.approx(math.log(start.least / start.price))
    assert 0.5 < at_end(store) < 1


def test_verdicts_that_find_the_price_at_its_end_are_counted(store, book) -> None:
    for _ in range(100):
        steer_judged(make_trace(promised=0.75), 0.0, Steered(book), store)
    assert 0.3 < at_end(store) <= 1


def test_every_call_of_a_batch_counts(store, book) -> None:
    steer_settled([make_trace()] * 7, Steered(book), store)
    (sums,) = store.sums(periods("d", time.time(), 1))
    assert sums["moves:"] == 7


def test_a_move_of_another_kernel_is_not_lost_at_the_end(store, book) -> None:
    class Other(MemoryWorkload):
        """Where another kernel moves the price as soon as this one has."""

        def move_price(self, *args):
            moved = super().move_price(*args)
            super().move_price(args[0], -0.5, 1.0)
            return moved

    other = Other()
    steer_judged(make_trace(promised=1.0, floor=0.8), -1e3, Steered(book), other)
    start = ControlledPrice.start(book.curve(), 0.8)
    assert shift(other) == pytest.approx(math.log(start.greatest / start.price) - 0.5)
    other.close()


def test_steps_are_larger_while_the_alarm_of_that_floor_is_raised(store) -> None:
    router = Steered()
    router.alarmed = frozenset({"other/*"})
    steer_judged(make_trace(promised=0.75), 0.0, router, store)
    assert shift(store) == pytest.approx(ETA * 0.75)
    router.alarmed = frozenset({""})
    steer_judged(make_trace(promised=0.75), 0.0, router, store)
    assert shift(store) == pytest.approx(ETA * 0.75 * (1 + BOOST))


def test_another_floor_starts_anew(store) -> None:
    steer_settled([make_trace()], Steered(), store)
    changed = parse_settings({"quality_floor": 0.9})
    assert shift_name("", changed) not in store.read_prices()


@pytest.mark.parametrize(
    ("verdicts", "mode", "found"),
    [(29, "controlled", False), (30, "controlled", True), (30, "expected", False)],
)
def test_control_begins_with_thirty_verdicts_and_only_if_asked(verdicts, mode, found) -> None:
    sums = {"floors:": 0.8 * verdicts, "floor_verdicts:": verdicts, "floor_successes:": verdicts}
    alarm = alarm_of("", {1: sums}, 1, 1)
    assert ("" in controlled([alarm], parse_settings({"floor_mode": mode}))) is found
