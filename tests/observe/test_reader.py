"""What is shown is what happened: status, savings, explanations, verdicts, other floors."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from observe_world import LARGE, SMALL, World, failing, make_engine
from waiting import until

from aios_eccos.config import Floor, parse_floor
from aios_eccos.errors import DataError, HistoryError
from aios_eccos.observe.explain import explain
from aios_eccos.observe.reader import Reader, Scope, state_of
from aios_eccos.observe.sums import of_call
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Failure, Lease, Query
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import MINUTE_S


def test_status_says_what_happened(world: World) -> None:
    world.calls(6, "0.2")
    world.calls(2, "0.97")
    world.answer = failing("429")
    world.call()
    view = world.reader.status()
    assert view.source == "kernel"
    start, day = view.windows
    assert (start.calls, start.failures, start.verdicts) == (9, 1, 0)
    assert start == day.model_copy(update={"name": "start", "since": start.since})
    assert start.since == pytest.approx(time.time(), abs=30)
    by_name = {m.model: m for m in view.models}
    assert by_name[SMALL.name].calls + by_name["large"].calls == 9
    assert sum(m.share or 0 for m in view.models) == pytest.approx(1)
    assert start.cost_usd == pytest.approx(sum(m.cost_usd for m in view.models))
    assert start.realised is None and start.verdict_share == 0
    assert by_name["large"].price == "priced"
    assert view.success_price_usd is not None
    assert view.calls_per_s > 0
    assert view.usd_per_h > 0
    assert view.alarms == []


def test_status_before_anything_happened(world: World) -> None:
    view = world.reader.status()
    assert (view.calls_per_s, view.windows[0].calls, view.windows[0].promised) == (0, 0, None)
    assert world.reader.savings().windows == []
    assert world.reader.decisions().decisions == []
    assert world.reader.what_if(Floor(0.5, False)) is None
    with pytest.raises(DataError, match="no decision"):
        world.reader.find("last")


def test_load_and_rest_are_of_now(world: World) -> None:
    router = world.engine.router
    world.engine.workload.cool_down(router.models[1].slot, 20)
    large = world.reader.models().models[1]
    assert 0 < large.cooling_s <= 20
    assert (large.in_use, large.limit, large.declared_limit) == (0, 64, 64)


def test_a_decision_is_found_by_its_ids(world: World) -> None:
    world.calls(3)
    trace = world.reader.decisions(3).decisions[1]
    assert world.reader.find(trace.id) == trace
    assert world.reader.find(trace.call) == trace
    assert world.reader.find(trace.call[:12]) == trace
    assert world.reader.find("last") == world.reader.decisions(1).decisions[0]
    for unknown in ("1-1", "ffffffffffff", "x", ""):
        with pytest.raises(DataError):
            world.reader.find(unknown)


def test_an_explanation_says_which_constraint_bound(world: World) -> None:
    world.call("0.05")
    easy = world.reader.explain("last")
    assert (easy.bound_by, easy.decision.model) == ("nothing", SMALL.name)
    world.call("0.97")
    hard = world.reader.explain("last")
    assert (hard.bound_by, hard.decision.model) == ("floor", "large")
    assert "to keep the floor" in hard.sentence and SMALL.name in hard.sentence
    world.call("0.97", allowed=(SMALL.name,))
    pinned = world.reader.explain("last")
    assert pinned.bound_by == "allowed models"
    assert "its agent allows no other" in pinned.sentence
    assert {c.model: c.why for c in pinned.choices}["large"] == "is not allowed to its agent"


def test_an_explanation_prices_the_alternatives(world: World) -> None:
    world.call("0.97")
    view = world.reader.explain("last")
    cheap, chosen = view.choices
    assert chosen.chosen and chosen.extra_usd == 0
    assert cheap.extra_usd is not None and cheap.extra_usd < 0
    assert cheap.why == "cheaper, but loses too much success"
    assert cheap.net_usd is not None and chosen.net_usd is not None
    assert chosen.net_usd < cheap.net_usd


def test_a_full_model_is_named_as_the_limit(world: World) -> None:
    from aios_eccos.values import Lease

    slot = world.engine.router.models[1].slot
    world.engine.workload.acquire([Lease(f"c{i}", slot) for i in range(64)], {slot: 64})
    world.call("0.97")
    view = world.reader.explain("last")
    assert view.decision.model == SMALL.name
    assert view.bound_by == "limit of large"
    assert "at its limit" in view.sentence
    assert {c.model: c.why for c in view.choices}["large"] == "at its limit"


def test_in_a_batch_solved_whole_no_limit_is_blamed(world: World) -> None:
    world.call("0.97")
    trace = world.reader.explain("last").decision
    # Its own price of success would have taken the small model: the batch's took the other.
    alone = replace(trace, success_price_usd=1e-9, batch=600)
    assert explain(alone).bound_by.startswith("limit of ") and of_call(alone)["limited"] == 1
    whole = replace(alone, whole=True)
    assert "limited" not in of_call(whole)
    view = explain(whole)
    assert view.bound_by == "whole batch"
    assert {c.why for c in view.choices} == {"chosen", "the batch as a whole gains more"}


def test_a_dry_decision_knows_what_slots_are_worth(world: World) -> None:
    large, workload = world.engine.router.models[1], world.engine.workload
    prices = {f"slot:{large.slot}": 1.0}
    workload.set_prices(prices)
    assert world.reader.explain_text("0.97").decision.model == "large", "it idles"
    held = [Lease(f"c{i}", large.slot) for i in range(63)]
    workload.acquire(held, {large.slot: 64})
    for _ in range(20):
        assert world.reader.explain_text("0.97").decision.model == SMALL.name
    assert workload.read_prices() == prices, "nothing is learned from a call that nobody made"


def test_a_call_without_a_model_is_explained(world: World) -> None:
    world.call("0.5", allowed=("nobody",))
    view = world.reader.explain("last")
    assert view.choices == []
    assert view.bound_by == "no decision"
    assert view.sentence.startswith("No model served this call")


def test_neighbors_are_shown_without_text_and_without_the_call_itself(world: World) -> None:
    settled = world.call("0.3")
    near = world.reader.explain("last").neighbors
    assert len(near) == 5
    assert settled.query.id not in [n.id for n in near]
    assert all(n.text is None and n.correctness and n.task == "sums" for n in near)
    assert near[0].similarity >= near[-1].similarity > 0.99


def test_a_text_is_explained_without_a_call_or_a_slot(world: World) -> None:
    view = world.reader.explain_text("0.97 and what now", agent="writer")
    assert view.dry
    assert view.decision.model == "large"
    assert len(view.neighbors) == 5
    assert world.reader.decisions().decisions == []
    assert world.reader.models().models[1].in_use == 0


def test_what_a_dry_decision_does_not_rest_on_yet_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(Engine, "learn", lambda self: go.wait(60))
    engine = make_engine(tmp_path)
    reader = World(engine).reader

    def said() -> str:
        note = reader.route("0.2 what").note
        assert f"{note[0].upper()}{note[1:]}." in reader.explain_text("0.2 what").sentence
        return note

    assert said() == "forecast on priors: the history is still being opened"
    with engine:
        until(lambda: engine.history is not None)
        assert said() == (
            "240 records are still being learned from; until then the strongest model serves"
        )
        go.set()
        until(lambda: not engine.upkeep.learning)
        assert "too few verdicts" in said()


def test_a_dry_decision_that_rests_on_all_history_says_nothing_more(world: World) -> None:
    until(lambda: not world.engine.upkeep.learning)
    assert world.reader.route("0.2 what").note == ""


def test_a_dry_decision_is_of_the_mode_that_is_in_force(world: World) -> None:
    for mode, observes in (("observe", True), ("route", False)):
        world.engine.set(mode=mode)
        assert ("only observes" in world.reader.explain_text("0.2 what").sentence) is observes


def test_only_a_living_engine_can_decide_or_learn() -> None:
    workload = MemoryWorkload()
    scope = Scope(World.__init__.__globals__["parse_settings"]({}), (SMALL.model(),))
    reader = Reader(workload, lambda: scope)
    for ask in (lambda: reader.explain_text("x"), lambda: reader.what_if(Floor(0.5, False))):
        with pytest.raises(DataError, match="living kernel"):
            ask()
    assert reader.status().source == "redis"
    workload.close()


def test_savings_are_a_forecast_beside_a_known_spending(world: World) -> None:
    world.calls(40, "0.1")
    view = world.reader.savings()
    assert view.baseline == "large" and "forecast" in view.note
    start = view.windows[0]
    assert [w.name for w in view.windows] == ["start", "week", "day"]
    assert (start.answers, start.asked_baseline) == (40, 0)
    assert start.cost_usd == pytest.approx(40 * 150e-7)
    # The large model was forecast to answer in about 100 tokens, at a hundred times the price.
    assert start.baseline_cost_usd.value == pytest.approx(100 * start.cost_usd, rel=0.25)
    assert start.saved_usd.value == start.baseline_cost_usd.value - start.cost_usd
    assert start.baseline_cost_usd.low is None  # one model answered: no spread between models
    assert start.baseline_success is not None and start.baseline_success.low is None


def test_a_baseline_that_was_asked_is_known(world: World) -> None:
    world.calls(40, "0.97")
    start = world.reader.savings("large").windows[0]
    assert start.asked_baseline == 40
    assert start.saved_usd.value == pytest.approx(0, abs=1e-12)
    assert start.saved_usd.low == pytest.approx(0, abs=1e-12)


def test_a_configured_baseline_stands_unless_another_is_named(world: World) -> None:
    world.calls(3)
    world.change(quality_floor=0.9, baseline=SMALL.name)
    view = world.reader.savings()
    assert (view.baseline, view.chosen_as) == (SMALL.name, "named")
    assert world.reader.savings("large").baseline == "large"


def test_a_baseline_nobody_forecast_is_said_so(world: World) -> None:
    world.call()
    view = world.reader.savings("gpt-9")
    assert view.windows == [] and "gpt-9" in view.note


def test_a_pinned_call_counts_the_same_on_both_sides(world: World) -> None:
    for _ in range(3):
        world.call("0.97", allowed=(SMALL.name,))
    start = world.reader.savings("large").windows[0]
    assert start.saved_usd.value == pytest.approx(0, abs=1e-12)


def test_a_verdict_counts_once_however_often_it_is_given(world: World) -> None:
    world.calls(4)
    trace = world.reader.decisions(1).decisions[0]
    first = world.reader.feedback(trace.id, 0.0)
    again = world.reader.feedback(trace.id, 1.0)
    assert (first.before, again.before, again.learnt) == (None, 0.0, True)
    start = world.reader.status().windows[0]
    assert (start.verdicts, start.verdict_share) == (1, 0.25)
    assert start.realised is not None and start.realised.value == 1.0
    assert start.judged_promised == pytest.approx(trace.promised)
    (alarm,) = world.reader.status().alarms
    fresh = World(world.engine)
    assert alarm.verdicts == 1 and alarm.realised == 1.0
    assert alarm.floor == pytest.approx(0.9)
    assert fresh.reader.decisions(1).verdicts == [1.0]
    history = world.engine.history
    assert history is not None
    ((record, _),) = history.recall([trace.call]).values()
    assert record.outcomes[0].correctness == 1.0


def test_a_verdict_that_the_history_does_not_know_yet_is_handed_over(world: World) -> None:
    world.call()
    trace = world.reader.decisions(1).decisions[0]
    history = world.engine.history
    assert history is not None
    history.forget(agent="writer")
    assert not world.reader.feedback(trace.id, 1.0).learnt
    assert len(world.engine.workload.take_inbox(5)) == 1


def test_a_verdict_on_a_server_waits_for_its_record(tmp_path: Path) -> None:
    """It has no inbox: what the history does not know then, it would never learn."""
    engine = make_engine(tmp_path, history="http://chroma:8000")
    engine.start()
    assert engine.wait_ready(60)
    world = World(engine)
    query = Query("0.2", input_tokens=50)
    engine.dispatcher.submit(query, lambda m, left: Answer("x", 5, 5)).result(60)
    until(lambda: bool(world.reader.decisions(1).decisions))
    assert world.reader.feedback("last", 1.0).learnt
    assert engine.history is not None
    ((record, _),) = engine.history.recall([query.id]).values()
    assert [o.correctness for o in record.outcomes] == [1.0]
    engine.close()


def test_no_verdict_on_what_was_not_answered(world: World) -> None:
    world.answer = failing()
    world.call()
    with pytest.raises(DataError, match="no answer to judge"):
        world.reader.feedback("last", 1.0)


def test_a_broken_floor_is_an_event_a_warning_and_shown(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.calls(30)
    with caplog.at_level(logging.WARNING, "aios_eccos.observe"):
        for trace in world.reader.decisions(30).decisions:
            world.reader.feedback(trace.id, 0.0)
    view = world.reader.status()
    assert [alarm.policy for alarm in view.broken] == [""]
    (event,) = [e for e in world.reader.events().events if "floor:" in e.what]
    assert (event.before, event.after) == ("kept", "broken")
    assert sum("broken" in r.getMessage() for r in caplog.records) == 1
    for trace in world.reader.decisions(30).decisions:
        world.reader.feedback(trace.id, 1.0)
    assert world.reader.status().broken == []
    assert world.reader.events().events[0].after == "kept"


def test_another_floor_is_decided_over_the_last_calls(world: World) -> None:
    world.calls(10, "0.2")
    world.calls(10, "0.7")
    low = world.reader.what_if(parse_floor("0.5"))
    high = world.reader.what_if(parse_floor("99 %"))
    assert low is not None and high is not None
    assert low.calls == high.calls == 20
    assert low.cost_then_usd < high.cost_then_usd
    assert low.promised_then is not None and high.promised_then is not None
    assert low.promised_then < high.promised_then
    assert low.success_price_usd < high.success_price_usd
    assert sum(high.shares_then.values()) == pytest.approx(1)


def test_charts_have_a_point_for_every_minute_and_hour(world: World) -> None:
    world.calls(5)
    view = world.reader.series()
    assert (len(view.minutes), len(view.hours)) == (60, 24)
    assert sum(p.calls for p in view.minutes) == 5
    assert view.hours[-1].calls + view.hours[-2].calls == 5
    assert view.minutes[-1].at - view.minutes[0].at == 59 * MINUTE_S
    assert sum(p.by_model.get(SMALL.name, 0) for p in view.minutes) == 5


def test_a_retried_call_says_so(world: World) -> None:
    world.answer = lambda model: (
        Answer(failure=Failure("503", 503)) if model == SMALL.name else Answer("x", 5, 5)
    )
    world.call("0.05")
    view = world.reader.explain("last")
    assert (view.decision.attempts, view.decision.model) == (2, LARGE.name)
    assert "just failed on it" in view.sentence


# What goes on is said, rather than guessed at.


def stand_in(**told: object) -> SimpleNamespace:
    """An engine as far as its state is asked for."""

    def count() -> object:
        if isinstance(lost := told.get("lost"), Exception):
            raise lost
        return told.get("records", 2000)

    history = SimpleNamespace(count=count)
    return SimpleNamespace(
        history=history if told.get("open", True) else None,
        embedder=SimpleNamespace(ready="embedder" not in told, error=told.get("embedder")),
        upkeep=SimpleNamespace(error=told.get("error"), learning=told.get("learning", False)),
        router=SimpleNamespace(learned=SimpleNamespace(book=told.get("book"))),
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"open": False}, "forecast on priors: the history is still being opened"),
        ({"open": False, "error": DataError("process 7 has it")}, "process 7 has it"),
        ({"embedder": None}, "the embedder is still loading"),
        ({"embedder": "no such folder"}, "the embedder failed: no such folder"),
        ({"records": 0}, "no history yet"),
        ({"lost": HistoryError("no server")}, "forecast on priors: no server"),
        ({"learning": True}, "2,000 records are still being learned from"),
        ({}, "too few verdicts"),
    ],
)
def test_the_state_of_an_engine_is_said(told: dict[str, object], said: str) -> None:
    assert said in state_of(stand_in(**told))  # type: ignore[arg-type]


def test_an_engine_that_has_all_it_needs_says_nothing(world: World) -> None:
    assert state_of(world.engine) == ""


def test_a_dry_decision_takes_no_model_that_rests(world: World) -> None:
    """As no call would; with all of them at rest, it takes what a call would then."""
    small, large = world.engine.router.models
    assert world.reader.explain_text("0.05").decision.model == small.name
    world.engine.workload.cool_down(small.slot, 20)
    view = world.reader.explain_text("0.05")
    assert view.decision.model == large.name
    (closed,) = [choice for choice in view.choices if not choice.allowed]
    assert (closed.model, closed.why) == (small.name, "rests after an error")
    (row,) = [row for row in world.reader.route("0.05").models if row.model == small.name]
    assert row.why == "rests after an error"
    world.engine.workload.cool_down(large.slot, 20)
    assert world.reader.route("0.05").model == small.name
