"""Learning while serving: exploration with known chances, and re-fits that may be turned down."""

import dataclasses
import io

import numpy as np
import pytest
from doubly_robust import doubly_robust
from predict_world import Layered, make_layers, make_table

from aios_eccos.errors import EmbedderError
from aios_eccos.floor.explore import ENOUGH, exploration_chances, explore
from aios_eccos.forecast.head import refit as module
from aios_eccos.forecast.head.artifact import load_apart, load_head, save_head
from aios_eccos.forecast.head.refit import (
    Asked,
    BackgroundRefit,
    carry_out,
    read_task,
    refit,
    write_task,
)
from aios_eccos.forecast.head.train import train
from aios_eccos.forecast.parts import calibration, held_back, parts_of
from aios_eccos.history import open as opening


def test_exploration_goes_to_models_with_few_verdicts_and_stays_capped():
    judged, allowed = np.array([0.0, 9.0, 500.0, 0.0]), np.array([True, True, True, False])
    chances = exploration_chances(judged, allowed, 0.02)
    assert chances.sum() == pytest.approx(0.02)
    assert chances[0] == pytest.approx(10 * chances[1]) and chances[2] == chances[3] == 0
    assert exploration_chances(np.array([ENOUGH]), np.array([True]), 0.02).sum() == 0
    assert exploration_chances(judged, allowed, 0.0).sum() == 0


def test_a_draw_names_the_model_and_its_propensity():
    chances = np.array([0.01, 0.0, 0.03])
    assert explore(chances, 0.005) == (0, 0.01)
    assert explore(chances, 0.02) == (2, 0.03)
    assert explore(chances, 0.04) is None and explore(np.empty(0), 0.0) is None


def test_doubly_robust_mends_forecasts_that_are_off():
    rng = np.random.default_rng(0)
    n, truth = 60_000, 0.6
    forecast = np.full(n, 0.9)
    explored = rng.uniform(size=n) < 0.02
    outcome = np.where(explored, rng.uniform(size=n) < truth, np.nan)
    estimate = doubly_robust(forecast, outcome, np.full(n, 0.02))
    assert abs(estimate.value - truth) < 4 * estimate.standard_error < 0.1
    assert estimate.effective == pytest.approx(explored.sum())


@pytest.mark.parametrize(("verdicts", "error"), [(1.0, 0.009), (0.5, 0.013), (0.2, 0.02)])
def test_calls_that_nobody_judged_do_not_pull_it_to_the_forecast(verdicts, error):
    rng = np.random.default_rng(1)
    n, truth = 100_000, 0.8
    judged = rng.uniform(size=n) < 0.02 * verdicts
    outcome = np.where(judged, rng.uniform(size=n) < truth, np.nan)
    estimate = doubly_robust(np.full(n, 0.5), outcome, np.full(n, 0.02))
    assert estimate.value == pytest.approx(truth, abs=2 * error)
    assert estimate.standard_error == pytest.approx(error, rel=0.1), "fewer verdicts, wider"


@pytest.mark.parametrize("truth", [0.3, 0.6, 0.9])
def test_its_interval_covers_the_truth_also_with_a_fifth_of_the_verdicts(truth):
    rng = np.random.default_rng(2)
    n, inside, rounds = 5_000, 0, 400
    for _ in range(rounds):
        hard = rng.uniform(-0.1, 0.1, n)
        chance = np.where(rng.uniform(size=n) < 0.5, 0.02, 0.01)
        judged = rng.uniform(size=n) < 0.2 * chance
        outcome = np.where(judged, rng.uniform(size=n) < truth + hard, np.nan)
        found = doubly_robust(0.5 + hard, outcome, chance)
        inside += abs(found.value - truth) <= 1.96 * found.standard_error
    assert inside / rounds > 0.92


def test_calls_that_could_not_explore_it_say_nothing_of_it():
    forecast, outcome = np.array([0.5, 0.7, 0.9]), np.array([1.0, np.nan, np.nan])
    chance = np.array([0.02, 0.02, np.nan])
    assert doubly_robust(forecast, outcome, chance) == doubly_robust(
        forecast[:2], outcome[:2], chance[:2]
    )


def test_without_outcomes_it_is_the_forecast_and_says_so():
    estimate = doubly_robust(np.array([0.5, 0.7]), np.full(2, np.nan), np.full(2, 0.02))
    assert estimate.value == pytest.approx(0.6) and estimate.effective == 0
    with pytest.raises(ValueError, match="propensity"):
        doubly_robust(np.array([0.5]), np.array([1.0]), np.array([np.nan]))
    with pytest.raises(ValueError, match="no calls"):
        doubly_robust(np.empty(0), np.empty(0), np.empty(0))


def test_a_refit_replaces_the_head_and_keeps_the_old_one(tmp_path):
    table, _ = make_table(200, seed=5)
    path = tmp_path / "head.safetensors"
    first = refit(table, path, Layered(table), Asked())
    assert first.taken and first.old is None and first.new < 0.25
    assert first.records == int((~held_back(table.keys)).sum()) < len(table)
    again = refit(table, path, Layered(table), Asked())
    assert again.taken and again.old == pytest.approx(again.new, abs=1e-3)
    assert path.with_suffix(".previous").exists()


