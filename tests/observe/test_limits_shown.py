"""Rates, caps and fairness as `status`, metrics and `doctor` show them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from observe_world import LARGE, SMALL, World, toy_stores

from aios_eccos.config import parse_config
from aios_eccos.floor.configured import unpriced_cap
from aios_eccos.locate import Config, Location
from aios_eccos.observe import health, render
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Lease, Model, Query, Rates
from aios_eccos.workload.connect import open_workload

#: A call of 100 tokens that answers 100 costs .002 on the large model, .00002 on the small one.
MODELS = [
    {"name": entry.name, "hostname": entry.hostname, "rpm": 90, "tpm": 9000}
    | {"input_cost_per_token": entry.input_cost_per_token}
    | {"output_cost_per_token": entry.output_cost_per_token}
    for entry in (SMALL, LARGE)
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    raw = {"redis": "memory", "max_cost": {"day": 0.003}, "agents": {"b": {"weight": 2.0}}}
    settings, entries = parse_config(raw, MODELS)
    location = Location(None, None, tmp_path, "test")
    with Engine(Config(location, settings, entries), stores=toy_stores) as engine:
        assert engine.wait_ready(60)
        yield World(engine)


def served(world: World, name: str, agent: str) -> None:
    query = Query("0.9", agent=agent, input_tokens=100, max_output_tokens=100, allowed=(name,))
    answer = Answer(value="x", input_tokens=100, output_tokens=100)
    world.engine.dispatcher.submit(query, lambda model, left: answer).result(60)
    assert world.engine.recorder.flush(60)


def test_status_shows_what_is_left_of_caps_and_minutes(world: World) -> None:
    for agent in ("a", "b", "a"):
        served(world, LARGE.name, agent)
    status = world.reader.status()
    (cap,) = status.caps
    assert (cap.name, cap.usd, cap.at_cap) == ("all agents a day", 0.003, "refuse")
    assert cap.spent_usd == pytest.approx(0.002)
    assert cap.left_usd == pytest.approx(0.001)
    assert (cap.held_usd, cap.over_usd, cap.kept) == (0.0, 0.0, 2)
    assert time.time() < cap.resets_at <= time.time() + 86_400
    large = next(model for model in status.models if model.model == LARGE.name)
    assert (large.rpm, large.tpm, large.requests, large.tokens) == (90, 9000, 1, 200)
    shown = render.status(status)
    assert "cap      all agents a day: $0.00200 of $0.00300 spent" in shown
    assert "it kept 2 calls" in " ".join(shown.split())
    assert "large: 1 of 90 requests (rpm), 200 of 9,000 tokens (tpm)" in " ".join(shown.split())


def test_status_shows_what_a_cap_costs(world: World) -> None:
    served(world, LARGE.name, "a")
    query = Query("0.99", agent="a", input_tokens=100, max_output_tokens=100)
    answer = Answer(value="x", input_tokens=100, output_tokens=100)
    settled = world.engine.dispatcher.submit(query, lambda model, left: answer).result(60)
    assert world.engine.recorder.flush(60)
    assert settled.decision is not None and settled.decision.model == SMALL.name
    (cap,) = world.reader.status().caps
    assert cap.kept == 1
    assert cap.worth is not None and cap.worth > 0
    assert "would have bought success worth" in " ".join(
        render.status(world.reader.status()).split()
    )


def test_metrics_show_caps_minutes_and_fairness(world: World) -> None:
    served(world, SMALL.name, "a")
    served(world, SMALL.name, "b")
    fairness = world.engine.dispatcher.fairness()
    assert fairness is not None
    edge = world.edge().model_copy(update={"fairness": fairness})
    text = metrics_text(world.reader.status().model_copy(update={"edge": edge}), {})
    assert 'aios_eccos_cap_usd{cap="all agents a day"} 0.003' in text
    assert 'aios_eccos_minute_requests{model="small: 8b"} 2.0' in text
    assert f"aios_eccos_fairness {fairness}" in text
    assert 0.5 <= fairness <= 1.0


POOL = [Model("small", "http://s"), Model("large", "http://l", rates=Rates(tpm=500))]


def test_doctor_names_kernels_whose_rates_differ(tmp_path: Path) -> None:
    other = open_workload("embedded", state_dir=tmp_path, timeout_s=5.0)
    slots = {model.slot: model for model in POOL}
    leases = [Lease("c", slot) for slot in slots]
    theirs = {slot: Rates(rpm=60, tpm=400) for slot in slots}
    other.acquire(leases, {slot: model.limit for slot, model in slots.items()}, theirs)
    location = Location(None, None, tmp_path, "test")
    settings, _ = parse_config({"redis": "embedded"}, MODELS)
    found = {f.name: f for f in health.check_workload(Config(location, settings, ()), POOL)}
    other.close()
    assert found["limits"].ok is False
    for said in ("small rpm 60 instead of none", "large tpm 400 instead of 500"):
        assert said in found["limits"].detail


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"max_cost": {"day": 5}}, "llms.router.eccos.max_cost"),
        ({"agents": {"a/*": {"max_cost": {"month": 5}}}}, "llms.router.eccos.agents.a/*.max_cost"),
        ({"agents": {"a": {"max_cost": {"day": 5}, "models": ["large"]}}}, None),
        ({}, None),
    ],
)
def test_a_cap_without_a_price_is_refused_by_its_key(raw: dict[str, object], key: str) -> None:
    settings, _ = parse_config(raw, MODELS)
    priced = replace(POOL[1], input_price=1e-6, output_price=1e-6)
    fault = unpriced_cap(settings, [POOL[0], priced])
    checks = list(health.check_caps(settings, [POOL[0], priced]))
    if key is None:
        assert fault is None
        assert all(check.ok for check in checks)
    else:
        assert fault is not None and fault.startswith(f"{key} = ")
        assert "the price of 'small' is not known; set its input_cost_per_token" in fault
        assert [check.ok for check in checks] == [False]
