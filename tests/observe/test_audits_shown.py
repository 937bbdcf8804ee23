"""What is shown of audits: where policies stand, what that has cost and paid back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe_world import World, make_engine

from aios_eccos.config import parse_settings
from aios_eccos.floor.earn import Audited
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.audits import break_even, read_audits
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.records import Outcome, Record
from aios_eccos.values import Query
from aios_eccos.verdicts.audits import record_of
from aios_eccos.verdicts.draws import Draw, keep_draws
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import TOTAL, PeriodSums

ASKED = "95 % of the strongest"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = {"audit": "5 %", "quality_floor": "95 %", "agents": {"notes": {"audit": False}}}
    with make_engine(tmp_path, **settings) as engine:
        assert engine.wait_ready(60)
        yield World(engine)


def good_audits(world: World, count: int) -> None:
    for number in range(count):
        told = Audited(f"c{number}", "", ASKED, 0.05, "large", "small: 8b", {"small: 8b": 0})
        world.engine.earning.taken(told)


def test_a_policy_that_has_shown_nothing_is_proving(world: World) -> None:
    view = world.reader.status().audits
    assert view is not None
    (policy,) = view.policies
    assert (policy.policy, policy.state, policy.share) == ("", "proving", 0.0)
    text = render.status(world.reader.status())
    assert "earning  proving, the strongest serves; how many calls it needs cannot" in text


def test_a_policy_whose_choices_lose_nothing_is_routed_ever_more(world: World) -> None:
    seen = []
    for _ in range(12):
        good_audits(world, 20)
        (policy,) = world.reader.status().audits.policies  # type: ignore[union-attr]
        seen.append((policy.state, policy.share))
    assert seen[0] != seen[-1]
    assert seen == sorted(seen, key=lambda each: each[1])
    assert seen[-1] == ("served", 0.9)
    assert "earning  served, 90.0 % routed" in render.status(world.reader.status())


def test_audits_drawn_by_unequal_chances_are_weighed_and_shown_by_what_they_tell(
    world: World,
) -> None:
    for number, (worse, chance) in enumerate([(0, 0.5), (0, 0.5), (1, 0.1)]):
        drawn = {"relative": {"small: 8b": -worse}, "chances": {"small: 8b": chance}}
        told = Audited(f"c{number}", "", ASKED, 0.05, "large", "large", **drawn)
        world.engine.earning.taken(told)
    (policy,) = world.reader.status().audits.policies  # type: ignore[union-attr]
    (model,) = policy.models
    assert (model.model, model.audits) == ("small: 8b", 3)
    assert model.loss == pytest.approx(10 / 14)
    assert model.effective == pytest.approx(14**2 / (4 + 4 + 100))
    text = " ".join(render.status(world.reader.status()).split())
    assert "small: 8b: loss 71.4 % over all calls, by 3 audits that tell as much as 2 drawn" in text


def test_how_many_calls_it_needs_is_told_once_some_are_seen(world: World) -> None:
    good_audits(world, 20)
    (policy,) = world.reader.status().audits.policies  # type: ignore[union-attr]
    assert policy.needs_calls is not None and policy.needs_calls > 0
    assert policy.allowed == 0.05
    assert f"needs about {policy.needs_calls} more calls" in render.status(world.reader.status())


def test_cost_and_savings_are_shown_with_the_calls_until_they_meet(world: World) -> None:
    amounts = {"audits": 10.0, "audit_copies": 12.0, "audit_agreed": 9.0, "audit_judged": 3.0}
    amounts |= {"audit_cost": 0.02, "audit_judge": 0.01, "audit_saved": 0.01, "audit_failed": 1.0}
    world.engine.ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])
    text = " ".join(render.status(world.reader.status()).split())
    assert "audits cost $0.0300 ($0.0100 of it the judge), saved so far $0.0100" in text
    assert "12 copies of 10 calls: 9 agreed, 3 were judged; 1 copies failed" in text
    metrics = metrics_text(world.reader.status(), world.reader.total())
    assert "aios_eccos_audit_usd_total 0.02" in metrics
    assert 'aios_eccos_earned_share{policy=""} 0.0' in metrics
    shown = json.loads(world.reader.status().model_dump_json(by_alias=True))["audits"]
    assert (shown["audit_usd"], shown["calls"]) == (0.02, 10)


@pytest.mark.parametrize(
    ("saved", "day", "calls"),
    [
        (0.0, {}, None),
        (0.01, {"audit_saved": 0.01, "calls": 100.0}, 200),
        (0.05, {"audit_saved": 0.01, "calls": 100.0}, 0),
        (-0.01, {"audit_saved": -0.01, "calls": 100.0}, None),
    ],
)
def test_break_even_is_told_by_the_savings_of_the_day(
    saved: float, day: dict[str, float], calls: int | None
) -> None:
    total = {"audit_cost": 0.02, "audit_judge": 0.01, "audit_saved": saved}
    assert break_even(total, day) == calls
    assert break_even({}, day) is None


def test_people_who_refute_the_judge_are_shown_with_what_that_corrects(world: World) -> None:
    engine = world.engine
    history, embedder = engine.history, engine.embedder
    assert history is not None
    assert embedder is not None
    vectors = embedder.try_embed(["0.2"])
    for number in range(20):
        told = Audited(f"c{number}", "", ASKED, 0.05, "large", "small: 8b", {"small: 8b": -1})
        history.add([record_of(told, Query("0.2", id=told.call), {}, {})], vectors)
        live = Record(told.call, "0.2", 5, (Outcome("large", None, 9),), source="live")
        history.add([live], vectors)
    engine.learn()
    assert world.reader.status().audits.people is None  # type: ignore[union-attr]
    for number in range(20):
        history.judge(f"c{number}", "large", float(number % 2))
    engine.learn()
    people = world.reader.status().audits.people  # type: ignore[union-attr]
    assert people is not None
    assert (people.labeled, people.worse, people.worse_wrong) == (20, 20, 10)
    (small,) = people.models
    assert (small.loss, small.corrected) == (1.0, pytest.approx(0.5))
    text = " ".join(render.status(world.reader.status()).split())
    assert "refuted by people 10 of 20 times that it found an answer worse" in text
    assert "small: 8b: loss 100.0 %, by people's verdicts on 20 50.0 %" in text


def test_how_far_the_judge_repeats_itself_is_shown(world: World) -> None:
    amounts = {"audit_repeats": 20.0, "audit_same": 19.0}
    assert "same again" not in render.status(world.reader.status())
    world.engine.ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])
    text = " ".join(render.status(world.reader.status()).split())
    assert "judge said the same again in 95.0 % of 20 verdicts" in text
    assert "name a stronger one" not in text


@pytest.mark.parametrize(("repeats", "same", "told"), [(5, 0, True), (9, 4, True), (4, 0, False)])
def test_a_judge_that_goes_by_the_order_is_named_with_the_remedy(
    world: World, repeats: int, same: int, told: bool
) -> None:
    """As a model of 1.5B does: it says A, whatever stands there."""
    amounts = {"audit_repeats": float(repeats), "audit_same": float(same)}
    world.engine.ledger.add_sums([PeriodSums(TOTAL, 0.0, amounts)])
    assert ("name a stronger one" in render.status(world.reader.status())) is told


DRAWS = [
    Draw("small: 8b", 1.0, 0, "agreement"),
    Draw("free", 0.1, -1, "judge"),
    Draw("other", 1.0, -1, "difference"),
    Draw("down", 1.0),
]


def test_what_an_audit_drew_of_a_call_is_explained(world: World) -> None:
    call = world.call()
    keep_draws(world.engine.ledger, call.query.id, DRAWS)
    shown = world.reader.explain("last")
    assert [tuple(draw.model_dump().values()) for draw in shown.audited] == [*map(tuple, DRAWS)]
    words = " ".join(render_calls.explain(shown).split())
    assert "small: 8b as good (agreement), free worse (judge), other worse (difference)" in words
    assert "down not compared" in words


@pytest.mark.parametrize("note", ["no JSON", "[1]", '[["small"]]', "{}"])
def test_a_note_of_another_version_explains_nothing(world: World, note: str) -> None:
    call = world.call()
    assert world.reader.explain("last").audited == []
    world.engine.ledger.swap_note(f"audited:{call.query.id}", note)
    assert world.reader.explain("last").audited == []


def test_without_audits_nothing_is_shown_of_them(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        assert engine.wait_ready(60)
        world = World(engine)
        status = world.reader.status()
        assert status.audits is None
        assert "audit" not in render.status(status)
        assert "audit" not in metrics_text(status, world.reader.total())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, [""]),
        ({"agents": {"a": {"models": ["large"]}, "b": {"audit": False}}}, ["", "a"]),
        ({"agents": {"a": {"quality_floor": 0.8}, "b": {"quality_floor": "90 %"}}}, ["", "b"]),
        ({"budget_per_call": 0.1, "agents": {"b": {"quality_floor": "90 %"}}}, ["b"]),
        ({"quality_floor": 0.9}, []),
        ({"earn": False}, []),
    ],
)
def test_only_policies_that_audits_can_speak_of_are_shown(
    settings: dict[str, object], names: list[str]
) -> None:
    parsed = parse_settings({"audit": "5 %"} | settings)
    view = read_audits(MemoryWorkload(), parsed, {}, {})
    assert view is not None
    assert [policy.policy for policy in view.policies] == names
