"""Calls of a policy that has not earned its routing go to the reference; the shadow is kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.floor.earn import Audited, Earning
from aios_eccos.floor.learn import AuditFacts, learn_from
from aios_eccos.forecast.predictor import PriorPredictor
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.router import Router
from aios_eccos.values import HELD, Model, Query
from aios_eccos.workload.memory import MemoryWorkload

POOL = (
    Model("small", input_price=1e-7, output_price=1e-7),
    Model("large", input_price=1e-5, output_price=1e-5, strength=0.9),
)


class Flat:
    """Every text lies at one place."""

    def try_embed(self, texts):
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))

    def try_embed_with_layers(self, texts):
        return None


def audited_history(source="audit", n=100):
    """A hundred audits in which the small model was as good."""
    history = MemoryHistory(dimension=2)
    outcomes = (Outcome("small", 1.0, 20), Outcome("large", 1.0, 20))
    rows = [Record(f"a{i}", "", 50, outcomes, source=source, created=float(i)) for i in range(n)]
    history.add(rows, Flat().try_embed(rows))
    return history


def router_of(history=None, *, earns=True, models=POOL, **settings):
    parsed, workload = parse_settings(settings), MemoryWorkload()
    router = Router(models, parsed, workload)
    if earns:
        router.floors.earning = Earning(workload, clock=lambda: 0.0)
    if history is not None:
        facts = AuditFacts({}) if earns else None
        learned = learn_from(history, None, parsed, models, audits=facts)
        router.learned = replace(learned, embedder=Flat())
    return router


def route(router, n=1, **query):
    found = []
    for i in range(n):
        (decision,) = router.route([Query("text", id=f"call {i}", **query)]).decisions
        router.release(decision)
        found.append(decision)
    return found


def earn(router, until):
    """Audits that find no loss, until so much is routed."""
    (decision,) = route(router)
    gate = decision.gate
    while router.floors.earning.standing("", gate.asked).share < until:
        router.floors.earning.taken(
            Audited("c", "", gate.asked, gate.allowed, "large", "small", {"small": 0})
        )


def test_before_any_audit_the_reference_serves_and_there_is_no_shadow() -> None:
    for decision in route(router_of(), 20):
        assert (decision.model, decision.gate.reference) == ("large", "large")
        assert decision.gate.shadow is None


def test_while_proving_the_reference_serves_and_the_shadow_choice_is_kept() -> None:
    for decision in route(router_of(audited_history()), 20):
        assert (decision.model, decision.gate.shadow) == ("large", "small")
        assert decision.gate.held
        assert decision.status == HELD
        assert "small" in decision.reason


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_the_share_that_is_earned_is_routed(share) -> None:
    router = router_of(audited_history())
    earn(router, share)
    served = [decision.model for decision in route(router, 600)]
    assert served.count("small") / 600 == pytest.approx(share, abs=0.05)


def test_of_a_suspects_calls_half_are_routed() -> None:
    router = router_of(audited_history())
    earn(router, 0.9)
    known = router.floors.earning.standing
    router.floors.earning.standing = lambda *asked: replace(known(*asked), suspects=("small",))
    served = [decision.model for decision in route(router, 600)]
    assert served.count("small") / 600 == pytest.approx(0.5, abs=0.06)


def test_a_call_is_decided_alike_however_often() -> None:
    router = router_of(audited_history())
    earn(router, 0.3)
    assert [d.model for d in route(router, 50)] == [d.model for d in route(router, 50)]


def test_without_earning_audits_limit_nothing() -> None:
    (decision,) = route(router_of(audited_history(), earns=False))
    assert decision.gate is None
    assert decision.model == "small"


@pytest.mark.parametrize(
    ("settings", "query"),
    [
        ({"quality_floor": 0.8}, {}),
        ({"budget_per_call": 0.001}, {}),
        ({}, {"floor": 0.5}),
        ({}, {"allowed": ("small",)}),
    ],
)
def test_what_audits_cannot_prove_is_not_limited(settings, query) -> None:
    (decision,) = route(router_of(audited_history("ingest"), **settings), **query)
    assert decision.gate is None
    assert decision.model == "small"


def test_a_history_of_grades_has_to_be_earned_too() -> None:
    (decision,) = route(router_of(audited_history("ingest")))
    assert (decision.model, decision.gate.shadow) == ("large", "small")


def test_graded_records_price_success_where_there_are_some() -> None:
    assert router_of(audited_history("ingest")).learned.losses == {}
    assert set(router_of(audited_history()).learned.losses) == {""}
    assert router_of(audited_history(n=30)).learned.losses == {}


@pytest.mark.parametrize("n", [1, 5, 13, 39, 45])
def test_few_lucky_audits_do_not_make_a_cheap_model_the_reference(n) -> None:
    history = MemoryHistory(dimension=2)
    beaten = (Outcome("small", 1.0, 20), Outcome("large", 0.5, 20))
    rows = [Record(f"a{i}", "", 50, beaten, source="audit") for i in range(n)]
    history.add(rows, Flat().try_embed(rows))
    for decision in route(router_of(history), 20):
        assert (decision.model, decision.gate.reference) == ("large", "large")


def test_where_the_reference_may_not_serve_the_price_decides() -> None:
    router = router_of(audited_history())
    (candidate,) = router.forecast([Query("text", id="1")])
    closed = replace(candidate, allowed=np.array([True, False]))
    (decision,) = router.assign([closed], router.slots()).decisions
    assert (decision.model, decision.gate) == ("small", None)


def test_a_call_that_is_held_waits_for_the_references_slot() -> None:
    models = (POOL[0], replace(POOL[1], limit=1))
    router = router_of(audited_history(), models=models)
    first, second = router.route([Query("a", id="1"), Query("b", id="2")]).decisions
    assert (first.model, second.model) == ("large", None)


@pytest.mark.parametrize(("over_capacity", "model"), [("spill", "small"), ("wait", None)])
def test_where_the_reference_is_full_calls_do_as_they_did_without_audits(
    over_capacity: str, model: str | None
) -> None:
    models = (POOL[0], replace(POOL[1], limit=1))
    found = {}
    for earns in (True, False):
        router = router_of(earns=earns, models=models, over_capacity=over_capacity)
        (first,) = router.route([Query("text")]).decisions
        assert first.model == "large"
        (found[earns],) = router.route([Query("text")]).decisions
    assert found[True].model == found[False].model == model


def test_where_nothing_is_known_of_a_call_no_price_chooses_though_audits_made_one() -> None:
    router = router_of(audited_history())
    earn(router, 0.9)
    router.learned = replace(router.learned, embedder=None, predictor=PriorPredictor())
    for decision in route(router, 20):
        assert (decision.model, decision.gate.shadow) == ("large", None)


def test_a_call_is_decided_whatever_its_careful_forecasts_come_to() -> None:
    router = router_of(audited_history())
    lowest = lambda names, success, support: success - 5.0  # noqa: E731
    book = SimpleNamespace(
        careful=lowest, price=lambda *_, **__: 0.01, reference="large", promised=0.9, error=0.0
    )
    object.__setattr__(router.learned, "losses", {"": book})
    (decision,) = route(router)
    assert decision.model == "large"


@pytest.mark.parametrize(("floor", "allowed"), [("95 %", 0.045), ("strongest - 3 points", 0.03)])
def test_a_floor_below_the_strongest_allows_its_difference_as_loss(
    floor: str, allowed: float
) -> None:
    (decision,) = route(router_of(quality_floor=floor))
    assert decision.gate.allowed == pytest.approx(allowed)


def audits_of(history, reference, n=60):
    """Audits in which `small` was as good as a reference, from the calls of an agent's policy."""
    outcomes = (Outcome("small", 1.0, 20), Outcome(reference, 1.0, 20))
    told = {"source": "audit", "task": reference}
    rows = [Record(f"{reference} {i}", "", 50, outcomes, **told) for i in range(n)]
    history.add(rows, Flat().try_embed(rows))
    return history


