"""The head: fitted, saved, refused where it does not fit, mixed with neighbors."""

import dataclasses
import threading

import numpy as np
import pytest
from predict_world import MODELS, TableHistory, make_layers, make_table

from aios_eccos.errors import ArtifactError
from aios_eccos.floor.learn import replayed
from aios_eccos.floor.planned import book_of
from aios_eccos.forecast.head import features
from aios_eccos.forecast.head.artifact import (
    Apart,
    data_hash,
    load_apart,
    load_head,
    read_about,
    save_head,
)
from aios_eccos.forecast.head.features import (
    count_features,
    document_rarity,
    hash_words,
    word_matrix,
)
from aios_eccos.forecast.head.fit import Mixer, fit_lengths, fit_success, log_odds, sigmoid
from aios_eccos.forecast.head.train import FOLDS, MAX_ROWS, folds, train, usable_rows
from aios_eccos.forecast.hybrid import HybridPredictor
from aios_eccos.forecast.pricing import price_table
from aios_eccos.forecast.retrieval import RetrievalPredictor
from aios_eccos.records import question_key
from aios_eccos.values import Model, Query

ODD = ["", "1.2.3 4,5. 6, 10,000.5 \ud800 \x00 é", "a" * 100_000, "9" * 400, "½ ٣٤ x²", "\n\n"]


@pytest.fixture(scope="module")
def trained():
    table, _ = make_table(500)
    return table, train(table, make_layers(table))


def predictor(trained, kind="hybrid"):
    return HybridPredictor(RetrievalPredictor(TableHistory(trained[0])), trained[1], kind)


def ask(table):
    return [Query(text) for text in table.texts]


@pytest.mark.parametrize("text", ODD)
def test_any_text_has_finite_features(text):
    row = count_features([text])
    assert row.shape == count_features(["plain"]).shape and np.isfinite(row).all()
    buckets, times = hash_words(text)
    assert len(buckets) == len(times) and np.isfinite(times).all()


def test_word_rows_have_unit_length_and_empty_ones_none():
    known = [hash_words(text) for text in ("one two", "three")]
    rows = word_matrix([hash_words("one two two"), hash_words("")], document_rarity(known))
    assert np.sqrt(rows.multiply(rows).sum(axis=1)).ravel().tolist()[0] == pytest.approx([1.0, 0.0])
    assert word_matrix([], document_rarity([])).shape[0] == 0


@pytest.mark.parametrize("kind", ["trained", "hybrid"])
def test_forecasts_near_the_truth(trained, kind):
    test, truth = make_table(300, seed=11)
    forecast = predictor(trained, kind).forecast(
        ask(test), test.embeddings, MODELS, make_layers(test)
    )
    own = trained[0].correctness.mean(axis=0)
    assert np.mean((forecast.success - truth) ** 2) < 0.15 * np.mean((own - truth) ** 2)
    assert np.abs(forecast.output_tokens - test.output_tokens).mean() < 12
    assert forecast.output_tokens.mean() == pytest.approx(test.output_tokens.mean(), rel=0.03)


def test_without_layers_neighbors_decide(trained):
    table = trained[0]
    hybrid = predictor(trained).forecast(ask(table)[:3], table.embeddings[:3], MODELS)
    near = RetrievalPredictor(TableHistory(table)).forecast(
        ask(table)[:3], table.embeddings[:3], MODELS
    )
    assert np.array_equal(hybrid.success, near.success)
    assert len(predictor(trained).forecast([], None, MODELS, np.empty((0, 8)))) == 0


def test_a_model_unknown_to_the_head_shares_the_questions_difficulty(trained):
    test, truth = make_table(200, seed=12)
    models = [*MODELS[:2], Model("large-2", strength=0.8)]
    forecast = predictor(trained).forecast(ask(test), test.embeddings, models, make_layers(test))
    assert np.corrcoef(forecast.success[:, 2], truth[:, 2])[0, 1] > 0.9
    assert np.mean((forecast.success[:, 2] - truth[:, 2]) ** 2) < 0.03


