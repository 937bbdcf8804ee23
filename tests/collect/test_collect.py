"""`aios-eccos collect` against three servers over HTTP: the whole, killed, limited, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from fleet import ABILITY, PRICES, TOKENS, recorded, write_models
from typer.testing import CliRunner
from waiting import until

from aios_eccos.cli.collect import collect
from aios_eccos.collect.questions import GRADERS
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.history.dataset import read_records
from aios_eccos.lab.replay_server import ReplayServers
from aios_eccos.records import Record

ROOT = Path(__file__).parents[2]
ASKED = 120
APP = typer.Typer()
APP.command()(collect)
SCRIPT = (
    "import typer; from aios_eccos.cli.collect import collect;"
    "app = typer.Typer(); app.command()(collect); app()"
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """A state folder of its own, no AIOS, and tables that fit."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("AIOS_HOME", raising=False)


def run(models_file, out, *options, code=0):
    arguments = ["--models-file", str(models_file), "--out", str(out), *map(str, options)]
    result = CliRunner().invoke(APP, arguments)
    if result.exit_code != code:
        raise result.exception or AssertionError(result.output)
    return result


def rows(out):
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def journal(out):
    lines = out.with_name(out.name + ".journal").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


@pytest.fixture(scope="module")
def whole(running, tmp_path_factory):
    """An uninterrupted run over the shipped set."""
    folder = tmp_path_factory.mktemp("whole")
    for name in running.models:
        running.inject(name, {})
    models = write_models(folder / "models.yaml", running)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOS_ECCOS_STATE", str(folder / "state"))
        patch.delenv("AIOS_HOME", raising=False)
        patch.setenv("COLUMNS", "200")
        result = run(models, folder / "out.jsonl", "--json", folder / "summary.json")
    return folder / "out.jsonl", result


def test_every_question_becomes_a_record_with_the_right_grades(whole):
    out, result = whole
    assert len(rows(out)) == ASKED
    for row in rows(out):
        level = row["task"].split("-")[1]
        assert row["input_token_length"] == 50
        assert [o["model_name"] for o in row["outputs"]] == list(ABILITY)
        for output in row["outputs"]:
            name = output["model_name"]
            assert output["correctness"] is (level in ABILITY[name])
            assert output["output_token_length"] == TOKENS[name]
            assert "error" not in output
    assert "out.jsonl: 120 records" in result.stdout
    assert "33.3 %" in result.stdout


def test_the_records_are_what_ingest_reads(whole):
    records = list(read_records(whole[0]))
    assert len(records) == ASKED
    assert all(isinstance(record, Record) for record in records)


def test_the_summary_holds_cost_and_times(whole):
    summary = json.loads(whole[0].with_name("summary.json").read_text(encoding="utf-8"))
    assert summary["schema"] == "aios-eccos/collect/1"
    assert (summary["ending"], summary["records"], summary["complete"]) == ("done", ASKED, ASKED)
    for model in summary["models"]:
        read, write = PRICES[model["name"]]
        cost = ASKED * (50 * read + TOKENS[model["name"]] * write) / 1e6
        assert model["cost_usd"] == pytest.approx(cost)
        assert model["latency_p50_s"] > 0
        assert model["success"] == pytest.approx(len(ABILITY[model["name"]]) / 3)
    total = sum(model["cost_usd"] for model in summary["models"])
    assert summary["cost_usd"] == pytest.approx(total)
    assert sum(a["cost_usd"] for a in journal(whole[0])) == pytest.approx(total)


def test_a_run_killed_half_way_goes_on_without_asking_again(shipped, whole, tmp_path):
    out = tmp_path / "out.jsonl"
    with ReplayServers(recorded(shipped), list(ABILITY), seconds_per_token=0.0005) as servers:
        models = write_models(tmp_path / "models.yaml", servers)
        options = ["--models-file", str(models), "--out", str(out), "--concurrency", "4"]
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *options],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: sum(s.answered for s in servers.stats().values()) >= 1.5 * ASKED)
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        held = len(journal(out)) if out.exists() else 0
        assert ASKED < held < 3 * ASKED
        # Rows are written as soon as all models have answered, so some are there already.
        assert 0 < len(rows(out)) < ASKED
        result = run(models, out, "--resume", "--concurrency", "4")
        stats = servers.stats()
    assert f"{held} answers were held" in result.stdout
    assert sorted(map(json.dumps, rows(out))) == sorted(map(json.dumps, rows(whole[0])))
    for name in ABILITY:
        assert stats[name].requests - ASKED == stats[name].repeated <= 4


