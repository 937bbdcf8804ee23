"""Collecting beside a living kernel keeps to the limits that they share."""

from __future__ import annotations

import json
import threading

import pytest
import typer
import yaml
from fleet import ABILITY, PRICES
from typer.testing import CliRunner

from aios_eccos.cli.collect import collect
from aios_eccos.collect.slots import Slots
from aios_eccos.locate import load_config, locate
from aios_eccos.values import Lease, Model
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload

APP = typer.Typer()
APP.command()(collect)


@pytest.fixture
def config(tmp_path, servers, monkeypatch):
    """AIOS's checkout with the plugin on, every model at limit 4; the configuration."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    home = tmp_path / "AIOS"
    (home / "aios/config").mkdir(parents=True)
    models = [
        {
            "name": name,
            "backend": "vllm",
            "hostname": servers.url(name),
            "input_cost_per_token": PRICES[name][0] / 1e6,
            "output_cost_per_token": PRICES[name][1] / 1e6,
            "concurrency": 4,
        }
        for name in ABILITY
    ]
    router = {"strategy": "eccos", "eccos": {}}
    text = yaml.safe_dump({"llms": {"models": models, "router": router}})
    (home / "aios/config/config.yaml").write_text(text, encoding="utf-8")
    return load_config(locate(None, home))


@pytest.mark.usefixtures("patient_redis")
def test_limits_hold_over_a_kernel_and_a_collection(config, servers, tmp_path):
    kernel = open_workload("embedded", state_dir=config.location.state_dir)
    model = config.entries[0].model()
    try:
        assert kernel.acquire([Lease("a call", model.slot)], {model.slot: model.limit}) == [True]
        result = CliRunner().invoke(
            APP,
            ["--aios-home", str(config.location.aios_home), "--concurrency", "8"]
            + ["--limit", "40", "--out", str(tmp_path / "out.jsonl"), "--json", "-"],
        )
        assert result.exit_code == 0, result.output
        assert "Kernels' limits are kept" in result.stderr
        assert json.loads(result.stdout)["complete"] == 40
        peaks = {name: stats.peak_in_flight for name, stats in servers.stats().items()}
        held = {name: 1 if name == model.name else 0 for name in ABILITY}
        assert all(peaks[name] + held[name] <= 3 for name in ABILITY), peaks
        assert max(peaks.values()) > 1
        (load,) = kernel.loads({model.slot: model.limit}).values()
        assert load.in_use == 1
    finally:
        kernel.close()


def test_no_redis_is_started_where_no_kernel_is(config, tmp_path):
    result = CliRunner().invoke(
        APP,
        ["--aios-home", str(config.location.aios_home)]
        + ["--limit", "3", "--out", str(tmp_path / "out.jsonl")],
    )
    assert result.exit_code == 0, result.output
    assert "Kernels' limits" not in result.stderr
    assert not (config.location.state_dir / "redis").exists()


def test_a_slot_that_comes_back_is_taken_and_a_stop_ends_the_wait():
    store, stop, model = MemoryWorkload(), threading.Event(), Model("one", limit=1)
    slots, lease = Slots(store, stop), Lease("a call", model.slot)
    found: list[bool] = []

    def wait():
        with slots.one(model) as lent:
            found.append(lent)

    for end, expected in ((lambda: store.release([lease]), True), (stop.set, False)):
        assert store.acquire([lease], {model.slot: 1}) == [True]
        waiter = threading.Thread(target=wait)
        waiter.start()
        waiter.join(0.05)
        assert waiter.is_alive()
        end()
        waiter.join(60)
        assert found.pop() is expected
        store.release([lease])


def test_a_resting_model_is_left_alone():
    store, stop, model = MemoryWorkload(), threading.Event(), Model("one")
    store.cool_down(model.slot, 0.2)
    with Slots(store, stop).one(model) as lent:
        assert lent
        assert store.loads({model.slot: 32})[model.slot].cooling_s == 0