def test_verdicts_in_the_history_move_a_model_that_the_head_does_not_know(trained):
    table = trained[0]
    bad = np.where(np.arange(len(table)) < 200, 0.0, np.nan)[:, None]
    more = dataclasses.replace(
        table,
        models=(*table.models, "new"),
        correctness=np.concatenate([table.correctness, bad], axis=1),
        output_tokens=np.concatenate([table.output_tokens, bad], axis=1),
    )
    knows = HybridPredictor(RetrievalPredictor(TableHistory(more)), trained[1])
    pool = [*MODELS, Model("new"), Model("newer")]
    forecast = knows.forecast(ask(table)[:5], table.embeddings[:5], pool, make_layers(table)[:5])
    assert np.all(forecast.success[:, 3] < 0.5 * forecast.success[:, 4])


def test_a_query_far_from_history_is_forecast_with_less_confidence(trained):
    table = trained[0]
    layers = make_layers(table)[:1]
    odd = np.array([[0.0, -1.0]], dtype=np.float32)
    hybrid = predictor(trained, "trained")
    sure = hybrid.forecast(ask(table)[:1], table.embeddings[:1], MODELS, layers)
    unsure = hybrid.forecast(ask(table)[:1], odd, MODELS, layers)
    level = sigmoid(trained[1].mixer.level)
    assert unsure.novelty[0] == 1.0
    assert np.all(np.abs(unsure.success - level) < np.abs(sure.success - level))


def test_out_of_fold_forecasts_have_not_seen_their_record():
    table, _ = make_table(160, seed=2)
    layers = make_layers(table)
    flipped = table.correctness.copy()
    flipped[0] = 1 - flipped[0]
    before = train(table, layers).replay.alone[0]
    after = train(dataclasses.replace(table, correctness=flipped), layers).replay.alone[0]
    assert np.abs(before - after).max() < 0.02  # only the levels, by way of the mixer, move


def test_records_of_one_question_share_a_fold_and_folds_are_even():
    table, _ = make_table(40)
    copies = [table.texts[0], f"  {table.texts[1]}\n", table.texts[2].upper()]
    texts = (*table.texts, *copies)
    keys = [question_key(text, str(i)) for i, text in enumerate(texts)]
    part = folds(keys, 0)
    assert part[:3].tolist() == part[40:].tolist()
    assert np.bincount(part[:40]).tolist() == [8] * FOLDS


def test_few_records_are_refused_with_what_to_do():
    table, _ = make_table(20)
    with pytest.raises(ArtifactError, match="aios-eccos ingest"):
        train(table, make_layers(table))


def test_rows_without_text_or_outcome_are_left_out_and_many_are_sampled():
    table, _ = make_table(60)
    texts = ("", *table.texts[1:])
    correctness = table.correctness.copy()
    correctness[1] = np.nan
    holed = dataclasses.replace(table, texts=texts, correctness=correctness)
    assert usable_rows(holed).tolist() == list(range(2, 60))
    many, _ = make_table(MAX_ROWS + 10)
    assert len(usable_rows(many)) == MAX_ROWS


def test_a_model_without_any_outcome_gets_the_shared_function():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(800, 3)).astype(np.float32)
    truth = sigmoid(z @ np.array([2.0, 0, 0]))
    y = (rng.uniform(size=(800, 2)) < truth[:, None]).astype(float)
    y = np.concatenate([y, np.full((800, 1), np.nan)], axis=1)
    slopes, offsets = fit_success(z, y, np.zeros(3))
    assert slopes[0, 2] > 0.6 * slopes[0, 0] > 0.8
    assert offsets[2] == pytest.approx(0.0, abs=0.01)
    lengths, constant = fit_lengths(z, np.where(np.isnan(y), np.nan, 100.0))
    assert constant == pytest.approx(np.log(100), abs=0.01) and np.abs(lengths).max() < 0.02
    assert fit_lengths(z, np.full((800, 1), np.nan))[1] == pytest.approx(np.log(250.0), abs=0.01)


def test_mixer_trusts_the_better_source():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3000, 2)) * 1.5
    y = (rng.uniform(size=truth.shape) < sigmoid(truth)).astype(float)
    noise = rng.normal(size=truth.shape) * 1.5
    good_near = Mixer.fit(noise, truth, y)
    good_head = Mixer.fit(truth, noise, y)
    assert good_near.weights[2] > 0.7 > 0.3 > good_near.weights[0]
    assert good_head.weights[0] > 0.7 > 0.3 > good_head.weights[2]
    assert log_odds(np.array([0.0, 1.0])) == pytest.approx([-4.595, 4.595], abs=1e-3)