def test_ctrl_c_writes_what_it_has(shipped, tmp_path):
    out = tmp_path / "out.jsonl"
    with ReplayServers(recorded(shipped), list(ABILITY), seconds_per_token=0.002) as servers:
        models = write_models(tmp_path / "models.yaml", servers)
        options = ["--models-file", str(models), "--out", str(out), "--concurrency", "2"]
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        until(lambda: sum(s.answered for s in servers.stats().values()) >= 30)
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 130
        held = sum(s.answered for s in servers.stats().values())
    assert "Interrupted: go on with --resume." in output
    # Answers that were on their way were waited for; nothing that was paid for is lost.
    assert len(journal(out)) == held
    assert sum(len(row["outputs"]) for row in rows(out)) == held


@pytest.mark.parametrize("limit", [0.0, 0.002, 0.02, 0.05])
def test_spending_ends_within_one_request_per_model_of_the_limit(
    servers, models_file, tmp_path, limit
):
    out = tmp_path / "out.jsonl"
    result = run(models_file, out, "--max-cost", limit, "--max-tokens", 200, code=1)
    spent = sum(answer["cost_usd"] for answer in journal(out))
    largest = [(50 * read + TOKENS[n] * write) / 1e6 for n, (read, write) in PRICES.items()]
    assert limit <= spent <= limit + sum(largest)
    assert f"of --max-cost ${limit:g} is spent" in result.stdout
    # The money that is left is spent on a resumed run.
    run(models_file, out, "--max-cost", 1, "--resume", "--max-tokens", 200)
    assert len(rows(out)) == ASKED
    assert all(stats.repeated == 0 for stats in servers.stats().values())


def test_an_unknown_price_counts_as_the_highest_known(servers, tmp_path):
    prices = {name: PRICES[name] for name in ("weak-1b", "mid-8b")}
    models = write_models(tmp_path / "models.yaml", servers, prices)
    result = run(models, tmp_path / "o.jsonl", "--limit", 2)
    assert "No price known for strong-70b: counted at the highest known" in result.stdout
    costs = {a["model"]: a["cost_usd"] for a in journal(tmp_path / "o.jsonl")}
    assert costs["strong-70b"] == pytest.approx((50 * 0.5 + 80 * 1.0) / 1e6)


def test_no_price_at_all_is_no_cost_and_no_limit(servers, tmp_path):
    models = write_models(tmp_path / "models.yaml", servers, {})
    result = run(models, tmp_path / "o.jsonl", "--limit", 2)
    assert "no price" in result.stdout
    assert "$" not in result.stdout
    with pytest.raises(ConfigError, match="--price"):
        run(models, tmp_path / "p.jsonl", "--max-cost", 1)
    run(models, tmp_path / "p.jsonl", "--limit", 2, "--price", "mid-8b=1,2", "--max-cost", 1)


def test_passing_faults_are_ridden_out(servers, models_file, tmp_path, monkeypatch):
    monkeypatch.setattr("aios_eccos.collect.client.Client._pause", lambda *_: 0.01)
    kinds = ("429", "500", "close", "empty_choices", "null_content", "invalid_json")
    for name in servers.models:
        servers.inject(name, dict.fromkeys(kinds, 0.02))
    out = tmp_path / "out.jsonl"
    run(models_file, out, "--limit", 40)
    outputs = [output for row in rows(out) for output in row["outputs"]]
    assert len(outputs) == 3 * 40
    assert not any("error" in output for output in outputs)
    assert max(answer["attempts"] for answer in journal(out)) > 1


