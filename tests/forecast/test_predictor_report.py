"""Measuring predictors: pure numbers on few rows, and the two commands end to end."""

import dataclasses
import json
import re

import numpy as np
import pytest
import typer
from predict_world import MODELS, make_layers, make_table

from aios_eccos.cli import train as train_command
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.forecast.head.artifact import load_head
from aios_eccos.forecast.pricing import price_table
from aios_eccos.lab import predictor_checks, predictor_loops, predictor_report, predictor_studies
from aios_eccos.lab.commands import evaluate_predictor as command
from aios_eccos.lab.predictor_split import (
    Recorded,
    auc,
    calibration_error,
    cost_at,
    fit_split,
    forecast_rows,
    peer_costs,
    quality,
    reliability,
)


@pytest.fixture(scope="module")
def data():
    table, _ = make_table(500, seed=21)
    labels = tuple("test" if i % 10 < 3 else "train" for i in range(500))
    table = dataclasses.replace(table, splits=labels)
    return Recorded(table, make_layers(table), price_table(MODELS))


@pytest.fixture(scope="module")
def report(data):
    return predictor_report.evaluate_predictor(
        data, [0.55, 0.65], resplits=2, parts=("stream", "ratios", "certified")
    )


def test_auc_counts_pairs_and_ties_half():
    assert auc(np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 1.0])) == 1.0
    assert auc(np.array([0.5, 0.5]), np.array([0.0, 1.0])) == 0.5
    assert np.isnan(auc(np.array([0.5]), np.array([1.0])))
    assert auc(np.array([0.1, 0.2, 0.9]), np.array([0.0, 1.0, np.nan])) == 1.0


def test_reliability_fills_bins_evenly():
    p = np.linspace(0, 1, 100)
    said, had, share = reliability(p, (p > 0.5).astype(float), bins=4)
    assert share.tolist() == [0.25] * 4 and had.tolist() == [0, 0, 1, 1]
    assert np.all(np.diff(said) > 0)
    assert calibration_error(np.full(10, 0.3), np.ones(10)) == pytest.approx(0.7)


def test_cost_at_a_success_that_is_not_reached_is_unknown():
    assert np.isnan(cost_at(np.array([0.1, 0.5]), np.array([1.0, 2.0]), 0.6))
    assert cost_at(np.array([0.1, 0.5]), np.array([1.0, 4.0]), 0.3) == pytest.approx(2.0)


def test_every_predictor_has_a_row_for_every_split_in_the_designs_shape(report):
    body = report.body
    assert {(row["predictor"], row["split"]) for row in body["rows"]} == {
        (name, split) for name in ("retrieval", "trained", "hybrid") for split in (0, 1)
    }
    keys = {"predictor", "split", "brier", "auc", "calibration_error", "length_mae_tokens",
            "cost_mae_relative", "spend_bias", "floors"}  # fmt: skip
    assert keys <= set(body["rows"][0])
    assert set(body["rows"][0]["floors"][0]) == {
        "asked", "realised", "promised", "cost_per_call_usd",
    }  # fmt: skip
    assert {"eta", "observed_share", "delay", "error", "worst", "cost_ratio"} <= set(
        body["stream"][0]
    )
    assert {"peer", "ratio", "standard_error"} <= set(body["ratios"][0])
    json.dumps(body, allow_nan=False)


def test_floors_hold_and_control_holds_them_better(report):
    held = report.body["floors_held"]
    assert held["mean_abs_error"] < 2 * held["calibrated_mean_abs_error"]
    at = {(r["eta"], r["observed_share"], r["delay"]): r["error"] for r in report.body["stream"]}
    assert at[(0.1, 1.0, 0)] < at[(None, 0.0, 0)]


def test_certificates_name_what_they_rest_on(report):
    issued = [row for row in report.body["certified"] if row["realised"] is not None]
    assert issued and all(row["n"] > 0 and row["delta"] == 0.1 for row in issued)
    refused = [row for row in report.body["certified"] if row["realised"] is None]
    assert all(row["reachable"] < row["asked"] for row in refused)
    drawn = predictor_checks.certificates(report.body, "drawn")
    assert drawn["issued"] + drawn["refused"] == 20 and drawn["worst"] > -0.1
    assert predictor_checks.certificates(report.body, "no such way") == {}


def test_rounds_of_serving_learn_one_outcome_a_call_and_do_not_drift(data):
    rows = predictor_loops.rounds(data, 0, 0, [0.55, 0.65], turns=2)
    assert [row["round"] for row in rows] == [0, 1, 2]
    history, _ = data.index(0, 0)
    start = int(0.25 * len(history))
    assert rows[0]["outcomes"] == 3 * start
    assert rows[-1]["outcomes"] == 3 * start + len(history) - start
    assert rows[-1]["brier"] < rows[0]["brier"] + 0.02
    means = predictor_loops.mean_rounds(rows)
    assert means[0]["served_minus_floor"] is None and 0.5 < means[-1]["cost_to_start"] < 2
    json.dumps(means, allow_nan=False)


def test_a_template_is_taken_off_before_forecasting(data):
    """The stub sees no question where an agent's instructions stand around it."""
    seen = []

    def embed(texts):
        seen.append(list(texts))
        lost = ("careful tutor", "Use this format", "report to the planner")
        angle = np.array(
            [
                0.0 if any(words in text for words in lost)
                else float(re.findall(r"about (\d\.\d\d)", text)[0])
                for text in texts
            ]
        )  # fmt: skip
        embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        more = np.zeros((len(texts), 4), dtype=np.float32)
        return embeddings, np.concatenate([embeddings, embeddings**2, more], axis=1)

    rows = predictor_loops.templates(data, 0, 0, embed)
    at = {(row["template"], row["text"]): row for row in rows}
    assert at["bare", "as sent"]["auc_loss"] == 0
    for name in predictor_loops.TEMPLATES:
        assert at[name, "filtered"]["auc_loss"] < min(0.02, at[name, "as sent"]["auc_loss"])
    assert seen[0][0].startswith("question") and "tutor" in seen[1][0]


