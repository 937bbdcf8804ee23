"""Retrieval: masked, shrunk, with priors where nothing is known."""

import dataclasses

import numpy as np
import pytest
from predict_world import MODELS, TableHistory, make_table

from aios_eccos.forecast.priors import PriorPredictor, prior_success
from aios_eccos.forecast.retrieval import Means, RetrievalPredictor, leave_one_out, weigh
from aios_eccos.values import Model, Query


def ask(n, **changes):
    return [Query("how?", **changes) for _ in range(n)]


def test_neighbors_beat_the_models_means(world):
    table, _ = world
    test, test_truth = make_table(300, seed=1)
    forecast = RetrievalPredictor(TableHistory(table)).forecast(ask(300), test.embeddings, MODELS)
    own = table.correctness.mean(axis=0)
    error = np.mean((forecast.success - test_truth) ** 2)
    assert error < 0.25 * np.mean((own - test_truth) ** 2)
    assert np.abs(forecast.output_tokens - test.output_tokens).mean() < 12


def test_missing_outcomes_are_masked_never_zero(world):
    table, _ = world
    holes = np.random.default_rng(2).uniform(size=table.correctness.shape) < 0.7
    sparse = dataclasses.replace(table, correctness=np.where(holes, np.nan, table.correctness))
    full = RetrievalPredictor(TableHistory(table)).forecast(ask(50), table.embeddings[:50], MODELS)
    part = RetrievalPredictor(TableHistory(sparse)).forecast(ask(50), table.embeddings[:50], MODELS)
    assert abs(part.success.mean() - full.success.mean()) < 0.08
    assert part.support.mean() < 0.5 * full.support.mean()


def test_a_model_never_seen_gets_the_pools_mean_or_its_declared_strength(world):
    table, _ = world
    new = [Model("new"), Model("boasting", strength=0.9)]
    forecast = RetrievalPredictor(TableHistory(table)).forecast(
        ask(4), table.embeddings[:4], MODELS + new
    )
    assert np.all(forecast.support[:, 3:] == 0)
    assert forecast.success[0, 4] == pytest.approx(0.9)
    assert forecast.success[0, 3] == pytest.approx(table.correctness.mean(), abs=1e-6)
    assert np.all(forecast.output_tokens[:, 3] > 50)


def test_no_embedding_means_the_models_means(world):
    table, _ = world
    forecast = RetrievalPredictor(TableHistory(table)).forecast(ask(2), None, MODELS)
    assert forecast.success[0] == pytest.approx(table.correctness.mean(axis=0), abs=0.02)
    assert np.isnan(forecast.novelty).all() and np.all(forecast.support == 0)


def test_empty_history_means_priors():
    table, _ = make_table(0, models={})
    predictor = RetrievalPredictor(TableHistory(table))
    forecast = predictor.forecast(ask(3), np.ones((3, 2), dtype=np.float32), MODELS)
    assert forecast.success[0] == pytest.approx(prior_success(MODELS))
    assert np.all(forecast.support == 0)


def test_no_queries_no_rows(world):
    predictor = RetrievalPredictor(TableHistory(world[0]))
    assert len(predictor.forecast([], np.empty((0, 2), dtype=np.float32), MODELS)) == 0


def test_answers_are_no_longer_than_their_limit(world):
    predictor = RetrievalPredictor(TableHistory(world[0]))
    queries = ask(1, max_output_tokens=20)
    forecast = predictor.forecast(queries, world[0].embeddings[:1], MODELS)
    assert np.all(forecast.output_tokens == 20)


def test_priors_rise_with_price_and_then_with_size():
    assert np.all(np.diff(prior_success(MODELS)) > 0)
    assert np.all(np.diff(prior_success([Model("a-1b"), Model("b-8b"), Model("c-70b")])) > 0)
    assert len(prior_success([])) == 0 and 0 < prior_success([Model("only")])[0] < 1
    forecast = PriorPredictor().forecast(ask(2), None, MODELS)
    assert forecast.models == ("small", "middle", "large") and np.all(forecast.support == 0)


def test_a_query_far_from_all_history_is_novel(world):
    predictor = RetrievalPredictor(TableHistory(world[0]))
    odd = np.array([[0.0, -1.0], [0.0, 1.0]], dtype=np.float32)
    assert predictor.forecast(ask(2), odd, MODELS).novelty.tolist()[0] == 1.0
    assert predictor.forecast(ask(2), odd, MODELS).novelty[1] < 1.0


def test_leave_one_out_does_not_see_its_own_record(world):
    table, _ = world
    flipped = dataclasses.replace(
        table, correctness=np.vstack([1 - table.correctness[:1], table.correctness[1:]])
    )
    before, after = leave_one_out(table)[0], leave_one_out(flipped)[0]
    assert np.allclose(before[0], after[0], atol=2e-3)  # only the models' means move
    success, tokens, support = leave_one_out(make_table(1)[0])
    assert support.tolist() == [[0, 0, 0]] and success.shape == tokens.shape == (1, 3)


def test_leave_one_out_equals_serving_without_the_record(world):
    table, _ = world
    alone = leave_one_out(table)[0]
    for i in range(0, 60, 12):
        rest = table.rows(np.arange(len(table)) != i)
        predictor = RetrievalPredictor(TableHistory(rest))
        served = predictor.forecast(ask(1), table.embeddings[i : i + 1], MODELS)
        assert alone[i] == pytest.approx(served.success[0], abs=0.03)


def test_weigh_with_fewer_neighbors_than_wanted():
    similarity = np.array([[0.9, np.nan]])
    mean, support = weigh(similarity, np.array([[[1.0, np.nan], [0.0, 0.0]]]))
    assert mean[0, 0] == 1.0 and np.isnan(mean[0, 1])
    assert support.tolist() == [[1.0, 0.0]]


def test_refresh_takes_the_means_anew(world):
    table, _ = world
    predictor = RetrievalPredictor(TableHistory(table))
    predictor.refresh(table.rows(np.arange(10)))
    assert predictor.means.judged.tolist() == [10, 10, 10]
    assert Means.of(table).column("nobody") is None