@pytest.mark.parametrize(
    ("models", "reference"),
    [(["small", "medium"], "medium"), (["small", "medium", "large"], "large"), (None, "large")],
)
def test_a_policy_is_measured_by_the_strongest_of_its_own_models(models, reference) -> None:
    pool = (*POOL, Model("medium", input_price=1e-6, output_price=1e-6, strength=0.7))
    history = audits_of(audits_of(MemoryHistory(dimension=2), "large"), "medium")
    router = router_of(history, models=pool, agents={"one": {"models": models} if models else {}})
    for agent, expected in (("one", reference), ("two", "large")):
        (decision,) = route(router, agent=agent)
        gate = decision.gate
        assert (decision.model, gate.reference, gate.shadow) == (expected, expected, "small")


def test_a_call_that_names_fewer_models_is_served_by_their_strongest_and_has_no_price() -> None:
    pool = (*POOL, Model("medium", input_price=1e-6, output_price=1e-6, strength=0.7))
    router = router_of(audits_of(audited_history(), "medium"), models=pool)
    earn(router, 0.9)
    for decision in route(router, 20, allowed=("small", "medium")):
        assert (decision.model, decision.gate.share, decision.gate.shadow) == ("medium", 0.0, None)


def test_an_agents_calls_in_one_batch_are_forecast_by_its_own_policy() -> None:
    pool = (*POOL, Model("medium", input_price=1e-6, output_price=1e-6, strength=0.7))
    history = audits_of(audits_of(MemoryHistory(dimension=2), "large"), "medium")
    router = router_of(history, models=pool, agents={"one": {"models": ["small", "medium"]}})
    calls = [Query("text", id=str(n), agent=agent) for n, agent in enumerate(["one", "two"] * 2)]
    found = router.route(calls).decisions
    assert [decision.model for decision in found] == ["medium", "large"] * 2
