"""Studies of forecasts and floors on a small recorded world, through the product's own classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from evaluate_world import CircleEmbedder
from typer.testing import CliRunner

from aios_eccos.errors import DataError
from aios_eccos.floor.control import BOOST, ETA
from aios_eccos.lab.commands.evaluate_predictor import evaluate_predictor as command
from aios_eccos.lab.dataset import Dataset, recorded
from aios_eccos.lab.problem import Arrival, problem_of
from aios_eccos.lab.studies import little, streams
from aios_eccos.lab.studies import report as checks
from aios_eccos.lab.studies.little import certified, mean_rounds, rounds
from aios_eccos.lab.studies.quality import (
    TEMPLATES,
    default_floors,
    floor_rows,
    held,
    peer_costs,
    quality,
    templates,
)
from aios_eccos.lab.studies.run import Asked, evaluate_predictor
from aios_eccos.lab.studies.streams import end_to_end

FLOORS = [0.55, 0.65]


@pytest.fixture(scope="module")
def report(circle):
    parts = ("stream", "ratios", "certified", "budgets")
    return evaluate_predictor(circle, Asked(tuple(FLOORS), resplits=2, parts=parts))[0]


@pytest.fixture(scope="module")
def hybrid(circle):
    return problem_of(circle, 0, "hybrid", Arrival(order="file"))


def test_every_predictor_has_a_row_for_every_split_in_the_designs_shape(report):
    body = report
    assert {(row["predictor"], row["split"]) for row in body["rows"]} == {
        (name, split) for name in ("retrieval", "trained", "hybrid") for split in (0, 1)
    }
    keys = {"predictor", "split", "brier", "auc", "calibration_error", "length_mae_tokens",
            "cost_mae_relative", "spend_bias", "floors"}  # fmt: skip
    assert keys == set(body["rows"][0])
    assert set(body["rows"][0]["floors"][0]) == {
        "asked", "realised", "promised", "cost_per_call_usd",
    }  # fmt: skip
    assert set(body["stream"][0]) == {
        "eta", "boost", "observed_share", "delay", "error", "worst", "cost_ratio", "share_at_end",
    }  # fmt: skip
    assert {"peer", "ratio", "standard_error"} <= set(body["ratios"][0])
    json.dumps(body, allow_nan=False)


def test_floors_hold_as_well_as_a_calibrated_forecasters(report):
    found = report["floors_held"]
    assert found["mean_abs_error"] < 1.5 * found["calibrated_mean_abs_error"]
    assert found["worst_in_sd"] > -3


def test_held_is_signed_realised_less_asked():
    errors, sd = np.array([[-0.02, -0.04]]), np.full((1, 2), 0.02)
    found = held(errors, sd, np.array([-0.03]), 0)
    assert found["bias"] == pytest.approx(-0.03)
    # These rows are as much harder than the history for every model.
    assert found["bias_at_equal_ease"] == pytest.approx(0.0)
    assert (found["worst"], found["worst_in_sd"]) == (pytest.approx(-0.04), pytest.approx(-2.0))
    # The mean of |N(0, sd)| is sd sqrt(2 / pi).
    assert found["calibrated_mean_abs_error"] == pytest.approx(0.02 * np.sqrt(2 / np.pi), rel=0.05)


def test_floors_out_of_the_range_are_missed_to_the_known_side(hybrid):
    low, high = floor_rows(hybrid, [0.0, 1.0])
    means = hybrid.outcomes.mean(axis=0)
    assert low["realised"] == pytest.approx(means[0])
    assert high["realised"] == pytest.approx(means[2], abs=0.03)
    assert low["cost_per_call_usd"] < high["cost_per_call_usd"]


def test_eccos_costs_less_than_every_peer_at_equal_success(circle):
    """On the mean of five splits: a split's test rows are few, and one may favor a peer."""
    logs: dict[str, list[float]] = {}
    for split in range(5):
        problem = problem_of(circle, split, "hybrid", Arrival(order="file"))
        for peer, costs in peer_costs(problem, [0.55, 0.6, 0.65, 0.7]).items():
            logs.setdefault(peer, []).append(float(np.nanmean(np.log(costs))))
    means = {peer: float(np.mean(values)) for peer, values in logs.items()}
    assert set(means) == {"eccos", "utility_knn", "neighbour_threshold", "hull"}
    assert means["eccos"] < means["utility_knn"]
    assert means["eccos"] < min(means["neighbour_threshold"], means["hull"]) - 0.2


