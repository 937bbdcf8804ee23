"""What becomes of a call: a decision, sums, a record in the history, events; and nothing waits."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from observe_world import LARGE, SMALL, World, failing, make_engine

from aios_eccos.errors import HistoryError, WorkloadError
from aios_eccos.observe import render_calls
from aios_eccos.records import Outcome, Signals
from aios_eccos.serve.observers import SUMS_EVERY_S, live_record
from aios_eccos.serve.recorder import Recorder
from aios_eccos.values import Answer, Attempt, CallResult, Failure, Query
from aios_eccos.workload.periods import TOTAL, PeriodSums, names_of, periods


def total(world: World) -> dict[str, float]:
    return world.engine.ledger.sums([TOTAL])[0]


def test_a_served_call_is_kept(world: World) -> None:
    settled = world.call()
    (trace,) = world.reader.decisions(5).decisions
    assert trace.call == settled.query.id
    assert settled.decision is not None
    assert trace.model == settled.decision.model == SMALL.name
    assert trace.cost_usd == pytest.approx(150 * 1e-7)
    sums = total(world)
    assert sums["calls"] == sums["answers"] == sums[f"calls:{SMALL.name}"] == 1
    assert sums["cost"] == pytest.approx(trace.cost_usd)
    assert sums["promised"] == pytest.approx(trace.promised)
    assert "failures" not in sums


def test_sums_are_those_of_the_decisions(world: World) -> None:
    world.calls(30, "0.2")
    world.calls(10, "0.95")
    traces = world.reader.decisions(100).decisions
    sums = total(world)
    assert sums["calls"] == len(traces) == 40
    assert sums["cost"] == pytest.approx(sum(t.cost_usd or 0 for t in traces))
    assert sums["waited"] == pytest.approx(sum(t.waited_s for t in traces))
    for kind in ("waited_le", "decided_le"):
        assert sum(sums[f"{kind}:{b}"] for b in names_of(kind, sums)) == 40
    now = time.time()
    for kind in ("h", "m"):  # a new hour may have begun meanwhile, and new minutes
        found = world.engine.ledger.sums(periods(kind, now, 5))
        assert sum(part.get("calls", 0) for part in found) == 40


def test_a_failure_is_counted_and_costs_nothing(world: World) -> None:
    world.answer = failing("429")
    world.call()
    sums = total(world)
    assert (sums["calls"], sums["failures"]) == (1, 1)
    assert "cost" not in sums
    assert world.reader.decisions(1).decisions[0].failure == "429"


def test_the_history_learns_what_is_known_and_no_verdict(world: World) -> None:
    seen = Signals(valid_json=True, empty=False)
    world.answer = lambda model: Answer("fine", 50, 100, signals=seen)
    settled = world.call("0.05 secret words")
    history = world.engine.history
    assert history is not None
    ((record, vector),) = history.recall([settled.query.id]).values()
    (outcome,) = record.outcomes
    assert (outcome.model, outcome.correctness, outcome.output_tokens) == (SMALL.name, None, 100)
    assert outcome.latency_s is not None
    assert outcome.signals == Signals(valid_json=True, empty=False)
    assert (record.source, record.agent, record.text) == ("live", "writer", "")
    assert len(vector) == 2


def test_a_text_is_embedded_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, embedded = world.engine.embedder, []
    original = type(embedder).try_embed

    def counting(texts):
        embedded.extend(texts)
        return original(embedder, texts)

    monkeypatch.setattr(embedder, "try_embed", counting, raising=False)
    free = world.call("0.05 decided on its text")
    pinned = world.call("0.95 pinned", allowed=(SMALL.name,))
    assert sorted(embedded) == ["0.05 decided on its text", "0.95 pinned"]
    assert free.decision is not None
    assert "embedding" not in repr(free.decision.candidate)
    assert world.engine.history is not None
    learnt = world.engine.history.recall([free.query.id, pinned.query.id])
    for settled in (free, pinned):
        _, vector = learnt[settled.query.id]
        assert vector == pytest.approx(original(embedder, [settled.query.text])[0])


def test_an_error_is_learnt_as_an_error(world: World) -> None:
    world.answer = failing("timeout")
    settled = world.call()
    history = world.engine.history
    assert history is not None
    ((record, _),) = history.recall([settled.query.id]).values()
    assert (record.outcomes[0].error, record.outcomes[0].output_tokens) == ("timeout", None)


def test_every_model_that_was_asked_has_an_outcome_with_its_own_time(world: World) -> None:
    """The second answers at once; the first one's time and error are not laid to its charge."""
    asked: list[str] = []

    def answer(model: str) -> Answer:
        asked.append(model)
        if len(asked) > 1:
            return Answer("fine", 50, 100, signals=Signals(truncated=True, empty=False))
        time.sleep(0.1)
        return Answer(failure=Failure("429", 429))

    world.answer = answer
    settled = world.call()
    first, second = settled.tries
    assert [first.model, second.model] == asked
    assert first.seconds >= 0.1
    assert settled.served_s >= first.seconds + second.seconds
    history = world.engine.history
    assert history is not None
    ((record, _),) = history.recall([settled.query.id]).values()
    assert {o.model: (o.error, o.output_tokens) for o in record.outcomes} == {
        first.model: ("429", None),
        second.model: (None, 100),
    }
    assert [o.latency_s for o in record.outcomes] == [first.seconds, second.seconds]
    shown = world.reader.explain("last")
    assert [t.model for t in shown.decision.tries] == asked
    text = render_calls.explain(shown)
    assert f"{first.model}: 429 after" in text
    assert f"{second.model}: answered, cut off at its token limit after" in text
    assert shown.verdict is None  # signals are no verdict
    assert all(o.correctness is None for o in record.outcomes)


