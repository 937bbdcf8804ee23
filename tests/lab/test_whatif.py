"""Recent decisions, decided again: by hand-made logs whose answers can be worked out."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from aios_eccos.config import Floor
from aios_eccos.errors import ConfigError, DataError
from aios_eccos.lab.commands.whatif import whatif
from aios_eccos.lab.whatif import Change, what_if
from aios_eccos.observe.trace import Option, Trace, to_fields
from aios_eccos.observe.whatif import kept_calls
from aios_eccos.workload.memory import MemoryWorkload

LIMITS = {"small": 100, "large": 100}


def option(model, success, cost, tokens=100, allowed=True):
    return Option(model, success, tokens, cost, 0.0, 20.0, allowed, 5, 0.0)


def trace(number=0, model="small", at=None, waited=0.0, served=1.0, options=None, **changes):
    made = {
        "call": f"c{number}", "at": float(number if at is None else at), "agent": "a",
        "mode": "route", "policy": "", "status": "optimal", "reason": "", "model": model,
        "floor": 0.6, "success_price_usd": 0.001, "promised": 0.6, "novelty": 0.1, "batch": 1,
        "attempts": 1, "decision_s": 0.0, "waited_s": waited, "served_s": served,
        "input_tokens": 1000, "output_tokens": 100, "metered": True, "cost_usd": 0.001,
        "money": True, "failure": None, "status_code": 200, "named": 0,
        "options": options or (option("small", 0.6, 0.001), option("large", 0.9, 0.01)),
    }  # fmt: skip
    return Trace(**{**made, **changes})


LOG = [trace(i) for i in range(20)]


def test_a_higher_floor_moves_calls_to_the_stronger_model():
    result = what_if(LOG, Change(floor=Floor(0.85, relative=False)), LIMITS)
    assert result.changed.share == {"large": 1.0}
    assert result.changed.cost_usd == pytest.approx(0.01)
    assert result.changed.promised == pytest.approx(0.9)
    assert result.happened.cost_usd == pytest.approx(0.001)
    assert result.simulated.share == {"small": 1.0}
    assert result.reachable == pytest.approx(0.9)


def test_a_relative_floor_is_of_the_strongest_model_left():
    result = what_if(LOG, Change(floor=Floor(0.6, relative=True)), LIMITS)
    assert result.floor == pytest.approx(0.54)
    assert result.changed.share == {"small": 1.0}


def test_promises_are_made_without_the_optimism_of_the_log():
    log = [trace(i, promised=0.5) for i in range(5)]
    result = what_if(log, Change(floor=Floor(0.5, relative=False)), LIMITS)
    assert result.changed.promised == pytest.approx(0.5)
    assert result.reachable == pytest.approx(0.8)


def test_dropping_a_model_serves_its_calls_elsewhere_or_not_at_all():
    pinned = trace(
        30, options=(option("small", 0.6, 0.001), option("large", 0.9, 0.01, allowed=False))
    )
    result = what_if([*LOG, pinned], Change(drop=("small",)), LIMITS)
    assert result.changed.share == {"large": 1.0}
    assert (result.changed.calls, result.changed.unserved) == (20, 1)
    with pytest.raises(DataError, match="no model is left"):
        what_if(LOG, Change(drop=("small", "large")), LIMITS)


PLAN = "small + mini, else large"


def planned(number, **changes):
    """A call that a plan served: it costs its members and half of the escape."""
    options = (
        option("small", 0.5, 0.001),
        option("mini", 0.5, 0.002),
        option("large", 0.9, 0.01),
        option(PLAN, 0.9, 0.001 + 0.002 + 0.5 * 0.01),
    )
    return trace(number, **{"model": PLAN, "options": options, "success_price_usd": 0.1, **changes})


PLANNED = [planned(i) for i in range(8)]


@pytest.mark.parametrize("gone", ["small", "mini", "large"])
def test_a_plan_goes_with_each_of_its_models(gone):
    result = what_if(PLANNED, Change(drop=(gone,)), LIMITS)
    assert result.simulated.share == {PLAN: 1.0}
    assert PLAN not in result.changed.share


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"mini": (0.0, 0.0)}, 0.001 + 0.5 * 0.01),
        ({"large": (0.0, 0.2e-4)}, 0.001 + 0.002 + 0.5 * 0.002),
        ({"large": (0.0, 0.2e-3), "small": (0.0, 0.0)}, 0.002 + 0.5 * 0.02),
    ],
)
def test_a_plan_costs_what_its_models_cost(prices, cost):
    (now,) = {round(c, 9) for c in kept_calls(PLANNED, prices=prices).cost[:, -1]}
    assert now == pytest.approx(cost)


def test_a_plan_waits_for_a_slot_of_each_member():
    together = [planned(i, at=0.0, served=2.0) for i in range(3)]
    result = what_if(together, Change(limits={"mini": 1, "large": 0}), {})
    assert result.changed.share[PLAN] < 1.0
    assert what_if(together, Change(limits={"mini": 0}), {}).changed.share == {"large": 1.0}


def test_a_share_is_of_the_strongest_model_and_not_of_a_plan():
    better = [planned(i, promised=0.9) for i in range(4)]
    high = [replace(t, options=(*t.options[:3], option(PLAN, 1.0, 0.008))) for t in better]
    result = what_if(high, Change(floor=Floor(1.0, relative=True)), LIMITS)
    assert result.floor == pytest.approx(0.9 - 0.1)


def test_a_new_price_is_paid_by_the_tokens_forecast():
    result = what_if(LOG, Change(prices={"small": (1e-6, 1e-5)}), LIMITS)
    assert result.changed.cost_usd == pytest.approx(1000 * 1e-6 + 100 * 1e-5)
    cheap = what_if(LOG, Change(prices={"large": (0.0, 0.0)}), LIMITS)
    assert cheap.changed.share == {"large": 1.0}


def test_a_limit_makes_calls_wait_their_turn():
    together = [trace(i, at=0.0, options=(option("small", 0.6, 0.001),)) for i in range(4)]
    result = what_if(together, Change(limits={"small": 1}), LIMITS)
    assert result.simulated.wait_mean_s == 0.0
    assert result.changed.wait_mean_s == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert result.changed.waited == pytest.approx(0.75)


def test_a_full_model_spills_to_the_next_best():
    together = [trace(i, at=0.0) for i in range(4)]
    result = what_if(together, Change(limits={"small": 2}), LIMITS)
    assert result.changed.share == {"small": 0.5, "large": 0.5}
    assert result.changed.wait_mean_s == 0.0


def test_failed_and_undecided_calls_are_left_out():
    log = [*LOG, trace(40, model=None), trace(41, failure="500")]
    assert what_if(log, Change(limits={"small": 3}), {}).happened.calls == 20
    with pytest.raises(DataError, match="no answered calls"):
        what_if([trace(1, model=None)], Change(), {})


def test_a_log_without_prices_of_success_goes_by_the_strongest():
    log = [trace(i, success_price_usd=None, floor=None, promised=None) for i in range(3)]
    result = what_if(log, Change(prices={"large": (1e-6, 1e-6)}), LIMITS)
    assert result.floor is None
    assert result.changed.share == {"large": 1.0}
    assert result.happened.promised is None


def test_a_floor_out_of_reach_takes_the_best_there_is():
    result = what_if(LOG, Change(floor=Floor(0.99, relative=False)), LIMITS)
    assert result.reachable < 0.99
    assert result.changed.share == {"large": 1.0}


def test_unknown_models_are_named():
    with pytest.raises(DataError, match="'huge' is not in the log"):
        what_if(LOG, Change(drop=("huge",)), {})


def test_time_of_decision_is_no_wait_for_a_slot():
    result = what_if([trace(waited=0.5, decision_s=0.2)], Change(limits={"small": 1}), LIMITS)
    assert result.happened.wait_mean_s == pytest.approx(0.3)


@pytest.fixture
def command(monkeypatch, tmp_path):
    workload = MemoryWorkload()
    for made in LOG:
        workload.append_decision(to_fields(made))
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    monkeypatch.setattr("aios_eccos.workload.connect.open_workload", lambda *a, **k: workload)
    app = typer.Typer()
    app.command()(whatif)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_the_command_prints_what_happened_beside_what_would(command):
    done = command("--floor", "0.85", "--limit", "small=1", "--price", "large=2.0,8.0")
    assert done.exit_code == 0, done.output
    assert "simulated" in done.output
    assert "floor of 85.0 %" in done.output


def test_the_command_says_that_a_floor_is_out_of_reach(command):
    assert "out of reach" in command("--floor", "0.99").output


def test_the_command_prints_json_only(command):
    done = command("--drop", "large", "--json")
    body = json.loads(done.stdout)
    assert body["schema"] == "aios-eccos/whatif-log/1"
    assert body["changed"]["share"] == {"small": 1.0}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--floor", "2"),
        ("--limit", "small=-1"),
        ("--limit", "small=x"),
        ("--price", "small=1"),
        ("--price", "small=-1,2"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(command, words):
    done = command(*words)
    assert isinstance(done.exception, ConfigError)


def test_without_a_shared_log_the_command_says_so(command, tmp_path):
    config = tmp_path / "config.yaml"
    models = "models: [{name: small, backend: openai}]"
    config.write_text(f"llms:\n  {models}\n  router:\n    eccos: {{redis: memory}}\n")
    done = command("--floor", "0.8", "--config", str(config))
    assert "only the kernel itself" in str(done.exception)


@pytest.mark.parametrize(
    ("waited", "share"), [(0.005, 0.0), (0.05, 0.0), (0.5, 1.0)], ids=["window", "busy", "limit"]
)
def test_calls_that_were_gathered_for_a_moment_have_not_waited(waited: float, share: float) -> None:
    kept = [trace(i, at=100.0 * i, waited=waited) for i in range(10)]
    found = what_if(kept, Change(limits={"small": 9}), LIMITS)
    assert found.happened.waited == share
    assert found.simulated.waited == 0.0
