"""From an empty history without labels: what is paid, what is saved, and what is said of it."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import typer
from evaluate_world import NAMES, PRICES, CircleEmbedder, rows
from typer.testing import CliRunner

from aios_eccos.config import Floor, parse_settings
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.lab.answers import Answers, keys_in_file, keys_of
from aios_eccos.lab.commands.evaluate import evaluate
from aios_eccos.lab.dataset import load_dataset
from aios_eccos.lab.onboarding import Terms, facts_at, stream, summary_of
from aios_eccos.values import Model


def write(path, made):
    path.write_text("\n".join(json.dumps(row) for row in made))
    return path


def with_answers(made):
    """Right answers agree; each wrong one is another, and a model's last has none."""
    for row in made:
        for out in row["outputs"]:
            out["answer"] = "right" if out["correctness"] else f"wrong {out['model_name']}"
    return made


@pytest.fixture
def command(monkeypatch, tmp_path):
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *a, **k: CircleEmbedder())
    app = typer.Typer()
    app.command()(evaluate)
    prices = tmp_path / "prices.json"
    table = {name: {"input": read, "output": said} for name, (read, said) in PRICES.items()}
    prices.write_text(json.dumps({"models": table}))

    def run(made, *words):
        data = write(tmp_path / "data.jsonl", made)
        words = ("--data", data, "--prices", prices, "--mode", "onboarding", *words)
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


def answers(n=300, good=0.95):
    """`cheap` answers as `strong` does but for a few; both are right in nine of ten."""
    rng = np.random.default_rng(1)
    strong = (rng.uniform(size=n) < 0.9).astype(float)
    other = rng.uniform(size=n) > good
    cheap = np.where(other, 1 - strong, strong)
    angle = rng.uniform(0, np.pi, n)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    success = np.stack([cheap, strong], axis=1)
    keys = np.where(success > 0, "right", "wrong").astype(object)
    models = (
        Model("cheap", input_price=1e-7, output_price=1e-7),
        Model("strong", input_price=1e-5, output_price=1e-5),
    )
    return Answers(models, success, np.full((n, 2), 200.0), np.full(n, 100.0), keys, vectors)


def terms(**changes):
    settings = parse_settings({"quality_floor": "90 %", "audit": "5 %"})
    return Terms(**({"settings": settings, "judge": 1, "judge_error": 0.0} | changes))


def test_a_cheap_model_that_is_as_good_earns_its_calls() -> None:
    found = stream(answers(), terms(), 0, 0)
    assert found.turns[-1][1] == "served 0.9"
    assert facts_at(found, 300)["served_share"] > 0.3
    assert summary_of(found, Floor(0.9, relative=True))["last_third_cost_ratio"] < 0.5


def test_a_cheap_model_that_is_poor_serves_no_more_than_the_floor_allows() -> None:
    found = stream(answers(good=0.5), terms(), 0, 0)
    assert facts_at(found, 300)["served_share"] < 0.4
    assert summary_of(found, Floor(0.9, relative=True))["success_gap"] > -0.1 * 0.9 - 0.02


def test_sums_are_cumulative_and_cost_holds_audits_and_judge() -> None:
    found = stream(answers(), terms(), 0, 0)
    first, whole = facts_at(found, 100), facts_at(found, 300)
    assert first["cost_usd"] < whole["cost_usd"]
    answered = float(found.cost.sum())
    assert whole["cost_usd"] == pytest.approx(answered + whole["audit_usd"] + whole["judge_usd"])
    assert whole["strongest_cost_usd"] == pytest.approx(300 * 300 * 1e-5)


def test_a_shortfall_is_from_the_floor_in_points_too() -> None:
    found = stream(answers(), terms(), 0, 0)
    share, points = Floor(1.0, relative=True), Floor(1.0, relative=True, points=0.1)
    by = [summary_of(found, floor)["later_shortfall"] for floor in (share, points)]
    assert by[0] - by[1] == pytest.approx(0.1)


def test_audits_stay_within_their_money_but_for_one_call() -> None:
    found = stream(answers(), terms(), 0, 0)
    paid = np.cumsum(found.audit + found.judge)
    may = 0.15 + 0.05 * np.cumsum(found.cost)
    assert (paid <= may + (found.audit + found.judge).max()).all()


def test_the_same_seed_gives_the_same_stream_and_another_order_another() -> None:
    one, same, other = (stream(answers(), terms(), 0, number) for number in (1, 1, 2))
    np.testing.assert_array_equal(one.spent, same.spent)
    assert (one.success != other.success).any()


def test_a_model_made_worse_is_noticed() -> None:
    found = stream(answers(n=800, good=0.99), terms(worse="auto"), 0, 0)
    kinds = [what for call, what in found.turns if call >= 400]
    assert kinds[0] == "worse cheap"
    assert any(kind.startswith(("changed", "alarm")) for kind in kinds)


def test_the_command_writes_rows_for_each_order_and_a_summary(command, tmp_path) -> None:
    target, picture = tmp_path / "out.json", tmp_path / "out.png"
    made = with_answers(rows(n=150))
    done = command(made, "--orders", 2, "--floor", "80 %", "--json", target, "--plot", picture)
    assert done.exit_code == 0, done.output
    report = json.loads(target.read_text())
    assert report["schema"] == "aios-eccos/onboarding/1"
    assert [(row["order"], row["at"]) for row in report["rows"]] == [
        (0, 100), (0, 150), (1, 100), (1, 150),
    ]  # fmt: skip
    assert set(report["rows"][0]) == {
        "order", "at", "cost_usd", "audit_usd", "judge_usd", "strongest_cost_usd", "success",
        "strongest_success", "served_share",
    }  # fmt: skip
    assert report["strongest"] == "strong"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "without labels" in done.output
    assert f"judge: {report['judge']}" in done.output


def test_answers_are_read_from_a_file_too(command, tmp_path) -> None:
    made = rows(n=60)
    keys = {row["query_id"]: dict.fromkeys(NAMES, "same") for row in made}
    path = tmp_path / "answers.json.gz"
    path.write_bytes(gzip.compress(json.dumps(keys).encode()))
    done = command(made, "--orders", 1, "--answers", path)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--floor", "0.9"], "share of the strongest"),
        (["--judge", "nobody"], "--judge nobody"),
        (["--worse", "nobody"], "--worse nobody"),
    ],
)
def test_options_that_make_no_sense_are_refused(command, words, said) -> None:
    done = command(with_answers(rows(n=30)), *words)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_records_without_answers_are_refused(command) -> None:
    done = command(rows(n=30))
    assert isinstance(done.exception, DataError)
    assert "--answers" in str(done.exception)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 3}', "3"])
def test_a_file_of_answers_of_another_shape_is_refused(tmp_path, text) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(DataError, match="wanted"):
        keys_in_file(path)


def test_answers_that_are_no_text_are_compared_as_json(tmp_path) -> None:
    (made,) = rows(n=1)
    for out, key in zip(made["outputs"], ({"b": 1, "a": 2}, {"a": 2, "b": 1}, None), strict=True):
        out["answer"] = key
    found = keys_of(load_dataset([write(tmp_path / "data.jsonl", [made])]))[made["query_id"]]
    assert found["cheap"] == found["middle"] is not None
    assert found["strong"] is None