def test_forecasts_of_the_circle_are_good(hybrid):
    assert quality(hybrid)["brier"] < 0.15 < 0.8 < quality(hybrid)["auc"]


def test_certificates_are_kept_and_refused_above_what_they_can_reach(report, circle):
    found = checks.certificates(report, "drawn")
    assert found["issued"] + found["refused"] == 20
    assert found["share_kept"] >= 0.9 and found["worst"] > -0.03
    assert checks.certificates(report, "no such way") == {}
    rows = [row for row in report["certified"] if row["realised"] is not None]
    assert all(row["n"] > 0 and row["delta"] == 0.1 for row in rows)
    for row in certified(circle, 0, 0, [0.95]):
        assert row["realised"] is None and row["reachable"] < 0.95


def test_control_follows_calls_that_change_and_a_larger_step_follows_faster(circle):
    moved = streams.shift(circle, 0)
    assert moved["task"] == "hard"
    short = {(row["eta"], row["boost"]): row["shortfall_after_100"] for row in moved["rows"]}
    # History's price keeps sending the hard half to the cheapest model.
    assert short[None, 1.0] > 0.2
    assert short[ETA, BOOST] < 0.06
    assert short[2 * ETA, 1.0] < short[ETA, 1.0] < short[None, 1.0] - 0.1
    assert short[ETA, BOOST] < short[ETA, 1.0]


def test_without_verdicts_nothing_is_controlled(report):
    at = {(r["eta"], r["observed_share"], r["delay"]): r for r in report["stream"]}
    none, unseen = at[None, 0.0, 0], at[ETA, 0.05, 0]
    # Seven verdicts of 140 calls are fewer than control asks for.
    assert (none["error"], none["cost_ratio"]) == (unseen["error"], unseen["cost_ratio"])
    assert none["share_at_end"] == 0


def test_budgets_are_kept(report):
    ratios = [row["cost_to_budget"] for row in report["budgets"]]
    assert len(ratios) == 7
    assert 0.97 < np.mean(ratios) < 1.004
    assert max(ratios) < 1.03
    success = [row["realised"] for row in report["budgets"]]
    assert success == sorted(success)


def test_an_engine_serves_and_is_judged(hybrid):
    default, absolute = end_to_end(hybrid, 0.65, 0)
    assert (default["asked"], absolute["asked"]) == ("95 % of the strongest", "0.65")
    strongest = hybrid.history.correctness.mean(axis=0).max()
    assert default["floor"] == pytest.approx(0.95 * strongest, abs=0.01)
    for row in (default, absolute):
        assert row["realised"] == pytest.approx(row["floor"], abs=0.06)
        assert row["cost_per_call_usd"] < 0.8 * row["strongest_cost_usd"]
        assert row["strongest"] == pytest.approx(hybrid.outcomes[:, 2].mean())


def test_rounds_of_serving_learn_one_outcome_a_call_and_do_not_drift(circle):
    rows = rounds(circle, 0, 0, FLOORS, turns=2)
    assert [row["round"] for row in rows] == [0, 1, 2]
    history, _ = circle.split(0, 0)
    start = int(0.25 * len(history))
    assert rows[0]["outcomes"] == 3 * start
    assert rows[-1]["outcomes"] == 3 * start + len(history) - start
    assert rows[-1]["brier"] < rows[0]["brier"] + 0.002
    means = mean_rounds(rows)
    assert means[0]["served_minus_floor"] is None and means[0]["cost_to_start"] is None
    assert abs(means[-1]["served_minus_floor"]) < 0.1
    json.dumps(means, allow_nan=False)