def no_key(value: object) -> None:
    """Answers are not compared."""


def test_of_two_requests_to_one_model_the_last_stands() -> None:
    query = Query("text")
    tries = (Attempt("a", 0.3, failure="503"), Attempt("a", 0.1, 7))
    decision = SimpleNamespace(model="a", at=1.0)
    record = live_record(CallResult(query, Answer("x"), decision, 2, 0, 0.4, tries), no_key)  # type: ignore[arg-type]
    assert record is not None
    assert record.outcomes == (Outcome("a", output_tokens=7, latency_s=0.1),)


def test_nothing_is_learnt_of_a_call_without_text_or_model() -> None:
    empty = CallResult(Query("  "), Answer(), None, 0, 0.0, 0.0)
    undecided = CallResult(Query("text"), Answer(), None, 0, 0.0, 0.0)
    assert live_record(empty, no_key) is None
    assert live_record(undecided, no_key) is None


def test_a_history_that_fails_costs_only_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> int:
        raise HistoryError("disk full")

    monkeypatch.setattr(world.engine.history, "add", broken)
    world.call()
    assert world.engine.teaches.unlearnt == 1
    assert len(world.reader.decisions(5).decisions) == 1
    assert "calls are not learned from: disk full" in world.reader.status().warnings
    monkeypatch.undo()
    world.call()
    assert world.reader.status().warnings == []


def test_a_ledger_that_fails_is_counted_and_calls_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> str:
        raise WorkloadError("away")

    monkeypatch.setattr(world.engine.ledger, "append_decision", broken)
    assert world.call().answer.failure is None
    assert world.engine.recorder.lost == 1
    monkeypatch.undo()
    world.call()
    assert len(world.reader.decisions(5).decisions) == 1


@pytest.mark.parametrize("fault", [ZeroDivisionError, SystemExit])
def test_a_fault_of_ours_is_logged_without_its_message(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: type[BaseException],
) -> None:
    def broken(*args: object) -> str:
        raise fault("the secret prompt")

    monkeypatch.setattr(world.engine.ledger, "append_decision", broken)
    world.call()
    world.call()
    assert caplog.text.count(fault.__name__) == 2
    assert "secret" not in caplog.text


def test_a_full_queue_loses_traces_not_time() -> None:
    go, seen = threading.Event(), threading.Event()

    def slow(traces):
        seen.set()
        go.wait(60)
        return list(traces)

    recorder = Recorder(lambda result: lambda: result, slow, (), (), (), queue_most=2)
    settled = CallResult(Query("x"), Answer(), None, 0, 0.0, 0.0)
    recorder(settled)
    assert recorder.lost == 0  # not started: there is nobody to record for
    recorder.start()
    recorder(settled)
    assert seen.wait(60), "the first is being kept"
    for _ in range(5):
        recorder(settled)
    assert recorder.lost == 3
    go.set()
    recorder.close()
    recorder(settled)
    assert recorder.lost == 4, "nobody keeps it any more"


def test_a_call_that_settles_while_the_last_ones_are_kept_is_kept() -> None:
    seen, go, kept = threading.Event(), threading.Event(), []

    def control(traces):
        kept.extend(traces)
        seen.set()
        go.wait(60)
        if len(kept) == 2:
            recorder(settled)
        return list(traces)

    recorder = Recorder(lambda result: lambda: result, control, (), (), ())
    settled = CallResult(Query("x"), Answer(), None, 0, 0.0, 0.0)
    recorder.start()
    recorder(settled)
    assert seen.wait(60)
    recorder(settled)
    recorder.close(timeout_s=0.0)
    go.set()
    recorder.close(timeout_s=60.0)
    assert (len(kept), recorder.lost) == (3, 0)


