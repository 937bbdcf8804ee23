"""The whole command on a small recorded world: tables, JSON, pictures, page."""

import json
import math

import pytest
import typer
from evaluate_world import NAMES, CircleEmbedder, rows, write
from typer.testing import CliRunner

from aios_eccos.cli.output import numbers, write_json
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.lab.commands.evaluate import evaluate
from aios_eccos.lab.parts import summarize_trials, trials
from aios_eccos.lab.problem import Arrival
from aios_eccos.lab.run import Wanted, play_all, steps
from aios_eccos.lab.strategy import Played, Setting
from aios_eccos.lab.summary import summarize
from aios_eccos.observe.shape import clean


@pytest.fixture
def command(monkeypatch, tmp_path, files):
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("aios_eccos.history.open.open_embedder", lambda *a, **k: CircleEmbedder())
    app = typer.Typer()
    app.command()(evaluate)
    data, prices = files

    def run(*words, data=data):
        words = ("--data", str(data), "--prices", str(prices), *words)
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


def row(strategy, split, success, cost, setting=None, predictor=None):
    return Played(
        strategy=strategy, predictor=predictor, setting=setting or Setting(), split=split,
        success=success, promised=math.nan, cost=cost, violations=0, decision_s=1e-5,
        share={"x": 0.5, "y": 0.5}, tasks={"a": success - 0.1, "b": success + 0.1},
    )  # fmt: skip


def hand_made():
    """Two splits; eccos reaches every success at half of `rival`'s cost."""
    made = []
    for split in (0, 1):
        made += [row("single:x", split, 0.4, 1e-5), row("single:y", split, 0.8, 1e-3)]
        for success, cost in ((0.4, 1e-5), (0.6, 4e-5), (0.8, 1.6e-4)):
            asked = Setting("floor", success)
            made.append(row("eccos", split, success, cost, asked, "retrieval"))
            made.append(row("rival", split, success, 2 * cost, Setting("lambda", success)))
            made.append(row("clairvoyant", split, success, cost / 4, asked))
            made.append(row("neighbour_threshold", split, 0.6, 4e-4, Setting("threshold", 0.7)))
    return made


def test_a_rival_of_twice_the_cost_is_said_to_cost_twice():
    summary = summarize(hand_made())
    lines = {line.strategy: line for line in summary.lines}
    assert lines["rival"].cost_ratio.mean == pytest.approx(0.5)
    assert lines["rival"].verdict == "left"
    assert lines["eccos"].verdict == "on"
    assert lines["clairvoyant"].verdict == "right"
    assert summary.targets == pytest.approx((0.6, 0.64, 0.68, 0.72, 0.76, 0.8))
    assert summary.best == {0: "y", 1: "y"}
    assert lines["rival"].save.mean == pytest.approx(1 - 3.2e-4 / 1e-3)
    assert 0.8 < lines["eccos"].gap_closed.mean < 1


def test_the_headline_is_read_off_the_frontier():
    head = summarize(hand_made()).headline
    assert head.cost_ratio.mean == pytest.approx(0.1)
    assert head.gain.mean == pytest.approx(0.2)
    assert head.gain_cheaper.mean == pytest.approx(0.2)


def test_settings_are_averaged_over_splits_with_the_worst_task():
    at = [a for a in summarize(hand_made()).at if a.strategy == "eccos"]
    middle = next(a for a in at if a.value == 0.6)
    assert middle.error.mean == pytest.approx(0.0)
    assert (middle.worst_task, middle.worst.mean) == ("a", pytest.approx(0.5))
    assert middle.share == {"x": 0.5, "y": 0.5}


def test_what_rivals_reach_and_eccos_does_not_is_counted():
    made = [r for r in hand_made() if not (r.strategy == "eccos" and r.success == 0.8)]
    lines = {line.strategy: line for line in summarize(made).lines}
    assert lines["rival"].missed == 2 * 5
    assert lines["single:y"].verdict == "not reached"
    assert lines["single:y"].saved_on == 2
    assert lines["eccos"].saved_on == 0


def test_one_split_says_no_more_than_the_direction():
    lines = summarize([r for r in hand_made() if r.split == 0]).lines
    verdicts = {line.strategy: line.verdict for line in lines}
    assert (verdicts["rival"], verdicts["clairvoyant"]) == ("cheaper", "dearer")
    assert verdicts["eccos"] == "equal"


def test_without_eccos_there_is_nothing_to_compare_with():
    made = [r for r in hand_made() if r.strategy != "eccos"]
    summary = summarize(made)
    assert summary.ours is None
    assert summary.headline is None


def test_our_optimizer_keeps_floors_and_limits_at_its_lower_bound(problem):
    found = {(r.limits, r.optimizer): r for r in summarize_trials(trials(problem))}
    for limits in ("none", "1.5 n/m"):
        ours = found[limits, "ours"]
        assert (ours.kept, ours.over, ours.worst_short) == (1.0, 0.0, 0.0)
        assert ours.cost_ratio.mean == pytest.approx(1.0, abs=0.02)
    assert found["none", "dual ascent"].milliseconds > 0


def test_progress_is_told_of_as_many_steps_as_announced(circle):
    wanted = Wanted(("eccos", "random"), ("retrieval",), (), (0, 1), Arrival())
    told = []
    played = play_all(circle, wanted, progress=told.append)
    assert len(told) == steps(wanted, circle.table.models)
    assert {r.split for r in played} == {0, 1}


