"""What is kept of a decision survives the stream, and holds no text."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from aios_eccos.config import parse_settings
from aios_eccos.errors import DataError
from aios_eccos.forecast.pricing import price_table
from aios_eccos.observe import render_calls, savings
from aios_eccos.observe.explain import explain
from aios_eccos.observe.sums import of_call
from aios_eccos.observe.trace import of_fields, read_traces, to_fields
from aios_eccos.records import Signals
from aios_eccos.serve.tracing import REASON_MOST, trace_of
from aios_eccos.values import (
    NOT_ALLOWED,
    Answer,
    Attempt,
    CallResult,
    Candidate,
    Decision,
    Failure,
    Gate,
    Model,
    Price,
    Query,
    Reading,
)

POOL = (
    Model("small: 8b", input_price=1e-7, output_price=2e-7),
    Model("large", input_price=1e-5, output_price=1e-5),
)
PRICES = price_table(POOL)


FINE = Answer("x", 40, 100)


def settled(answer=FINE, model="large", price=0.01, **query):
    candidate = Candidate(
        query=Query("what is the secret plan?", agent="ünï/agent", input_tokens=50, **query),
        models=("small: 8b", "large"),
        success=np.array([0.5, 0.9]),
        output_tokens=np.array([100.0, 120.0]),
        support=np.array([3.0, math.inf]),
        cost=np.array([2e-5, 1.7e-3]),
        allowed=np.array([True, True]),
        novelty=math.nan,
        worth=Price(policy="ünï/*", floor=0.8, value=price, optimism=0.1),
        reread=np.array([0.0, 1e-4]),
    )
    decision = Decision(
        candidate=candidate,
        model=model,
        leases=(),
        free=np.array([0, 3]),
        slot_prices=np.array([1e-6, math.nan]),
        status="optimal",
        reason="because",
        batch=2,
        decision_s=0.004,
        at=1_700_000_000.0,
    )
    return CallResult(candidate.query, answer, decision, 1, 0.01, 1.5)


def test_a_trace_survives_the_stream() -> None:
    trace = trace_of(settled(), PRICES)
    flat = to_fields(trace)
    assert all(isinstance(value, str) for value in flat.values())
    for value in flat.values():
        json.loads(value, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert of_fields("1-1", flat) == of_fields("1-1", to_fields(trace))
    back = of_fields("1-1", flat)
    assert back.id == "1-1"
    assert to_fields(back) == flat


def test_tries_survive_the_stream_and_their_reasons_are_cut() -> None:
    tries = (
        Attempt("small: 8b", 0.25, failure="x" * 500, input_tokens=7),
        Attempt("large", 1.5, 100, None, Signals(valid_json=False, truncated=True)),
    )
    trace = trace_of(replace(settled(), tries=tries), PRICES)
    back = of_fields("1-1", to_fields(trace))
    assert back.tries == trace.tries
    assert back.tries[1] == tries[1]
    assert back.tries[0].failure == "x" * REASON_MOST


def test_a_decision_of_an_older_version_has_no_tries() -> None:
    flat = to_fields(trace_of(settled(), PRICES))
    del flat["tries"], flat["wasted_usd"]
    assert of_fields("1-1", flat).tries == ()


def test_a_decision_says_which_part_of_its_prompt_was_read() -> None:
    reading = Reading("last user message", "question", 28_100, 28_420, 30_011)
    call = settled()
    trace = trace_of(replace(call, query=replace(call.query, reading=reading)), PRICES)
    assert of_fields("1-1", to_fields(trace)).reading == trace.reading == reading
    said = " ".join(render_calls.explain(explain(trace)).split())
    assert "characters 28,100 to 28,420 of 30,011 of the last user message (question)" in said


def test_tokens_of_requests_without_an_answer_are_paid_for_too() -> None:
    small, large = PRICES.models
    tries = (
        Attempt(small, 0.2, 900, "empty answer", input_tokens=100),
        Attempt(small, 0.2, 100, "empty answer"),
        Attempt(small, 0.1, failure="503"),
        Attempt("gone", 0.1, 5, "empty answer"),
        Attempt(large, 0.1, 50),
    )
    call = replace(settled(), tries=tries)
    trace = trace_of(call, PRICES)
    asked = 100 + call.query.input_tokens
    wasted = asked * PRICES.input[0] + 1000 * PRICES.output[0]
    assert trace.wasted_usd == {small: pytest.approx(wasted)}
    assert trace.cost_usd == trace_of(settled(), PRICES).cost_usd
    assert of_fields("1-1", to_fields(trace)).wasted_usd == trace.wasted_usd
    sums, without = of_call(trace), of_call(replace(trace, wasted_usd={}))
    for name in ("cost", f"cost:{small}", "wasted"):
        assert sums[name] == pytest.approx(without.get(name, 0.0) + wasted)
    ours = savings.savings(0.0, True, [("total", None, sums)], large).windows[0]
    assert ours.cost_usd == pytest.approx(without["cost"]), "a baseline would have failed as well"
    # A call that failed for good is paid for as well.
    lost = replace(call, answer=Answer(failure=Failure("empty answer")))
    assert of_call(trace_of(lost, PRICES))["cost"] == pytest.approx(wasted)


GATE = Gate("large", "95 %", 0.05, 0.3, 0.2, frozenset({"worn"}), lot=0.5)


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (None, (False, None, 1.0)),
        (GATE, (True, None, 0.3)),
        (replace(GATE, shadow="small: 8b"), (True, "small: 8b", 0.3)),
        (replace(GATE, shadow="large", lot=0.1), (False, "large", 0.3)),
        (replace(GATE, shadow="worn", lot=0.25), (True, "worn", 0.2)),
    ],
    ids=["nothing to earn", "no price", "held", "routed", "suspected"],
)
def test_what_the_price_would_choose_and_how_likely_it_is_routed_is_told(
    gate: Gate | None, told: tuple[bool, str | None, float]
) -> None:
    call = settled()
    call = replace(call, decision=replace(call.decision, gate=gate))
    trace = of_fields("1-1", to_fields(trace_of(call, PRICES)))
    view = explain(trace)
    assert (trace.held, trace.shadow, trace.chance) == told
    assert (view.held, view.shadow, view.chance) == told


def test_a_decision_of_an_older_version_was_not_held() -> None:
    flat = to_fields(trace_of(settled(), PRICES))
    del flat["held"], flat["shadow"], flat["chance"]
    assert of_fields("1-1", flat).held is False


def test_no_text_is_kept() -> None:
    kept = json.dumps(to_fields(trace_of(settled(Answer("the secret answer", 4, 5)), PRICES)))
    assert "secret" not in kept


def test_money_is_of_the_tokens_that_were_counted() -> None:
    trace = trace_of(settled(), PRICES)
    assert trace.metered
    assert trace.cost_usd == pytest.approx(140 * 1e-5)
    assert trace.chosen is not None
    assert trace.chosen.cost_usd == 1.7e-3
    assert trace.promised == pytest.approx(0.8)


def test_an_uncounted_answer_costs_what_was_forecast() -> None:
    trace = trace_of(settled(Answer("x")), PRICES)
    assert (trace.metered, trace.cost_usd, trace.input_tokens) == (False, 1.7e-3, 50)


def test_a_model_without_a_price_any_more_costs_what_was_forecast() -> None:
    trace = trace_of(settled(), price_table(POOL[:1]))
    assert (trace.metered, trace.cost_usd) == (False, 1.7e-3)


def test_a_failure_costs_nothing_known_and_its_reason_is_cut() -> None:
    trace = trace_of(settled(Answer(failure=Failure("x" * 500, 503))), PRICES)
    assert trace.cost_usd is None
    assert trace.failure == "x" * REASON_MOST
    assert trace.status_code == 503


def test_what_is_not_a_number_is_unknown() -> None:
    trace = trace_of(settled(price=math.inf), PRICES)
    assert trace.success_price_usd is None
    assert trace.novelty is None
    assert trace.options[1].slot_price_usd == 0.0
    assert trace.options[1].support == 0.0


def test_what_closed_a_model_is_told_apart() -> None:
    pool = [Model(name) for name in ("chosen", "resting", "failed")]
    pool += [
        Model("blind", abilities=frozenset({"tools", "json"})),
        Model("short", context_window=60),
        Model("other"),
    ]
    names = tuple(model.name for model in pool)
    asked = Query(
        "x", agent="a", input_tokens=50, max_output_tokens=30, needs=frozenset({"vision"})
    )
    row, open_to = np.full(len(pool), 0.5), np.array([name == "chosen" for name in names])
    over = settled(model="chosen")
    assert over.decision is not None
    candidate = replace(
        over.decision.candidate,
        query=asked,
        models=names,
        allowed=open_to,
        **dict.fromkeys(("success", "output_tokens", "support", "cost", "reread"), row),
    )
    decision = replace(over.decision, candidate=candidate, free=row, slot_prices=row)
    tries = (Attempt("failed", 0.1, failure="503"), Attempt("chosen", 0.1))
    over = replace(over, query=asked, decision=decision, tries=tries)
    settings = parse_settings({"agents": {"a": {"models": [n for n in names if n != "other"]}}})
    trace = of_fields("1-1", to_fields(trace_of(over, PRICES, settings, pool)))
    assert {option.model: option.closed for option in trace.options} == {
        "chosen": "",
        "resting": "rests after an error",
        "failed": "has just failed on it",
        "blind": "cannot serve vision",
        "short": "has a context window of 60 tokens, 80 are needed",
        "other": NOT_ALLOWED,
    }
    view = explain(trace)
    assert {c.model: c.why for c in view.choices}["short"].startswith("has a context window")
    for words in ("resting rests after an error", "blind cannot serve vision", "2 more"):
        assert words in view.sentence


def test_a_call_that_was_never_decided_is_kept_too() -> None:
    query = Query("x", agent="a")
    trace = trace_of(
        CallResult(query, Answer(failure=Failure("timeout", 504)), None, 0, 3.0, 0.0), PRICES
    )
    assert (trace.status, trace.model, trace.options) == ("undecided", None, ())
    assert of_fields("1-1", to_fields(trace)).failure == "timeout"


@pytest.mark.parametrize("damage", ["options", "model", "at"])
def test_a_damaged_entry_is_named_and_left_out(damage: str) -> None:
    flat = to_fields(trace_of(settled(), PRICES))
    for broken in ({**flat, damage: "{"}, {k: v for k, v in flat.items() if k != damage}):
        with pytest.raises(DataError, match="7-7"):
            of_fields("7-7", broken)
        assert [t.id for t in read_traces([("7-7", broken), ("8-8", flat)])] == ["8-8"]
    assert read_traces([("7-7", {**flat, "options": "[[1, 2]]"})]) == []