def test_a_worse_head_is_turned_down(tmp_path):
    table, _ = make_table(300, seed=6)
    layers, path = make_layers(table), tmp_path / "head.safetensors"
    save_head(path, train(table.rows(~held_back(table.keys)), layers[~held_back(table.keys)]),
              embedder="mini", data="good")  # fmt: skip
    before = path.read_bytes()
    lies = np.where(held_back(table.keys)[:, None], table.correctness, 1 - table.correctness)
    result = refit(dataclasses.replace(table, correctness=lies), path, Layered(table), Asked())
    assert not result.taken and result.new > result.old and path.read_bytes() == before


def test_rows_stay_on_their_side():
    table, _ = make_table(400, seed=7)
    splits = tuple("test" if i % 5 == 0 else "train" for i in range(400))
    correctness = table.correctness.copy()
    correctness[7] = np.nan  # nobody judged it
    correctness[:40, 1:] = np.nan  # live calls: one verdict each
    table = dataclasses.replace(table, splits=splits, correctness=correctness)
    parts = parts_of(table, calibrate=True)
    sides = [set(part.tolist()) for part in (parts.fitted, parts.held, parts.apart)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert 7 not in set.union(*sides) and all(i >= 40 for i in sides[2])
    assert all(splits[i] != "test" for i in sides[0] | sides[1])
    assert 70 <= len(sides[2]) <= 110, "one in four of 360"
    assert set(parts.apart.tolist()) <= set(np.flatnonzero(calibration(table.keys)).tolist())
    whole = parts_of(table, calibrate=False)
    assert len(whole.apart) == 0 and sides[0] < set(whole.fitted.tolist())
    small, there = parts.only(table)
    assert [small.ids[i] for i in there.held] == [table.ids[i] for i in parts.held]


def test_what_calibrates_is_not_fitted_on_but_kept_with_the_head(tmp_path):
    table, _ = make_table(300, seed=5)
    path, layers = tmp_path / "head.safetensors", make_layers(table)
    assert refit(table, path, Layered(table), Asked(calibrate=True)).taken
    apart = load_apart(path)
    assert set(apart.ids) == set(np.array(table.ids)[calibration(table.keys)].tolist())
    rows = table.rows([table.ids.index(i) for i in apart.ids])
    again = load_head(path, embedder="mini").machine(
        layers[[table.ids.index(i) for i in apart.ids]], rows.texts
    )
    np.testing.assert_allclose(apart.outputs, again, atol=2e-3)
    plain = tmp_path / "plain.safetensors"
    refit(table, plain, Layered(table), Asked())
    assert load_apart(plain) is None


def test_too_little_to_fit_is_said(tmp_path):
    table, _ = make_table(10)
    result = refit(table, tmp_path / "h", Layered(table), Asked())
    assert not result.taken and "records" in result.error


def test_a_task_travels_as_a_file():
    table, _ = make_table(5)
    asked = Asked(calibrate=True, strengths={"small": 0.4})
    again, as_asked = read_task(task(table, asked))
    assert again.texts == table.texts and np.array_equal(again.correctness, table.correctness)
    assert as_asked == asked


def task(table, asked=None):
    file = io.BytesIO()
    write_task(file, table, asked or Asked())
    return file


class Stub:
    name = "stub"

    def embed_with_layers(self, texts):
        table, _ = make_table(120, seed=8)
        assert tuple(texts) == table.texts
        return table.embeddings, make_layers(table)


def test_the_process_fits_a_head_and_says_what_keeps_it_from_that(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "open_embedder", lambda setting, cache: Stub())
    table, _ = make_table(120, seed=8)
    assert carry_out(task(table), tmp_path / "head.safetensors").taken
    assert load_head(tmp_path / "head.safetensors", embedder="stub").models == table.models

    def missing(setting, cache):
        raise EmbedderError("no embedder")

    monkeypatch.setattr(opening, "open_embedder", missing)
    assert carry_out(task(table), tmp_path / "h").error == "no embedder"


class Ended:
    returncode = 3

    def __init__(self, *args, **more):
        self.ended = False

    def poll(self):
        return 3 if self.ended else None

    def terminate(self):
        self.ended = True

    def wait(self):
        return 3


def test_one_refit_at_a_time_and_nothing_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(module.subprocess, "Popen", Ended)
    table, _ = make_table(5)
    background = BackgroundRefit(tmp_path / "head.safetensors")
    assert background.poll() is None
    assert background.start(table) and not background.start(table)
    assert background.running and background.poll() is None
    background._running[0].ended = True
    assert "ended with 3" in background.poll().error
    assert not background.running and not list(tmp_path.iterdir())
    background.start(table)
    background.close()
    assert not list(tmp_path.iterdir())


def test_a_process_that_cannot_start_is_an_error_of_ours(tmp_path, monkeypatch):
    def fails(*args, **more):
        raise OSError("no memory")

    monkeypatch.setattr(module.subprocess, "Popen", fails)
    with pytest.raises(module.ArtifactError, match="no memory"):
        BackgroundRefit(tmp_path / "h").start(make_table(5)[0])
