"""What is kept and shown of a plan's calls: their vote, their cost, what they saved."""

from __future__ import annotations

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.forecast.pricing import price_table
from aios_eccos.observe import render, render_calls
from aios_eccos.observe.explain import explain, route_view
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.summary import Scope, read_status
from aios_eccos.observe.sums import of_call
from aios_eccos.observe.trace import of_fields, to_fields
from aios_eccos.records import Signals
from aios_eccos.serve.observers import KeepsSums, Kept, live_record
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import (
    Answer,
    Attempt,
    CallResult,
    Candidate,
    Decision,
    Model,
    Plan,
    Price,
    Query,
    Vote,
)
from aios_eccos.workload.memory import MemoryWorkload

POOL = (
    Model("small", input_price=1e-6, output_price=1e-6),
    Model("mini", input_price=2e-6, output_price=2e-6),
    Model("large", input_price=1e-4, output_price=1e-4),
)
PLAN = Plan(("small", "mini"), "large")
COST = {"small": 2e-4, "mini": 4e-4, "large": 2e-2}
SETTINGS = parse_settings({"plans": [PLAN.name]})


def settled(outcome, answered_by, *, failed=(), text="a question"):
    """A call that the plan has served, with requests of 100 tokens each way."""
    names = (*(model.name for model in POOL), PLAN.name)
    candidate = Candidate(
        query=Query(text, input_tokens=100, agent="solver"),
        models=names,
        success=np.array([0.5, 0.5, 0.9, 0.9]),
        output_tokens=np.array([100.0, 100.0, 100.0, 220.0]),
        support=np.full(4, 50.0),
        cost=np.array([*COST.values(), 4.6e-3]),
        allowed=np.ones(4, dtype=bool),
        novelty=0.1,
        worth=Price(floor=0.9, value=0.1),
        plans={PLAN: 0.2},
    )
    free = np.full(4, 4)
    decision = Decision(candidate, PLAN.name, (), free, np.zeros(4), "optimal", "why", 1, 0.0, 1e9)
    asked = PLAN.members if outcome == "agreed" else PLAN.models
    tries = tuple(
        Attempt(name, 0.5, 100, "429" if name in failed else None, Signals(), 100) for name in asked
    )
    said = {name: Answer(name, 100, 100) for name in asked if name not in failed}
    vote = Vote(PLAN.members, PLAN.escape, outcome, answered_by)
    return CallResult(
        candidate.query,
        said[answered_by],
        decision,
        len(tries),
        0.0,
        1.0,
        tries,
        vote=vote,
        said=said,
    )


def traced(*args, **more):
    return trace_of(settled(*args, **more), price_table(POOL), SETTINGS, POOL)


def test_a_plans_cost_is_that_of_all_its_answers() -> None:
    agreed, differed = traced("agreed", "small"), traced("differed", "large")
    assert agreed.cost_usd == pytest.approx(COST["small"] + COST["mini"])
    assert differed.cost_usd == pytest.approx(sum(COST.values()))
    failed = traced("failed", "large", failed=("mini",))
    assert failed.cost_usd == pytest.approx(COST["small"] + COST["large"])
    assert failed.wasted_usd == pytest.approx({"mini": COST["mini"]})


def test_what_it_saved_is_against_its_escape_alone() -> None:
    sums = of_call(traced("agreed", "small"))
    name = PLAN.name
    assert sums[f"plan_saved:{name}"] == pytest.approx(2e-2 - 6e-4)
    assert (sums[f"plan_calls:{name}"], sums[f"plan_agreed:{name}"]) == (1, 1)
    assert f"plan_escaped:{name}" not in sums
    lost = of_call(traced("failed", "large", failed=("mini",)))
    assert lost[f"plan_saved:{name}"] == pytest.approx(-6e-4)
    assert lost[f"plan_escaped:{name}"] == 1


def test_what_a_plan_spends_counts_for_the_models_that_were_paid() -> None:
    sums = of_call(traced("failed", "large", failed=("mini",)))
    spent = {name: sums[f"cost:{name}"] for name in COST}
    assert spent == pytest.approx(COST)
    assert f"cost:{PLAN.name}" not in sums
    assert sums[f"plan_cost:{PLAN.name}"] == pytest.approx(sums["cost"])
    assert sums["cost"] == pytest.approx(sum(COST.values()))
    tokens = {name: sums.get(f"output_tokens:{name}", 0.0) for name in COST}
    assert tokens == {"small": 100, "mini": 0, "large": 100}


def test_a_trace_comes_back_with_its_vote() -> None:
    trace = traced("differed", "large")
    again = of_fields("1-0", to_fields(trace))
    assert again.vote == trace.vote
    assert again.vote == Vote(
        ("small", "mini"),
        "large",
        "differed",
        "large",
        {n: pytest.approx(c) for n, c in COST.items()},
    )


@pytest.mark.parametrize(
    ("outcome", "by", "models"),
    [("agreed", "small", ("small", "mini")), ("no form", "large", ("large",))],
)
def test_a_verdict_is_one_on_the_models_whose_answer_it_was(outcome, by, models) -> None:
    assert traced(outcome, by).answered_by == models


def test_the_history_learns_the_answers_of_all_that_were_asked() -> None:
    record = live_record(settled("differed", "large"), lambda value: f"key of {value}")
    assert record is not None
    keys = {outcome.model: outcome.answer for outcome in record.outcomes}
    assert keys == {name: f"key of {name}" for name in PLAN.models}


def test_explain_shows_the_vote_and_whose_answer_was_given() -> None:
    shown = render_calls.explain(explain(traced("differed", "large")))
    assert "vote: small and mini gave different answers; large's answer was given" in " ".join(
        shown.split()
    )


def test_a_dry_route_shows_the_slots_of_a_plan() -> None:
    limits = {"small": 4, "mini": 5, "large": 6, PLAN.name: 4}
    rows = {row.model: row for row in route_view(traced("agreed", "small"), limits, "").models}
    assert (rows[PLAN.name].in_use, rows[PLAN.name].limit) == (0, 4)


def test_status_and_metrics_count_what_plans_did() -> None:
    ledger = MemoryWorkload()
    results = [settled("agreed", "small"), settled("differed", "large")]
    kept = [Kept(each, trace_of(each, price_table(POOL), SETTINGS, POOL)) for each in results]
    sums = KeepsSums(ledger)
    sums.take(kept)
    sums.flush()
    status = read_status(ledger, Scope(SETTINGS, POOL))
    (plan,) = status.plans
    assert (plan.plan, plan.calls, plan.agreed, plan.escaped) == (PLAN.name, 2, 1, 1)
    assert plan.saved_usd == pytest.approx(2e-2 - 6e-4 - 6e-4)
    assert plan.cost_usd == pytest.approx(6e-4 + sum(COST.values()))
    assert [m.cost_usd for m in status.models] == pytest.approx([4e-4, 8e-4, 2e-2])
    assert f"plan {PLAN.name}: 2 calls" in " ".join(render.status(status).split())
    (total,) = ledger.sums(["total"])
    text = metrics_text(status, total)
    assert f'aios_eccos_plan_escaped_total{{plan="{PLAN.name}"}} 1.0' in text


def test_without_plans_nothing_is_said_of_them() -> None:
    ledger = MemoryWorkload()
    status = read_status(ledger, Scope(SETTINGS, POOL))
    assert status.plans == []
    assert "plan" not in render.status(status)
    assert "aios_eccos_plan" not in metrics_text(status, {})
