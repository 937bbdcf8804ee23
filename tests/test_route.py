"""`aios-eccos route`: what it says of costs, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aios_eccos.cli.main import main

MODELS = {"small-8b": 40, "big-70b": 60}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history of two models, and commands that see no other folder of the user's."""
    monkeypatch.delenv("AIOS_HOME", raising=False)
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    rows = [
        {
            "query_id": f"q{i}",
            "query": f"What is {i} plus {i}?",
            "input_token_length": 8,
            "outputs": [
                {"model_name": name, "correctness": 1, "output_token_length": tokens}
                for name, tokens in MODELS.items()
            ],
        }
        for i in range(4)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert run("ingest", tmp_path / "data.jsonl") == 0
    return tmp_path / "state" / "standalone"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def priced(path: Path, *names: str) -> Path:
    path.write_text(json.dumps({"models": {n: {"input": 1.0, "output": 10.0} for n in names}}))
    return path


def routed(capsys: pytest.CaptureFixture[str], *options: object) -> dict[str, Any]:
    capsys.readouterr()
    assert run("route", "What is 2 plus 3?", "--json", *options) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_without_prices_nothing_is_said_in_dollars(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = routed(capsys)
    assert found["money"] is False
    assert found["success_price_usd"] is None
    assert {(row["cost_usd"], row["net_cost_usd"]) for row in found["models"]} == {(None, None)}
    assert [row["model"] for row in found["models"]] == ["small-8b", "big-70b"]
    assert run("route", "What is 2 plus 3?") == 0
    shown = capsys.readouterr().out
    assert shown.count("no price ") == 3
    assert "$" not in shown


def test_with_prices_costs_are_dollars(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = priced(tmp_path / "prices.json", *MODELS)
    found = routed(capsys, "--prices", prices)
    assert found["money"] is True
    cost = {row["model"]: row["cost_usd"] for row in found["models"]}
    tokens = {row["model"]: row["output_tokens"] for row in found["models"]}
    for name in MODELS:
        assert cost[name] == pytest.approx((5 + 10 * tokens[name]) / 1e6, rel=0.01)
    assert run("route", "What is 2 plus 3?", "--prices", prices) == 0
    shown = capsys.readouterr().out
    assert shown.count("$") >= 2
    assert "no price" not in shown


def test_a_model_of_unknown_price_is_not_the_cheapest(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = routed(capsys, "--prices", priced(tmp_path / "prices.json", "small-8b"))
    assert found["money"] is True
    assert [row["model"] for row in found["models"]] == ["small-8b", "big-70b"]
    assert all(row["cost_usd"] > 0 for row in found["models"])


def test_no_redis_is_started_to_learn_that_none_runs(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = routed(capsys)
    assert not (state / "redis").exists()
    assert [row["in_use"] for row in found["models"]] == [0, 0]


@pytest.mark.usefixtures("patient_redis")
def test_the_load_of_a_running_kernel_is_shown(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aios_eccos.values import Lease, Model
    from aios_eccos.workload.connect import open_workload
    from aios_eccos.workload.embedded import embedded_runs

    workload = open_workload("embedded", state_dir=state)
    try:
        slot = Model(name="small-8b").slot
        assert workload.acquire([Lease("call", slot)], {slot: 32}) == [True]
        found = routed(capsys)
        assert {row["model"]: row["in_use"] for row in found["models"]} == {
            "small-8b": 1,
            "big-70b": 0,
        }
    finally:
        workload.close()
    assert not embedded_runs(state)
