"""Figures from sums: exact where they can be, honest where they cannot."""

from __future__ import annotations

import math
import random

import pytest

from aios_eccos.metrics import (
    ENOUGH,
    Errors,
    add_errors,
    forecast_success,
    forecast_total,
    mean,
    saved_share,
    success_rate,
)

NOTHING = Errors(0, 0, 0, 0, 0, 0)


def test_what_is_saved_is_a_share_of_the_baselines_cost() -> None:
    assert saved_share(1.0, 4.0) == 0.75
    assert saved_share(5.0, 4.0) == -0.25
    assert saved_share(0.0, 0.0) is None


def errors(pairs: list[tuple[float, float]]) -> Errors:
    return Errors(
        len(pairs),
        sum(f for f, _ in pairs),
        sum(a for _, a in pairs),
        sum(f * f for f, _ in pairs),
        sum(a * f for f, a in pairs),
        sum(a * a for _, a in pairs),
    )


def test_nothing_has_no_mean() -> None:
    assert mean(1.0, 0.0) is None
    assert success_rate(0, 0) is None
    assert forecast_success(0, 0, 0, 0, 0, 0) is None


def test_wilson_agrees_with_the_textbook() -> None:
    found = success_rate(81, 263)  # Newcombe 1998, table I
    assert found is not None
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=1e-4),
        pytest.approx(0.3662, abs=1e-4),
    )


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 50), (50, 50), (60, 50)])
def test_a_rate_stays_between_0_and_1(successes: float, count: float) -> None:
    found = success_rate(successes, count)
    assert found is not None and found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


def drawn(draw: random.Random, count: int, scale: float) -> list[tuple[float, float]]:
    pairs = []
    for _ in range(count):
        f = draw.uniform(1, 3)
        pairs.append((f, max(scale * f + draw.gauss(0, 0.5), 0.0)))
    return pairs


def test_a_total_is_covered_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        draw = random.Random(seed)
        seen, ahead = drawn(draw, 80, 1.3), drawn(draw, 300, 1.3)
        found = forecast_total(sum(f for f, _ in ahead), 300, errors(seen), [])
        assert found.low is not None and found.high is not None
        hits += found.low <= sum(a for _, a in ahead) <= found.high
    assert hits >= 180


def test_without_answers_of_its_own_the_other_models_speak_with_a_wider_interval() -> None:
    draw = random.Random(1)
    others = [errors(drawn(draw, 60, scale)) for scale in (0.8, 1.0, 1.3)]
    own = forecast_total(100.0, 50, others[1], others)
    borrowed = forecast_total(100.0, 50, NOTHING, others)
    assert borrowed.low is not None and borrowed.high is not None and own.low is not None
    assert own.high is not None
    assert borrowed.high - borrowed.low > own.high - own.low
    assert borrowed.value == pytest.approx(100 * add_errors(others).ratio)


def test_too_little_known_gives_no_interval() -> None:
    few = errors(drawn(random.Random(1), ENOUGH - 1, 1.0))
    found = forecast_total(100.0, 50, few, [few])
    assert (found.value, found.low, found.high) == (100.0, None, None)
    assert forecast_total(0.0, 0, few, []).high == 0.0


def test_success_is_corrected_by_verdicts_and_without_enough_has_no_interval() -> None:
    few = forecast_success(80, 16, 100, ENOUGH - 1, -3, 5)
    assert few is not None
    assert (few.value, few.low) == (0.8, None)
    judged = forecast_success(80, 16, 100, 400, -40, 80)
    assert judged is not None and judged.low is not None and judged.high is not None
    assert judged.value == pytest.approx(0.7)
    assert judged.low < 0.7 < judged.high
    assert math.isclose(judged.high - 0.7, 0.7 - judged.low, rel_tol=0.01)