def test_json_holds_rows_summary_and_what_was_run(command, tmp_path):
    target = tmp_path / "out.json"
    done = command("--predictor", "retrieval", "--resplits", "2", "--json", target)
    assert done.exit_code == 0, done.output
    body = json.loads(target.read_text())
    assert body["schema"] == "aios-eccos/evaluate/1"
    assert body["seed"] == 0
    assert {"versions", "data_hash", "targets", "summary", "settings"} <= set(body)
    first = body["rows"][0]
    assert set(first) == {
        "strategy", "predictor", "setting", "split", "success", "promised_success",
        "cost_per_call_usd", "limit_violations", "decision_s", "share", "tasks",
    }  # fmt: skip
    assert set(first["share"]) == set(NAMES)
    assert {r["split"] for r in body["rows"]} == {0, 1}
    assert body["compared_with"] == "retrieval"
    eccos = next(line for line in body["summary"] if line["strategy"] == "eccos")
    assert eccos["cost_ratio"]["mean"] == 1.0
    assert "asked and realised" in done.output


def test_standard_output_is_json_alone(command):
    done = command("--predictor", "retrieval", "--strategies", "random", "--json", "-")
    assert json.loads(done.stdout)["rows"]


def test_everything_with_pictures_and_a_page(command, tmp_path):
    pytest.importorskip("matplotlib")
    plot, page = tmp_path / "plot.png", tmp_path / "page.html"
    done = command(
        "--predictor", "retrieval", "--strategies", "all", "--floors", "0.5,0.7",
        "--budgets", "0.0002,0.0005", "--plot", plot, "--report", page,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert plot.read_bytes()[:4] == b"\x89PNG"
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "Robustness" in text
    assert "http://" not in text
    assert "https://" not in text
    assert "dual ascent" in done.output
    assert "$0.2 / 1000" in done.output


def test_a_stream_under_limits_in_recorded_order(command):
    done = command(
        "--predictor", "retrieval", "--strategies", "port", "--mode", "stream",
        "--batch-size", "8", "--limits", "cheap=4,middle=4,strong=4", "--order", "recorded",
        "--floors", "0.5,0.8", "--json", "-",
    )  # fmt: skip
    assert done.exit_code == 0, (done.exception, done.output)
    body = json.loads(done.stdout)
    over = {r["strategy"]: r["limit_violations"] for r in body["rows"]}
    assert over["eccos"] == 0
    assert over["single:cheap"] > 0
    assert (body["mode"], body["order"]) == ("stream", "recorded")
    found = {(s["rows"], s["rule"], s["batch"]): s["ratio"] for s in body["streams"]}
    assert found["test", "price", 1] == found["test", "price", None]
    assert found["test", "floor", 1] > found["test", "price", 1]
    assert ("history", "floor", 4) in found


def test_missing_prices_are_said(command, files, tmp_path):
    quick = ("--predictor", "retrieval", "--strategies", "random", "--floors", "0.6")
    some = tmp_path / "some.json"
    some.write_text('{"models": {"cheap": {"input": 1, "output": 1}}}')
    assert "highest is taken: middle, strong" in command(*quick, "--prices", some).output
    none = tmp_path / "none.json"
    none.write_text('{"models": {}}')
    assert "not dollars" in command(*quick, "--prices", none).output


def test_malformed_rows_are_counted_and_make_it_exit_with_1(command, tmp_path):
    data = write(tmp_path / "bad.jsonl.gz", [*rows(), {"query": "no outputs"}])
    done = command("--predictor", "retrieval", "--strategies", "random", data=data)
    assert done.exit_code == 1
    assert "1 malformed rows" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--strategies", "nope"), "known are all"),
        (("--predictor", "oracle"), "wanted one of"),
        (("--mode", "fast"), "batch, stream or onboarding"),
        (("--order", "random"), "shuffled or recorded"),
        (("--floors", "0.5:2:0.5"), "not from 0 to 1"),
        (("--floors", "a"), "--floors a"),
        (("--limits", "cheap"), "NAME=VALUE"),
        (("--limits", "cheap=x"), "--limits"),
        (("--limits", "cheap=-1"), "whole numbers"),
        (("--plot", "/none/x.png"), "--plot"),
        (("--report", "/none/x.html"), "--report"),
        (("--json", "/none/x.json"), "--json"),
    ],
)
def test_what_makes_no_sense_is_refused(command, words, message):
    done = (
        command("--predictor", "retrieval", *words)
        if "--predictor" not in words
        else command(*words)
    )
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


def test_a_limit_for_an_unknown_model_is_refused(command):
    done = command("--predictor", "retrieval", "--limits", "huge=1")
    assert isinstance(done.exception, DataError)


def test_number_lists():
    assert numbers("x", "0.5:0.7:0.1") == pytest.approx([0.5, 0.6, 0.7])
    assert numbers("x", "1, 2") == [1.0, 2.0]
    assert numbers("x", "") == []
    for wrong in ("1:2", "1:0:0.1", "0:1:0", "-1", "nan", "1:2:1e-9"):
        with pytest.raises(ConfigError):
            numbers("x", wrong)


def test_figures_that_cannot_be_said_are_dashes_and_nulls():
    assert clean({"a": math.nan, "b": (1.23456789,)}) == {"a": None, "b": [1.23457]}


def test_what_is_not_defined_is_null_in_json(tmp_path):
    rows = [
        {"error": math.nan, "ratio": math.inf},
        {"error": 0.5, "ratio": (1, -math.inf)},
    ]
    write_json({"rows": rows, "seed": 0}, str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "rows": [{"error": None, "ratio": None}, {"error": 0.5, "ratio": [1, None]}],
        "seed": 0,
    }