def test_more_records_forecast_better(circle):
    few, more = (little.few_records(circle, 0, 0, FLOORS, n) for n in (45, 250))
    assert (few["records"], more["records"]) == (45, 250)
    assert more["brier"] < few["brier"]
    assert more["floor_error"] < 0.09
    for row in (few, more):
        assert abs(row["bias"]) <= row["floor_error"]
    unreachable = little.few_records(circle, 0, 0, [1.0], 250)
    assert unreachable["bias"] == pytest.approx(-unreachable["floor_error"])


def test_a_new_model_is_forecast_by_what_is_hard_for_the_others(circle):
    name = little.middle_model(circle)
    rows = [little.new_model(circle, 0, 0, name, count) for count in (*little.FRESH, None)]
    assert [row["outcomes"] for row in rows[:3]] == [0, 20, 100]
    assert {row["model"] for row in rows} == {"middle"}
    # Its mean alone would have a Brier of p (1 - p), about .24.
    assert max(row["brier"] for row in rows) < 0.17
    assert rows[-1]["brier"] < rows[1]["brier"]


class Distracted(CircleEmbedder):
    """Sees no question where an agent's instructions stand around it."""

    def embed(self, texts):
        lost = ("careful tutor", "Use this format", "report to the planner")
        bare = ["" if any(words in text for words in lost) else text for text in texts]
        return super().embed(bare)


def test_a_template_is_taken_off_before_forecasting(dataset, models):
    data = recorded(dataset, models, Distracted())
    rows = templates(problem_of(data, 0, "hybrid", Arrival(order="file")), 0)
    at = {(row["template"], row["text"]): row for row in rows}
    assert at["bare", "as sent"]["auc_loss"] == 0
    for name in TEMPLATES:
        assert at[name, "as sent"]["auc_loss"] > 0.02
        assert at[name, "filtered"]["auc_loss"] < 0.02


def test_default_floors_lie_between_the_cheapest_and_the_strongest_model(circle):
    floors = default_floors(circle)
    means = circle.table.correctness.mean(axis=0)
    assert len(floors) == 5 and floors == sorted(floors)
    assert means[0] < floors[0] and floors[-1] < means[2]


def test_a_file_without_labels_has_no_split_of_its_own(dataset, models, circle):
    bare = tuple(replace(record, split="") for record in dataset.records)
    data = recorded(Dataset("bare", bare, (), "x"), models, CircleEmbedder())
    with pytest.raises(DataError, match="split 0"):
        data.split(0, 0)
    with pytest.raises(DataError, match="'nobody' is not in the data: cheap"):
        evaluate_predictor(circle, Asked((0.6,), new="nobody"))


def test_checks_name_each_target_of_a_known_data_set(report):
    assert checks.checks("other", report) == []
    names = [check.name for check in checks.checks("math10", report)]
    assert "shift: shortfall after 100 calls" not in names
    for name in ("Brier", "controlled: error", "certified: worst", "budgets: mean cost / budget"):
        assert name in names
    assert checks.Check("x", 1.0, 0.5, at_least=True).ok
    assert not checks.Check("x", 1.0, 0.5).ok


@pytest.fixture
def run(monkeypatch, tmp_path, files):
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *a, **k: CircleEmbedder())
    app = typer.Typer()
    app.command()(command)
    words = ("--data", files[0], "--prices", files[1], "--resplits", "1")
    return lambda *more: CliRunner().invoke(app, [str(word) for word in (*words, *more)])


def test_the_command_prints_json_and_draws(run, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "r.png"
    done = run("--parts", "none", "--json", "-", "--plot", plot)
    body = json.loads(done.stdout)
    assert body["schema"] == "aios-eccos/evaluate-predictor/1" and len(body["rows"]) == 3
    assert len(body["floors"]) == 5
    assert plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("words", [("--parts", "nothing"), ("--floors", "2"), ("--targets", "0:1")])
def test_words_that_make_no_sense_are_refused(run, words):
    done = run(*words)
    assert done.exit_code == 2
    assert words[0] in done.output
