"""The metrics parse, and are named as Prometheus wants them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from observe_world import SMALL, World, failing
from prometheus_client.parser import text_string_to_metric_families

from aios_eccos.observe.audit_views import AuditsView
from aios_eccos.observe.money import CapView
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.views import CanaryView

DASHBOARD = Path(__file__).parents[2] / "integration/grafana.json"
UNITS = ("seconds", "usd", "tokens")
PLAN = "small + mini, else large"
CANARY = CanaryView(
    stands="promoted",
    since=1e9,
    share=0.1,
    routed=90,
    routed_failed=2,
    control=80,
    control_failed=3,
)
CAP = CapView(
    name="all agents a day", usd=10, spent_usd=4, held_usd=0.5, left_usd=5.5, beyond_usd=0,
    over_usd=0, resets_at=1e9, at_cap="refuse", kept=7, worth=None,
)  # fmt: skip
AUDITS = AuditsView(
    share=0.05, judge=None, left_usd=1, audit_usd=1, judge_usd=0, saved_usd=2, break_even_calls=0,
    calls=1, copies=1, failed=0, agreed=1, judged=0, differed=0, ungraded=0, missed=0, dropped=0,
    unjudged=0, judge_repeats=0, judge_consistency=None, people=None, policies=[],
)  # fmt: skip


@pytest.fixture
def families(world: World):
    world.calls(5)
    world.answer = failing()
    world.call(allowed=(SMALL.name,))
    world.reader.feedback(world.reader.decisions(3).decisions[2].id, 1.0)
    status = world.reader.status()
    edge = status.edge.model_copy(update={"canary": CANARY, "fairness": 0.9})
    more = {"edge": edge, "caps": [CAP], "audits": AUDITS}
    plan = {f"plan_{kind}:{PLAN}": 1.0 for kind in ("calls", "agreed", "escaped", "cost", "saved")}
    text = metrics_text(status.model_copy(update=more), world.reader.total() | plan)
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_names_follow_the_conventions(families) -> None:
    for name, family in families.items():
        assert re.fullmatch(r"aios_eccos_[a-z_]+", name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
            assert "_ms" not in sample.name and "_milli" not in sample.name
    assert not [n for n in families if n.endswith("_total")]
    assert families["aios_eccos_wait_seconds"].type == "histogram"


def test_values_are_those_of_the_calls(families) -> None:
    def of(name: str, **labels: str) -> float:
        samples = families[name].samples
        return next(s.value for s in samples if labels.items() <= s.labels.items())

    assert of("aios_eccos_calls", model=SMALL.name) == 6
    assert of("aios_eccos_call_failures", model=SMALL.name) == 1
    assert of("aios_eccos_spend_usd", model=SMALL.name) == pytest.approx(5 * 150e-7)
    assert of("aios_eccos_slots_limit", model="large") == 64
    assert of("aios_eccos_floor_e_value", policy="") < 1.1
    assert of("aios_eccos_kernels") == 1


def test_the_canary_shows_where_it_stands_and_what_it_routes(families) -> None:
    states = {s.labels["state"]: s.value for s in families["aios_eccos_canary_state"].samples}
    assert states == {"trial": 0, "promoted": 1, "rolled back": 0}
    (share,) = families["aios_eccos_canary_share"].samples
    assert share.value == 1.0
    failed = families["aios_eccos_canary_failed_calls"].samples
    assert {s.labels["arm"]: s.value for s in failed} == {"routed": 2, "control": 3}


@pytest.mark.parametrize(("stands", "share"), [("trial", 0.1), ("rolled back", 0.0)])
def test_a_canary_that_is_rolled_back_routes_nothing(world: World, stands, share) -> None:
    status = world.reader.status()
    canary = CANARY.model_copy(update={"stands": stands})
    edge = status.edge.model_copy(update={"canary": canary})
    text = metrics_text(status.model_copy(update={"edge": edge}), {})
    assert f"aios_eccos_canary_share {share}" in text


def test_a_cap_shows_what_is_left_of_it(families) -> None:
    for name, value in (("usd", 10), ("spent_usd", 4), ("left_usd", 5.5), ("kept_calls", 7)):
        (sample,) = families[f"aios_eccos_cap_{name}"].samples
        assert (sample.labels["cap"], sample.value) == (CAP.name, value)


def test_histograms_are_cumulative(families) -> None:
    for name in ("aios_eccos_wait_seconds", "aios_eccos_decision_seconds"):
        counts = [s.value for s in families[name].samples if s.name.endswith("_bucket")]
        assert counts == sorted(counts)
        assert counts[-1] == 6
        (count,) = [s.value for s in families[name].samples if s.name.endswith("_count")]
        assert count == 6


def test_a_quiet_kernel_has_metrics_too(world: World) -> None:
    text = metrics_text(world.reader.status(), {})
    assert "aios_eccos_slots_in_use" in text
    list(text_string_to_metric_families(text))


def test_the_dashboard_asks_for_metrics_that_exist(families) -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = set(
        re.findall(r"aios_eccos_[a-z_]+", json.dumps([p["targets"] for p in board["panels"]]))
    )
    known = {s.name for f in families.values() for s in f.samples} | set(families)
    assert asked <= known
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])


def test_every_metric_is_in_the_documents_as_it_is(families) -> None:
    page = (DASHBOARD.parents[1] / "docs/metrics.md").read_text(encoding="utf-8")
    for name, family in families.items():
        shown = f"{name}_total" if family.type == "counter" else name
        assert f"| `{shown}` | {family.type} | {family.documentation} |" in page
