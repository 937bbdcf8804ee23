"""Retrieval: masked, shrunk, with priors where nothing is known."""

import dataclasses

import numpy as np
import pytest
from predict_world import MODELS, TableHistory, make_table

from aios_eccos.forecast.parts import calibration
from aios_eccos.forecast.predictor import Means, PriorPredictor, prior_success
from aios_eccos.forecast.retrieval import RetrievalPredictor, leave_one_out, weigh
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import Outcome, Record, question_key
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
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before, after)
    success, tokens, support = leave_one_out(make_table(1)[0])
    assert support.tolist() == [[0, 0, 0]] and success.shape == tokens.shape == (1, 3)


def sparse(table, verdicts):
    """The table with so many verdicts on its last model, in the first rows."""
    correctness = table.correctness.copy()
    correctness[verdicts:, -1] = np.nan
    output_tokens = np.where(np.isnan(correctness), np.nan, table.output_tokens)
    return dataclasses.replace(table, correctness=correctness, output_tokens=output_tokens)


def spread(table):
    """The table with embeddings of which no two are all but equal, as of other texts."""
    noise = np.random.default_rng(4).normal(size=(len(table), 30)).astype(np.float32)
    wide = np.hstack([table.embeddings, 0.1 * noise])
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return dataclasses.replace(table, embeddings=wide)


POOLS = {
    "declared nothing": MODELS,
    "declared a strength": [*MODELS[:2], Model("large", strength=0.9)],
}


@pytest.mark.parametrize("verdicts", [600, 12, 1, 0])
@pytest.mark.parametrize("pool", POOLS)
def test_leave_one_out_and_forecast_agree_on_a_record_that_is_not_in_the_history(
    world, pool, verdicts
):
    table, models = sparse(spread(world[0]), verdicts), POOLS[pool]
    success, tokens, support = leave_one_out(table, models=models)
    for i in [0, 1, 11, 12, 300, 599]:
        rest = table.rows(np.arange(len(table)) != i)
        served = RetrievalPredictor(TableHistory(rest)).forecast(
            ask(1), table.embeddings[i : i + 1], models
        )
        assert success[i] == pytest.approx(served.success[0], abs=1e-5)
        assert tokens[i] == pytest.approx(served.output_tokens[0], rel=1e-5)
        assert support[i] == pytest.approx(served.support[0], rel=1e-4)


def test_one_verdict_makes_no_strongest_model(world):
    """It weighs as one against a prior of eight, also where prices are made of the past."""
    table = sparse(world[0], 1)
    table.correctness[0, -1] = 1.0
    success, _, _ = leave_one_out(table)
    pool = np.nanmean(table.correctness[:, :2])
    assert success[1:, 2].max() < pool + 0.2 < np.nanmean(table.correctness[:, 2])
    assert success[0, 2] == pytest.approx(np.nanmean(table.correctness[1:, :2]), abs=0.01)


def copied(table, change=lambda text: text, kept=True):
    """The table, each row twice under another id."""
    twice = table.rows(np.tile(np.arange(len(table)), 2))
    texts = (*table.texts, *map(change, table.texts)) if kept else ("",) * (2 * len(table))
    ids = tuple(f"{i}/{name}" for i, name in enumerate(twice.ids))
    return dataclasses.replace(twice, ids=ids, texts=texts)


@pytest.mark.parametrize(
    ("change", "kept"),
    [(str, True), (str.upper, True), (lambda text: f" {text}\n", True), (str, False)],
    ids=["same", "capitals", "blanks", "texts not kept"],
)
def test_copies_of_a_record_do_not_tell_its_outcome(world, change, kept):
    table = copied(world[0].rows(np.arange(80)), change, kept)
    told = table.correctness.copy()
    told[[5, 85]] = 1 - told[[5, 85]]
    flipped = dataclasses.replace(table, correctness=told)
    before, after = leave_one_out(table)[0], leave_one_out(flipped)[0]
    # Without texts only neighbors are known to be copies, not what the models' means are made of.
    assert np.allclose(before[[5, 85]], after[[5, 85]], atol=0 if kept else 0.01)
    assert not np.allclose(before, after, atol=0.05)


def test_copies_of_calibration_records_are_no_neighbors(world):
    table = world[0].rows(np.arange(60))
    history = MemoryHistory()
    for copy in range(3):
        rows = [
            Record(f"{copy}/{name}", text, 9, (Outcome("small", good), Outcome("large", good)))
            for name, text, good in zip(
                table.ids, table.texts, table.correctness[:, 0], strict=True
            )
        ]
        history.add(rows, table.embeddings)
    near = RetrievalPredictor(history, without=calibration)
    told = near.forecast(ask(60), table.embeddings, MODELS).success
    drawn = [
        record
        for record_id, (record, _) in history.recall(history.table().ids).items()
        if calibration([question_key(record.text, record_id)])[0]
    ]
    assert len(drawn) == 3 * len({record.text for record in drawn}) > 20
    history.add([dataclasses.replace(r, outcomes=(Outcome("small", 0.5),)) for r in drawn])
    assert np.array_equal(told, near.forecast(ask(60), table.embeddings, MODELS).success)


def test_weigh_with_fewer_neighbors_than_wanted():
    similarity = np.array([[0.9, np.nan]])
    mean, support = weigh(similarity, np.array([[[1.0, np.nan], [0.0, 0.0]]]))
    assert mean[0, 0] == 1.0 and np.isnan(mean[0, 1])
    assert support.tolist() == [[1.0, 0.0]]


def test_means_are_of_the_table_given(world):
    table, _ = world
    predictor = RetrievalPredictor(TableHistory(table), table.rows(np.arange(10)))
    assert predictor.means.judged.tolist() == [10, 10, 10]
    assert Means.of(table).column("nobody") is None
