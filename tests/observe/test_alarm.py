"""The e-process: seldom wrong however often one looks, and soon right."""

from __future__ import annotations

import math
import random

import pytest

from aios_eccos.floor.alarm import BETS, DELTA, e_value, wager

ALARM = 1 / DELTA


def run(rates: list[float], floor: float, seed: int, a_day: int = 50) -> int | None:
    """Verdicts until the first alarm, looking after every one; None if there is none."""
    draw = random.Random(seed)
    days: dict[int, list[float]] = {}
    for number, rate in enumerate(rates):
        day = number // a_day
        sums = days.setdefault(day, [0.0] * len(BETS))
        for i, log in enumerate(wager(floor, float(draw.random() < rate))):
            sums[i] += log
        if e_value(days, 0, day) >= ALARM:
            return number + 1
    return None


def test_it_starts_at_one() -> None:
    assert e_value({}, 5, 5) == pytest.approx(1.0)
    assert e_value({}, 5, 40) == pytest.approx(1.0)


def test_a_verdict_at_the_floor_changes_nothing() -> None:
    assert wager(0.8, 0.8) == [0.0] * len(BETS)


@pytest.mark.parametrize("floor", [0.1, 0.5, 0.8, 1.0])
def test_it_cannot_be_expected_to_grow_while_the_floor_holds(floor: float) -> None:
    for i in range(len(BETS)):
        right, wrong = (math.exp(wager(floor, outcome)[i]) for outcome in (1.0, 0.0))
        assert floor * right + (1 - floor) * wrong == pytest.approx(1.0)


def test_false_alarms_are_as_seldom_as_promised() -> None:
    alarms = sum(run([0.8] * 400, 0.8, seed) is not None for seed in range(150))
    # 150 runs at 5 %: more than 14 would happen once in a hundred such tests at the very bound.
    assert alarms <= 14


def test_a_broken_floor_is_found() -> None:
    found = [run([0.65] * 600, 0.8, seed) for seed in range(20)]
    assert all(found)
    assert sorted(filter(None, found))[10] < 200


def test_a_long_good_time_does_not_hide_a_later_break() -> None:
    found = run([0.95] * 2000 + [0.55] * 600, 0.8, 1)
    assert found is not None
    assert 2000 < found < 2300


def test_what_is_no_longer_kept_can_only_lower_it() -> None:
    days = {day: [0.3] * len(BETS) for day in range(10)}
    whole = e_value(days, 0, 9)
    assert e_value({d: logs for d, logs in days.items() if d > 3}, 0, 9) < whole


def test_a_great_wealth_does_not_overflow() -> None:
    assert math.isfinite(e_value({0: [1e6] * len(BETS)}, 0, 0))
