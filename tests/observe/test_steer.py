"""The controlled floor at work: outcomes move the shared price, and only where they should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from aios_eccos.config import parse_settings
from aios_eccos.observe.steer import controlled, steer_judged, steer_settled
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.verdicts import alarm_of
from aios_eccos.policy import shift_name
from aios_eccos.workload.memory import MemoryWorkload

ETA = 0.1
POLICIES = frozenset({""})


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
    return math.log(store.read_prices().get(shift_name(""), 1.0))


def test_a_judged_call_moves_the_price_by_floor_minus_outcome(store) -> None:
    trace = make_trace()
    steer_settled([trace], POLICIES, ETA, store)
    assert shift(store) == pytest.approx(ETA * (0.8 - 0.75)), "the promise stands in"
    steer_judged(trace, 1.0, POLICIES, ETA, store)
    assert shift(store) == pytest.approx(ETA * (0.8 - 1.0))


def test_calls_that_no_price_chose_move_nothing(store) -> None:
    trace = make_trace()
    for odd in (
        replace(trace, success_price_usd=None),
        replace(trace, floor=None),
        replace(trace, failure="500"),
        replace(trace, policy="other/*"),
    ):
        steer_settled([odd], POLICIES, ETA, store)
    steer_settled([trace], frozenset(), ETA, store)
    assert store.read_prices() == {}


@pytest.mark.parametrize(
    ("verdicts", "mode", "found"),
    [(29, "controlled", False), (30, "controlled", True), (30, "expected", False)],
)
def test_control_begins_with_thirty_verdicts_and_only_if_asked(verdicts, mode, found) -> None:
    sums = {"floors:": 0.8 * verdicts, "floor_verdicts:": verdicts, "floor_successes:": verdicts}
    alarm = alarm_of("", {1: sums}, 1, 1)
    assert ("" in controlled([alarm], parse_settings({"floor_mode": mode}))) is found