def test_saved_and_read_back_it_forecasts_the_same(trained, tmp_path):
    table, head = trained
    path = tmp_path / "state" / "head.safetensors"
    size = save_head(path, head, embedder="mini", data=data_hash(table), facts={"brier": 0.1})
    again = load_head(path, embedder="mini", models=("small", "other"))
    assert path.stat().st_size == size and not list(path.parent.glob("*.part"))
    assert read_about(path)["facts"] == {"brier": 0.1}
    assert len(again.version) == 8 and read_about(path)["arrays"].startswith(again.version)
    assert (predictor((table, again)).version, predictor((table, head)).version) == (
        again.version,
        "",
    )
    one, two = (
        predictor((table, h)).forecast(ask(table), table.embeddings, MODELS, make_layers(table))
        for h in (head, again)
    )
    assert one.success == pytest.approx(two.success, abs=2e-3)
    assert np.array_equal(again.replay.success, head.replay.success)


def test_refused_where_it_does_not_fit(trained, tmp_path, monkeypatch):
    path = tmp_path / "head.safetensors"
    save_head(path, trained[1], embedder="mini", data="x")
    with pytest.raises(ArtifactError, match=r"embedder 'mini', in use is 'maxi'.*train"):
        load_head(path, embedder="maxi")
    with pytest.raises(ArtifactError, match="none of the models"):
        load_head(path, embedder="mini", models=("nobody",))
    monkeypatch.setattr(features, "VERSION", 99)
    with pytest.raises(ArtifactError, match="features 2, in use is 99"):
        load_head(path, embedder="mini")


def test_damage_is_named(trained, tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(ArtifactError, match="no trained head"):
        load_head(path, embedder="mini")
    save_head(path, trained[1], embedder="mini", data="x")
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="damaged"):
        load_head(path, embedder="mini")
    path.write_bytes(raw[:100])
    with pytest.raises(ArtifactError, match="damaged"):
        load_head(path, embedder="mini")
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_head(path / "below", trained[1], embedder="mini", data="x")


def test_a_head_that_is_replaced_while_it_is_read_is_one_of_both(trained, tmp_path):
    path, other = tmp_path / "head.safetensors", tmp_path / "other"
    heads = []
    for number in range(2):
        apart = Apart(("a",), np.full((1, 4), number, dtype=np.float32))
        save_head(path, trained[1], embedder="mini", data="x", apart=apart)
        heads.append(path.read_bytes())
    ended = threading.Event()

    def replace():
        while not ended.is_set():
            for raw in heads:
                other.write_bytes(raw)
                other.replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        versions = {load_head(path, embedder="mini").version for _ in range(100)}
    finally:
        ended.set()
        thread.join(60)
    path.write_bytes(heads[0])
    version = load_head(path, embedder="mini").version
    assert version in versions
    assert load_apart(path, version).outputs.max() == 0
    path.write_bytes(heads[1])
    with pytest.raises(ArtifactError, match="was replaced"):
        load_apart(path, version)


def test_data_hash_moves_with_any_outcome(trained):
    table = trained[0]
    changed = table.correctness.copy()
    changed[3, 1] = 1 - changed[3, 1]
    assert data_hash(table) != data_hash(dataclasses.replace(table, correctness=changed))


def test_data_hash_moves_with_any_final_answer(trained):
    table = trained[0]
    changed = table.answers.copy()
    changed[3, 1] += 1
    assert data_hash(table) != data_hash(dataclasses.replace(table, answers=changed))


def test_book_prices_the_floor_on_unseen_forecasts(trained):
    prices = price_table(MODELS[::-1])
    book, plans = book_of(replayed(trained[1], prices), ())
    assert book.models == ("large", "middle", "small") and plans is None
    assert book.curve().cost_for(0.6) < book.curve().cost_for(0.75)
    assert book_of(replayed(trained[1], prices, "trained"), ())[0].curve() is not None