def test_a_model_that_keeps_failing_is_an_error_and_not_wrong(
    servers, models_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("aios_eccos.collect.client.Client._pause", lambda *_: 0.01)
    servers.inject("mid-8b", {"503": 1.0})
    out = tmp_path / "out.jsonl"
    result = run(models_file, out, "--concurrency", 2, code=1)
    assert "mid-8b was given up after 5 failures in a row: 503." in result.stdout
    assert len(rows(out)) == ASKED
    for row in rows(out):
        outputs = {output["model_name"]: output for output in row["outputs"]}
        assert outputs["mid-8b"]["correctness"] is None
        assert "503" in outputs["mid-8b"]["error"]
        assert outputs["strong-70b"]["correctness"] is True
    # Not all 120 questions were tried five times, and the others were not held up.
    assert servers.stats()["mid-8b"].requests <= 5 * 7
    records = [r for r in read_records(out) if isinstance(r, Record)]
    assert all(r.outcomes[1].correctness is None and r.outcomes[1].error for r in records)
    # Once it is back, only its questions are asked.
    servers.inject("mid-8b", {})
    servers.reset()
    run(models_file, out, "--resume")
    assert [s.requests for s in servers.stats().values()] == [0, ASKED, 0]
    assert not any("error" in output for row in rows(out) for output in row["outputs"])


def test_a_refusal_is_not_tried_again(servers, tmp_path):
    path = tmp_path / "models.yaml"
    base = servers.url("weak-1b").removesuffix("/v1") + "/nowhere"
    path.write_text(f"[{{name: weak-1b, backend: vllm, hostname: {base}}}]", encoding="utf-8")
    run(path, tmp_path / "o.jsonl", "--limit", 3, "--concurrency", 1, code=1)
    assert [(a["error"], a["attempts"]) for a in journal(tmp_path / "o.jsonl")] == [("404", 1)] * 3


def test_a_run_over_every_grader_ends_with_its_report(servers, models_file, tmp_path):
    own = {"choice": {"choices": ["x", "y"], "answer": "A"}, "numeric": {"answer": "7"},
           "json": {"answer": {"type": "object"}}}  # fmt: skip
    asked = [
        {"id": grader, "task": "t", "question": "?", "grader": grader, "answer": "z"}
        | own.get(grader, {})
        for grader in GRADERS
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    options = "--questions", file, "--judge", "weak-1b", "--json", tmp_path / "report.json"
    run(models_file, tmp_path / "o.jsonl", *options)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["models"]
    assert {model["answers"] for model in found} == {len(GRADERS)}


def test_models_and_questions_are_chosen(servers, models_file, tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    row = {"id": "one", "task": "t", "question": "?", "answer": "7", "grader": "numeric"}
    first.write_text(json.dumps(row), encoding="utf-8")
    second.write_text(json.dumps({**row, "id": "two"}), encoding="utf-8")
    out = tmp_path / "o.jsonl"
    run(models_file, out, "--models", "mid-8b, weak-1b", "--questions", first, second)
    assert [row["query_id"] for row in rows(out)] == ["one", "two"]
    assert [s.requests for s in servers.stats().values()] == [2, 2, 0]
    assert servers.stats()["weak-1b"].unknown == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--models", "nobody"], "'nobody' is not in .*; there are: weak-1b"),
        (["--judge", "nobody"], "nobody"),
        (["--price", "nobody=1,2"], "'nobody'"),
        (["--price", "mid-8b=1"], "wanted NAME=IN,OUT"),
        (["--price", "mid-8b=-1,2"], "0 or more"),
    ],
)
def test_wrong_options_are_named(models_file, tmp_path, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        run(models_file, tmp_path / "o.jsonl", *options)
    assert not (tmp_path / "o.jsonl").exists()


def test_an_earlier_run_is_not_overwritten(servers, models_file, tmp_path):
    out = tmp_path / "o.jsonl"
    run(models_file, out, "--limit", 2)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="--resume"):
        run(models_file, out, "--limit", 2)
    assert out.read_bytes() == before


def test_two_runs_do_not_write_one_journal(servers, models_file, tmp_path):
    from aios_eccos.collect.journal import Journal

    out = tmp_path / "o.jsonl"
    run(models_file, out, "--limit", 2)
    with Journal(out.with_name("o.jsonl.journal")), pytest.raises(DataError, match="another run"):
        run(models_file, out, "--resume")
    assert len(rows(out)) == 2


def test_no_models_anywhere_says_where_to_name_them(tmp_path):
    with pytest.raises(ConfigError, match="--models-file"):
        CliRunner().invoke(APP, ["--out", str(tmp_path / "o.jsonl")], catch_exceptions=False)


def test_models_come_from_aios_config(servers, tmp_path):
    config = tmp_path / "AIOS" / "aios" / "config" / "config.yaml"
    config.parent.mkdir(parents=True)
    models = write_models(tmp_path / "m.yaml", servers).read_text(encoding="utf-8")
    lines = "\n".join(f"    {line}" for line in models.splitlines())
    config.write_text(f"llms:\n  models:\n{lines}\n", encoding="utf-8")
    arguments = ["--aios-home", str(tmp_path / "AIOS"), "--out", str(tmp_path / "o.jsonl")]
    result = CliRunner().invoke(APP, [*arguments, "--limit", "1"])
    assert result.exit_code == 0, result.output
    assert len(rows(tmp_path / "o.jsonl")[0]["outputs"]) == 3


def test_json_on_standard_output_is_json_only(servers, models_file, tmp_path):
    result = run(models_file, tmp_path / "o.jsonl", "--limit", 1, "--json", "-")
    assert json.loads(result.stdout)["records"] == 1


def test_a_file_of_models_needs_no_configuration_of_aios(
    models_file, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_HOME", str(tmp_path))  # as a checkout is before `enable`
    run(models_file, tmp_path / "out.jsonl", "--limit", 2)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ConfigError, match="holds no aios/config"):
        run(models_file, tmp_path / "more.jsonl", "--aios-home", tmp_path)