def test_few_records_new_model_and_shift(data, monkeypatch):
    few = predictor_studies.few_records(data, 0, 0, [0.6], 60)
    assert few["records"] == 60 and few["floor_error"] < 0.2
    rows = predictor_studies.new_model(data, 0, 0, predictor_studies.middle_model(data))
    assert rows[0]["model"] == "middle" and rows[-1]["brier"] < rows[0]["brier"] + 0.02
    halves = tuple("hard" if e[0] < 0 else "easy" for e in data.table.embeddings)
    split = dataclasses.replace(data, table=dataclasses.replace(data.table, tasks=halves))
    moved = predictor_studies.shift(split, 0)
    assert moved["task"] == "hard" and len(moved["rows"]) == 4
    assert moved["rows"][1]["shortfall_after_100"] <= moved["rows"][0]["shortfall_after_100"] + 0.02


def test_peers_and_default_floors(data):
    history, test = data.index(1, 0)
    f = forecast_rows(data, fit_split(data, history), history, test)["hybrid"]
    costs = peer_costs(data, history, test, f, [0.55])
    assert set(costs) == {"eccos", "utility_knn", "neighbour_threshold", "hull"}
    assert costs["eccos"][0] < costs["hull"][0] * 1.1
    floors = predictor_studies.default_floors(data)
    assert len(floors) == 5 and floors == sorted(floors)
    assert 0 < quality(f)["brier"] < 0.25


def test_a_file_without_labels_has_no_split_of_its_own(data):
    bare = dataclasses.replace(data.table, splits=("",) * 500)
    with pytest.raises(DataError, match="split 0"):
        dataclasses.replace(data, table=bare).index(0, 0)
    with pytest.raises(DataError, match="'nobody' is not in the data: small"):
        predictor_report.evaluate_predictor(data, [0.6], new="nobody")


def test_checks_name_each_target_of_a_known_data_set(report):
    assert predictor_checks.checks("other", report.body) == []
    names = [check.name for check in predictor_checks.checks("math10", report.body)]
    assert "shift: shortfall after 100 calls" not in names
    assert "Brier" in names and "controlled: error" in names and "certified: worst" in names
    assert predictor_checks.Check("x", 1.0, 0.5, at_least=True).ok
    assert not predictor_checks.Check("x", 1.0, 0.5).ok


@pytest.mark.parametrize(("text", "wanted"), [(None, []), ("0.1,0.2", [0.1, 0.2]),
                                              ("0.5:0.7:0.1", [0.5, 0.6, 0.7])])  # fmt: skip
def test_lists_are_commas_or_ranges(text, wanted):
    assert command.shares("floors", text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["a", "0:1", "0:1:0", "2", "1:0:1"])
def test_bad_lists_are_named(text):
    with pytest.raises(typer.BadParameter, match="--floors"):
        command.shares("floors", text)


class Stub:
    """Embeds a question of the little world by the angle in its text."""

    name, dimension, identity = "stub", 2, "stub"

    def embed_with_layers(self, texts):
        angle = np.array([float(text.rsplit(" ", 1)[1]) for text in texts])
        embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        layers = np.concatenate([embeddings, embeddings**2, embeddings, embeddings], axis=1)
        return embeddings, layers

    def embed(self, texts):
        return self.embed_with_layers(texts)[0]


@pytest.fixture
def files(data, tmp_path, monkeypatch):
    from aios_eccos.history import open as opening

    monkeypatch.setattr(opening, "open_embedder", lambda *args, **more: Stub())
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    t = data.table
    rows = [
        {"query_id": t.ids[i], "query": t.texts[i], "input_token_length": 50,
         "split": "test" if i % 3 == 0 else "val" if i % 10 == 1 else "train",
         "outputs": [{"model_name": name, "correctness": bool(t.correctness[i, j]),
                      "output_token_length": int(t.output_tokens[i, j])}
                     for j, name in enumerate(t.models)]}
        for i in range(300)
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    prices = {m.name: {"input": m.input_price * 1e6, "output": m.output_price * 1e6}
              for m in MODELS}  # fmt: skip
    (tmp_path / "prices.json").write_text(json.dumps({"models": prices}))
    return path


def test_train_writes_a_head_that_loads_and_reports_on_val(files, capsys):
    out = files.parent / "head.safetensors"
    train_command.train(data=[files], out=out, json_file="-")
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "aios-eccos/train/1"
    assert body["records"] + body["held_back"] == 200 and body["held_back"] > 0
    assert [row["model"] for row in body["models"]] == ["large", "middle", "small"]
    assert load_head(out, embedder="stub").models == ("large", "middle", "small")
    with pytest.raises(ConfigError, match="exclude each other"):
        train_command.train(data=[files], from_history=True)


def test_evaluate_predictor_prints_json_and_draws(files, capsys):
    pytest.importorskip("matplotlib")
    plot = files.parent / "r.png"
    command.evaluate_predictor(
        data=files, prices=files.parent / "prices.json", resplits=1, parts="none", json_file="-",
        plot=plot,
    )  # fmt: skip
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "aios-eccos/evaluate-predictor/1" and len(body["rows"]) == 3
    assert plot.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(typer.BadParameter, match="--parts"):
        command.evaluate_predictor(data=files, resplits=1, parts="nothing")
