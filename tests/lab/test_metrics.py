"""Metrics on cases that can be checked by hand."""

import math

import numpy as np
import pytest

from aios_eccos.lab import metrics
from aios_eccos.lab.metrics import Frontier


def test_a_frontier_keeps_what_no_other_point_beats():
    front = Frontier.of([1.0, 2.0, 3.0, 4.0], [0.5, 0.7, 0.6, 0.7])
    assert front.cost.tolist() == [1.0, 2.0]
    assert front.success.tolist() == [0.5, 0.7]


def test_cost_between_two_points_is_interpolated_in_log_cost():
    front = Frontier.of([1.0, 4.0], [0.5, 0.7])
    assert front.cost_at(0.6) == pytest.approx(2.0)
    assert front.success_at(2.0) == pytest.approx(0.6)


def test_what_was_not_reached_has_no_cost():
    front = Frontier.of([1.0, 4.0], [0.5, 0.7])
    assert math.isnan(front.cost_at(0.71))
    assert front.cost_at(0.2) == 1.0
    assert math.isnan(front.success_at(0.5))
    assert front.success_at(100.0) == 0.7
    assert math.isnan(Frontier.of([], []).cost_at(0.1))


def test_free_models_have_a_logarithm():
    front = Frontier.of([0.0, 1.0], [0.2, 0.9])
    assert front.cost_at(0.2) == pytest.approx(metrics.LEAST_COST)


def test_the_hull_mixes_the_two_models_around_the_success():
    cost, success = np.array([1.0, 3.0, 2.9]), np.array([0.4, 0.8, 0.5])
    assert metrics.hull_cost(cost, success, 0.6) == pytest.approx(2.0)
    assert metrics.hull_cost(cost, success, 0.3) == pytest.approx(1.0)
    assert math.isnan(metrics.hull_cost(cost, success, 0.9))


def test_ratio_is_of_geometric_means_over_common_targets():
    assert metrics.ratio([1.0, 2.0, math.nan], [2.0, 1.0, 5.0]) == pytest.approx(1.0)
    assert metrics.ratio([1.0, 1.0], [4.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(metrics.ratio([math.nan], [1.0]))


def test_ratios_over_splits_have_a_relative_error():
    found = metrics.ratio_over_splits([0.5, 2.0])
    assert found.mean == pytest.approx(1.0)
    assert found.error == pytest.approx(math.log(2))
    assert math.isnan(metrics.ratio_over_splits([0.5]).error)


def test_mean_and_standard_error():
    found = metrics.estimate([1.0, 3.0, math.nan])
    assert (found.mean, found.error, found.count) == (2.0, pytest.approx(1.0), 2)
    assert math.isnan(metrics.estimate([]).mean)


def test_targets_lie_between_the_cheapest_and_the_best_model():
    assert metrics.targets(0.4, 0.8) == pytest.approx([0.6, 0.64, 0.68, 0.72, 0.76, 0.8])


@pytest.mark.parametrize(("own", "share"), [(10.0, 0.0), (2.0, 1.0), (6.0, 0.5), (14.0, -0.5)])
def test_share_of_the_gap_between_hull_and_clairvoyant(own, share):
    assert metrics.gap_closed(own, 10.0, 2.0) == pytest.approx(share)


def test_no_gap_to_close():
    assert math.isnan(metrics.gap_closed(1.0, 2.0, 2.0))


def test_gain_and_saving_beside_the_best_single_model():
    front = Frontier.of([1.0, 4.0, 9.0], [0.5, 0.8, 0.88])
    assert metrics.perf_gain(front, 0.8) == pytest.approx(0.1)
    assert metrics.cost_save(front, 0.8, 16.0) == pytest.approx(0.75)
    assert math.isnan(metrics.cost_save(front, 0.9, 16.0))
    assert math.isnan(metrics.perf_gain(Frontier.of([], []), 0.5))


def test_distance_to_the_pareto_front():
    front = Frontier.of([1.0, math.e], [0.0, 1.0])
    on_it = metrics.pareto_distance([(1.0, 0.0), (0.9, 0.5)], front)
    assert on_it == 0.0
    corner = metrics.pareto_distance([(math.e, 0.0)], front)
    assert corner == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert math.isnan(metrics.pareto_distance([], front))


def test_auc_counts_pairs_and_ties_half():
    assert metrics.auc(np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0])) == 1.0
    assert metrics.auc(np.array([0.5, 0.5]), np.array([0.0, 1.0])) == 0.5
    assert np.isnan(metrics.auc(np.array([0.5]), np.array([1.0])))
    assert metrics.auc(np.array([0.1, 0.2, 0.9]), np.array([0.0, 1.0, np.nan])) == 1.0


def test_reliability_fills_bins_evenly():
    p = np.linspace(0, 1, 100)
    said, had, share = metrics.reliability(p, (p > 0.5).astype(float), bins=4)
    assert share.tolist() == [0.25] * 4 and had.tolist() == [0, 0, 1, 1]
    assert np.all(np.diff(said) > 0)
    assert metrics.calibration_error(np.full(10, 0.3), np.ones(10)) == pytest.approx(0.7)


def test_brier_leaves_missing_outcomes_out():
    assert metrics.brier(np.array([0.5, 0.2]), np.array([1.0, np.nan])) == pytest.approx(0.25)