def test_calls_that_follow_each_other_are_added_to_the_sums_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, begun = world.engine.ledger, time.monotonic()
    add, added = ledger.add_sums, []

    def counting(additions: list[PeriodSums]) -> None:
        added.append(additions)
        add(additions)

    monkeypatch.setattr(ledger, "add_sums", counting)
    for _ in range(30):
        query = Query("0.2", input_tokens=5)
        world.engine.dispatcher.submit(query, lambda m, left: Answer("x", 1, 1)).result(60)
    assert world.engine.recorder.flush()
    seconds = time.monotonic() - begun
    assert 1 <= len(added) <= 2 + seconds / SUMS_EVERY_S
    assert ledger.sums([TOTAL])[0]["calls"] == 30


def test_a_call_does_not_wait_for_the_recorder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, seen = threading.Event(), threading.Event()
    append = world.engine.ledger.append_decision

    def slow(fields: dict[str, str]) -> str:
        seen.set()
        go.wait(60)
        return append(fields)

    monkeypatch.setattr(world.engine.ledger, "append_decision", slow)
    query = Query("0.2", agent="a", input_tokens=5)
    world.engine.dispatcher.submit(query, lambda m, left: Answer("x", 1, 1)).result(60)
    assert seen.wait(60)
    assert not go.is_set()
    go.set()
    assert world.engine.recorder.flush()


def test_what_is_queued_at_the_end_is_kept(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.start()
    assert engine.wait_ready(60)
    ledger = engine.ledger
    futures = [
        engine.dispatcher.submit(Query("0.2"), lambda m, left: Answer("x", 1, 1)) for _ in range(20)
    ]
    for future in futures:
        future.result(60)
    kept: list[int] = []
    close = ledger.close

    def closing() -> None:
        kept.append(len(ledger.decisions(100)))
        close()

    ledger.close = closing  # type: ignore[method-assign]
    engine.close()
    assert kept == [20]


def test_every_change_in_force_is_an_event(world: World) -> None:
    world.call()
    world.engine.recorder.look()
    world.change(quality_floor="90 %", agents={"coder/*": {"quality_floor": 0.5}})
    entries = (replace_entry(SMALL, concurrency=2), replace_entry(LARGE, input_cost_per_token=2e-5))
    world.engine.use(replace(world.engine.config, entries=entries))
    world.engine.set(mode="observe")
    world.engine.recorder.look()
    found = {e.what: (e.before, e.after) for e in world.reader.events(20).events}
    assert found["quality floor"] == ("0.9", "90 % of the strongest")
    assert found["quality floor of agents coder/*"] == (None, "0.5")
    assert found[f"limit of {SMALL.name}"] == ("64", "2")
    assert found["price of large"] == (
        "$10 in, $10 out per M tokens",
        "$20 in, $10 out per M tokens",
    )
    assert found["mode"] == ("route", "observe")
    before = len(world.reader.events(50).events)
    world.engine.recorder.look()
    assert len(world.reader.events(50).events) == before


def replace_entry(entry, **changes):
    return entry.model_copy(update=changes)


def test_a_new_head_is_an_event(world: World) -> None:
    router = world.engine.router

    def use(version: str) -> None:
        head = SimpleNamespace(name="hybrid", version=version, wants_layers=False)
        router.learned = replace(router.learned, predictor=head)
        world.engine.recorder.look()

    known = router.learned
    begun = time.time()
    world.engine.recorder.look()
    for version in ("1f00c0de", "1f00c0de", "2badcafe"):
        use(version)
    found = [e for e in world.reader.events(20).events if e.what == "predictor"][:2]
    router.learned = known
    assert [(e.before, e.after) for e in found] == [
        ("hybrid 1f00c0de", "hybrid 2badcafe"),
        ("retrieval", "hybrid 1f00c0de"),
    ]
    assert all(begun - 1 <= e.at <= time.time() + 1 for e in found)


def test_a_model_that_goes_is_an_event(world: World) -> None:
    world.engine.recorder.look()
    world.engine.use(replace(world.engine.config, entries=(SMALL,)))
    world.engine.recorder.look()
    gone = {e.what: e.after for e in world.reader.events(9).events}
    assert gone["limit of large"] is None


def test_one_warning_when_a_model_rests_and_one_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.answer = lambda model: (
        Answer(failure=Failure("503", 503)) if model == SMALL.name else Answer("x", 1, 1)
    )
    with caplog.at_level(logging.WARNING, "aios_eccos.serve"):
        world.engine.workload.cool_down(world.engine.router.models[0].slot, 30)
        world.answer = failing("503")
        world.call(allowed=("large",))
        world.call(allowed=("large",))
        world.engine.workload.cool_down(world.engine.router.models[0].slot, 0)
        world.engine.recorder.look()
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count(f"model {SMALL.name} rests after an error of its server") == 1
    assert texts.count(f"model {SMALL.name} may be asked again") == 1


def test_one_structured_line_a_decision_at_debug(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "aios_eccos.serve"):
        world.call("0.2 " + "secret " * 50, agent="a" * 500)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("decision ")]
    assert len(lines) == 1
    assert len(lines[0]) <= 520
    assert "secret" not in lines[0]
    assert SMALL.name in lines[0]
