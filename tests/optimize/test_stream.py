"""Batches of one cost more under a floor of their own than at history's price."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.evaluate.baselines_robust import robust_assignment, robust_success
from aios_eccos.evaluate.stream import Replay, cost_at, frontier, ratios, stream_rows


def world(n: int, seed: int) -> Replay:
    """Three models, dearer ones better; forecasts are the true probabilities."""
    rng = np.random.default_rng(seed)
    cost = np.array([1.0, 5.0, 30.0]) * 1e-4 * np.exp(rng.normal(0, 0.3, (n, 3)))
    level = rng.normal(0, 1.2, (n, 1)) + np.array([-0.5, 0.5, 1.6]) + rng.normal(0, 0.4, (n, 3))
    success = 1 / (1 + np.exp(-level))
    outcomes = (rng.random((n, 3)) < success).astype(float)
    return Replay(success, cost, outcomes, cost)


def test_the_price_serves_streams_and_a_floor_per_call_does_not() -> None:
    rows = stream_rows(world(1_500, 0), world(500, 1), [0.6, 0.65], [1, 10_000])
    found = ratios(rows)
    assert {row.batch for row in rows} == {1, 500}
    assert found["price", 1] == found["price", 500]
    assert found["price", 1] < 1.1
    assert found["floor", 1] > found["price", 1] + 0.1
    assert found["floor", 500] == pytest.approx(1.0, abs=0.05)


def test_the_frontier_rises_and_says_what_a_success_costs() -> None:
    points = frontier(world(400, 2))
    assert (np.diff(points) > 0).all()
    assert cost_at(points, float(points[0, 3])) == pytest.approx(points[1, 3])
    assert np.isnan(cost_at(points, 1.0))


def test_robust_success_lies_below_the_mean_and_above_zero() -> None:
    rng = np.random.default_rng(0)
    neighbors = (rng.random((30, 40, 2)) < 0.7).astype(float)
    low = robust_success(neighbors)
    assert (low <= neighbors.mean(axis=1) + 1e-9).all()
    assert (low >= 0).all()
    assert (low == robust_success(neighbors)).all()
    sure = np.ones((2, 40, 2))
    assert (robust_success(sure) == 1.0).all()


def test_the_robust_rule_errs_on_the_side_of_the_floor() -> None:
    test = world(300, 3)
    rng = np.random.default_rng(4)
    neighbors = (rng.random((300, 40, 3)) < test.success[:, None]).astype(float)
    found = robust_assignment(neighbors, test.cost, test.outcomes, test.spent, 0.6)
    assert found.floor == 0.6
    assert -0.03 < found.shortfall < 0.2
    assert found.cost > 0
