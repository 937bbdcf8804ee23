"""Batches of one cost more under a floor of their own than at history's price."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.floor.curve import price_curve
from aios_eccos.lab.parts import frontier, ratios
from aios_eccos.lab.problem import Calls


def world(n: int, seed: int) -> Calls:
    """Three models, dearer ones better; forecasts are the true probabilities."""
    rng = np.random.default_rng(seed)
    cost = np.array([1.0, 5.0, 30.0]) * 1e-4 * np.exp(rng.normal(0, 0.3, (n, 3)))
    level = rng.normal(0, 1.2, (n, 1)) + np.array([-0.5, 0.5, 1.6]) + rng.normal(0, 0.4, (n, 3))
    success = 1 / (1 + np.exp(-level))
    outcomes = (rng.random((n, 3)) < success).astype(float)
    return Calls(success, cost, outcomes, cost)


def test_the_price_serves_streams_and_a_floor_per_call_does_not() -> None:
    past = world(1_500, 0)
    curve = price_curve(past.success, past.outcomes, past.cost)
    found = ratios(curve, world(500, 1), [0.6, 0.65], [1, 10_000])
    assert {batch for _, batch in found} == {1, None}
    assert found["price", 1] == found["price", None]
    assert found["price", 1] < 1.1
    assert found["floor", 1] > found["price", 1] + 0.1
    assert found["floor", None] == pytest.approx(1.0, abs=0.05)


def test_the_frontier_rises_and_says_what_a_success_costs() -> None:
    front = frontier(world(400, 2))
    assert (np.diff(front.success) > 0).all() and (np.diff(front.cost) > 0).all()
    assert front.cost_at(float(front.success[3])) == pytest.approx(front.cost[3])
    assert np.isnan(front.cost_at(1.0))
