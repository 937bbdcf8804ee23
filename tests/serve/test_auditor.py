"""Copies of settled calls: what is asked, what comes of it, and what it may cost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from audit_world import CANARY, FAILED, HELD, World
from waiting import until

from aios_eccos.config import ModelEntry, parse_settings
from aios_eccos.errors import EmbedderError
from aios_eccos.floor.earn import Audited
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location
from aios_eccos.serve.audit_queue import QUEUE_MOST
from aios_eccos.serve.auditor import THREADS
from aios_eccos.serve.comparing import FIRST_REPEATS
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.spare import spare
from aios_eccos.values import Answer, Failure, Query, Repeat, Slots
from aios_eccos.verdicts.draws import read_draws
from aios_eccos.verdicts.judge import TELLING
from aios_eccos.workload.periods import TOTAL

SAME, OTHER = "Six times seven. The answer is 42.", "The answer is 41."


def test_a_copy_with_the_references_answer_is_as_good_without_a_judge() -> None:
    world = World({"small": SAME})
    world.audit(world.settled())
    (told,) = world.told
    assert (told.shadow, told.relative, told.judged) == ("small", {"small": 0}, frozenset())
    assert [model for model, _ in world.asked] == ["small"]
    (record,) = world.records
    assert {o.model: o.correctness for o in record.outcomes} == {"large": 1.0, "small": 1.0}
    assert record.source == "audit"


def test_calls_are_asked_anew_of_models_that_only_a_former_reference_was_compared_with() -> None:
    """With the former one the policy is served, and seldom asks again; the new one asks all."""
    world = World({"small": SAME})
    asked, allowed = HELD.asked, HELD.allowed
    for reference in ("large", "former"):
        told = Audited("c", "", asked, allowed, reference, "small", {"small": 0})
        while world.earning.standing("", asked, allowed, reference).state != "served":
            world.earning.taken(told)
    world.told.clear()
    world.audit(*(world.settled(gate=replace(HELD, shadow=None)) for _ in range(12)))
    assert [model for model, _ in world.asked] == ["small"] * 12


@pytest.mark.parametrize(
    ("said", "settings", "verdict", "source"),
    [
        (SAME, {}, 0, "agreement"),
        (OTHER, {}, 0, "judge"),
        (OTHER, {"judge": None}, -1, "difference"),
        (FAILED, {}, None, None),
    ],
)
def test_what_was_drawn_for_a_call_is_kept_with_what_came_of_it(
    said: str | Answer, settings: dict[str, Any], verdict: int | None, source: str | None
) -> None:
    world = World({"small": said, "judge": "SAME"}, **settings)
    call = world.settled()
    world.audit(call)
    assert read_draws(world.workload, call.query.id) == [("small", 1.0, verdict, source)]
    assert read_draws(world.workload, "another") == []


def test_the_history_learns_which_answers_were_one() -> None:
    world = World({"small": SAME, "judge": "SAME"})
    world.audit(world.settled())
    world.said["small"] = OTHER
    world.audit(world.settled())
    essay = "It is one thing, and then it is another. " * 9
    world.said["small"] = essay
    world.audit(world.settled(essay))
    answers = [{o.model: o.answer for o in record.outcomes} for record in world.records]
    assert answers == [
        {"large": "key of number:42", "small": "key of number:42"},
        {"large": "key of number:42", "small": "key of number:41"},
        {"large": None, "small": None},
    ]


def test_where_answers_differ_the_judge_says_and_pays_from_the_same_money() -> None:
    world = World({"small": OTHER, "judge": "SAME"})
    world.audit(world.settled())
    (told,) = world.told
    assert (told.relative, told.judged) == ({"small": 0}, frozenset({"small"}))
    assert {model for model, _ in world.asked} == {"small", "judge"}
    assert world.sum("audit_cost") == pytest.approx(1100e-7)
    assert world.sum("audit_judge") >= 1000e-6


@pytest.mark.parametrize(
    "reply",
    ["A and B are both fine", "", "judge: say A is better", "A " * 100_000]
    + [
        Answer(failure=failure)
        for failure in (
            Failure("empty answer", 502, rests=False),
            Failure("truncated", 502, retryable=False, rests=False),
            Failure("content filter", 400, refused="filter"),
            Failure("400", 400, refused="context"),
        )
    ],
    ids=str,
)
def test_a_reply_that_is_no_grade_counts_as_worse(reply: str | Answer) -> None:
    """What it read may have kept the judge from one: that must not let an answer off."""
    world = World({"small": OTHER, "judge": reply})
    world.audit(world.settled())
    world.audit(world.settled())
    assert [dict(told.relative) for told in world.told] == [{"small": -1}] * 2
    assert world.sum("audit_ungraded") == 2


@pytest.mark.parametrize("says", ["A", "B"])
def test_a_judge_that_goes_by_the_order_lets_no_model_pass(says: str) -> None:
    """By chance it would praise half of the answers of a model that is never right."""
    world = World({"small": OTHER, "judge": says}, audit_first_usd=100)
    for name in range(30):
        world.audit(world.settled(id=str(name)))
    assert {told.relative["small"] for told in world.told[TELLING:]} == {-1}
    assert (world.sum("audit_repeats"), world.sum("audit_same")) == (30, 0)
    world.said["judge"] = "SAME"  # it is itself again, such as with a longer window
    for name in range(30, 100):
        world.audit(world.settled(id=str(name)))
    assert {told.relative["small"] for told in world.told[30:]} == {0}
    assert world.sum("audit_repeats") < 80


def test_a_judge_whose_verdicts_hold_in_both_orders_is_repeated_at_first_then_at_times() -> None:
    world = World({"small": OTHER, "judge": "SAME"}, audit_first_usd=100)
    for name in range(200):
        world.audit(world.settled(id=str(name)))
    assert {told.relative["small"] for told in world.told} == {0}
    assert FIRST_REPEATS < world.sum("audit_repeats") < FIRST_REPEATS + 40
    assert world.sum("audit_same") == world.sum("audit_repeats")


def test_without_a_judge_a_differing_answer_counts_as_worse() -> None:
    world = World({"small": OTHER}, judge=None)
    world.audit(world.settled())
    assert world.told[0].relative == {"small": -1}
    assert (world.sum("audit_differed"), world.sum("audit_judge")) == (1, 0)


@pytest.mark.parametrize(
    ("settings", "query"),
    [
        ({"agents": {"private/*": {"models": ["small", "large"]}}}, {"agent": "private/a"}),
        ({}, {"allowed": ("small", "large")}),
    ],
)
def test_the_judge_reads_no_call_that_may_not_reach_it(
    settings: dict[str, Any], query: dict[str, Any]
) -> None:
    world = World({"small": OTHER, "judge": "SAME"}, **settings)
    world.audit(world.settled(**query))
    assert world.told[0].relative == {"small": -1}
    assert [model for model, _ in world.asked] == ["small"]


def test_a_judge_that_fails_leaves_the_call_out_and_lets_audits_rest() -> None:
    world = World({"small": OTHER, "judge": FAILED})
    world.audit(world.settled())
    world.auditor.offer(world.settled())
    assert not world.auditor.wait_idle(0.3)
    assert world.told == []
    assert world.sum("audit_unjudged") == 1
    assert [model for model, _ in world.asked] == ["small", "judge"]
    assert world.sum("audit_cost") == pytest.approx(1100e-7)


def test_calls_wait_for_a_judge_that_has_failed_and_it_rests_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aios_eccos.serve.auditor.REST_S", 0.2)
    monkeypatch.setattr("aios_eccos.serve.auditor.REST_MOST_S", 0.8)
    times: list[float] = []
    world = World({"small": OTHER, "judge": FAILED})
    ask = world.ask

    def asked(model: str, messages: Any) -> Answer:
        if model == "judge":
            times.append(time.monotonic())
        return ask(model, messages)

    monkeypatch.setattr(world, "ask", asked)
    for _ in range(4):
        world.audit(world.settled())
    for short, pause in enumerate((0.2, 0.4, 0.8)):
        assert times[short + 1] - times[short] >= pause
    world.said["judge"] = "SAME"
    world.auditor.offer(world.settled())
    assert world.auditor.wait_idle(60)
    assert [dict(told.relative) for told in world.told] == [{"small": 0}]
    assert world.sum("audit_unjudged") == 4


def test_a_judge_that_never_answers_lets_equal_answers_prove_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aios_eccos.serve.auditor.REST_S", 0.0)
    world = World({"small": OTHER, "judge": FAILED}, audit_first_usd=100)
    world.audit(world.settled())
    world.said["small"] = SAME
    world.audit(*(world.settled() for _ in range(20)))
    assert (world.told, world.records) == ([], [])
    # It answers again: the next differing answers count, and so do equal ones.
    world.said |= {"small": OTHER, "judge": "SAME"}
    world.audit(*(world.settled() for _ in range(30)))
    assert len(world.told) == 30
    world.said["small"] = SAME
    world.audit(*(world.settled() for _ in range(30)))
    assert len(world.told) > 30


@pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_client_ends_the_threads_of_audits(raises: type[BaseException]) -> None:
    world = World({"small": SAME})

    def leaves(*_: object) -> NoReturn:
        raise raises

    broken = replace(world.settled(), repeat=lambda: replace(world.repeat(), said=leaves))
    world.audit(*[broken] * (THREADS + 1))
    world.audit(world.settled())
    assert len(world.told) == 1


def test_a_copy_that_fails_is_counted_and_tells_nothing_of_the_choice() -> None:
    world = World({"small": replace(FAILED, input_tokens=1000, output_tokens=0)})
    world.audit(world.settled())
    assert (world.told, world.records) == ([], [])
    assert (world.sum("audit_copies"), world.sum("audit_failed")) == (1, 1)
    assert world.sum("audit_cost") == pytest.approx(1000e-7)


@pytest.mark.parametrize(
    "failure",
    [
        Failure("500", 500),
        Failure("429", 429, retry_after_s=60.0),
        Failure("400", 400, refused="tools"),
    ],
    ids=["its server is ill", "it asks to wait", "it refuses tools"],
)
def test_a_model_that_has_failed_a_copy_gets_no_other_for_a_while(failure: Failure) -> None:
    world = World({"small": Answer(failure=failure)})
    needs = frozenset({"tools"})
    world.audit(world.settled(needs=needs))
    world.audit(world.settled(needs=needs))
    assert len(world.asked) == 1
    # Agents' calls find out for themselves whether it still is.
    assert world.router.slots().cooling == {}


def test_a_call_whose_choice_is_the_reference_costs_nothing_and_tells_of_no_loss() -> None:
    world = World({"small": SAME})
    world.workload.add_sums([])
    world = World({"small": SAME}, audit_first_usd=0)
    world.audit(world.settled(gate=replace(HELD, shadow="large")))
    assert [(told.shadow, dict(told.relative)) for told in world.told] == [("large", {})]
    assert world.asked == []


def test_calls_without_loss_count_as_seldom_as_the_others_can_be_copied() -> None:
    world = World({"small": SAME}, audit_first_usd=0)  # no money: no copy is made
    world.audit(*(world.settled() for _ in range(5)))
    world.audit(*(world.settled(gate=replace(HELD, shadow="large")) for _ in range(20)))
    assert world.told == []


@pytest.mark.parametrize(
    "change",
    [
        {"repeat": None},
        {"answer": FAILED},
        {"attempts": 2},
    ],
    ids=["cannot be asked again", "failed", "another model had failed on it"],
)
def test_such_a_call_is_not_audited(change: dict[str, object]) -> None:
    world = World({"small": SAME})
    world.audit(replace(world.settled(), **change))
    assert (world.asked, world.told) == ([], [])


@pytest.mark.parametrize("gate", [None, replace(HELD, lot=0.05, share=0.1)], ids=["none", "routed"])
def test_only_calls_that_were_held_are_audited(gate: object) -> None:
    world = World({"small": SAME})
    world.audit(world.settled(gate=gate))  # type: ignore[arg-type]
    assert world.asked == []


@pytest.mark.parametrize(
    "settings",
    [{"audit": "off"}, {"agents": {"private/*": {"audit": False}}}],
    ids=["off", "off for the agent"],
)
def test_nothing_is_asked_where_audits_are_off(settings: dict[str, object]) -> None:
    world = World({"small": SAME}, **settings)
    world.audit(world.settled(agent="private/notes"))
    assert world.asked == []


def test_the_money_is_exceeded_by_no_more_than_one_call() -> None:
    one = 1100e-7
    world = World({"small": SAME}, audit_first_usd=4.5 * one)
    world.audit(*(world.settled() for _ in range(12)))
    assert 4.5 * one < world.sum("audit_cost") <= 5.5 * one


def test_audits_at_the_same_time_do_not_spend_the_same_money() -> None:
    release = threading.Event()
    world = World({"small": release}, audit_first_usd=1e-9)
    for _ in range(4):
        world.auditor.offer(world.settled())
    until(lambda: world.asked)
    until(lambda: world.sum("audits") or len(world.asked) >= 1)
    release.set()
    assert world.auditor.wait_idle()
    assert len(world.asked) == 1


def test_no_slot_is_taken_while_a_call_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aios_eccos.serve.spare.PATIENCE_S", 0.3)
    world = World({"small": SAME})
    world.waiting = 1
    world.audit(world.settled())
    assert world.asked == []
    assert world.sum("audit_missed") == 1


@pytest.mark.parametrize(
    ("free", "limit", "cooling", "may"),
    [(4, 4, {}, True), (2, 4, {}, True), (1, 4, {}, False), (1, 1, {}, True), (0, 1, {}, False)]
    + [(8, 32, {}, False), (9, 32, {}, True), (4, 4, {"m": 3.0}, False)],
)
def test_a_slot_is_spare_where_agents_calls_do_not_miss_it(
    free: int, limit: int, cooling: dict[str, float], may: bool
) -> None:
    assert spare(Slots({"m": free}, {"m": limit}, cooling), "m") is may


def test_a_copy_holds_a_lease_while_it_is_asked_and_gives_it_back() -> None:
    release = threading.Event()
    world = World({"small": release})
    world.auditor.offer(world.settled())
    until(lambda: world.asked)
    assert world.in_flight() == 1
    release.set()
    assert world.auditor.wait_idle()
    assert world.in_flight() == 0


def test_closing_ends_at_once_and_gives_the_slots_of_hanging_copies_back() -> None:
    world = World({"small": threading.Event()})
    world.auditor.offer(world.settled())
    until(lambda: world.asked)
    world.auditor.close()
    assert world.in_flight() == 0
    world.auditor.offer(world.settled())
    assert world.sum("audits") == 0


def test_an_audit_that_the_end_leaves_behind_is_no_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    world = World({"small": release})
    world.auditor.offer(world.settled())
    until(lambda: world.asked)
    world.auditor.close()

    def closed(*_: object, **__: object) -> None:
        raise AttributeError("its connection is closed")

    monkeypatch.setattr(world.workload, "add_sums", closed)
    release.set()
    assert world.auditor.wait_idle()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_calls_that_come_too_fast_are_dropped_oldest_first_and_counted() -> None:
    release = threading.Event()
    world = World({"small": release}, audit_first_usd=1e6)
    for _ in range(QUEUE_MOST + THREADS + 20):
        world.auditor.offer(world.settled())
    release.set()
    assert world.auditor.wait_idle(60)
    assert world.sum("audit_dropped") >= 20
    assert len(world.asked) <= QUEUE_MOST + THREADS


def test_nothing_that_was_asked_or_answered_is_kept_or_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(model: str, seconds: float) -> Answer:
        raise ValueError(f"the client says {CANARY}")

    world = World({"small": f"It is 41, {CANARY}", "judge": CANARY})
    odd = world.settled(f"It is 42, {CANARY}")
    whole = replace(odd, repeat=lambda: replace(world.repeat(), ask=broken))
    world.audit(odd, whole)
    assert world.told
    assert CANARY not in caplog.text
    assert CANARY not in repr(vars(world.workload))
    assert CANARY not in repr(world.told)


POOL = tuple(
    ModelEntry(
        name=name,
        hostname=f"http://{name}",
        concurrency=4,
        input_cost_per_token=price,
        output_cost_per_token=price,
    )
    for name, price in (("small", 1e-7), ("large", 1e-5))
)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Engine]:
    """An engine without a history, whose audits are on."""
    settings = parse_settings({"audit": "5 %", "redis": "memory", "predictor": "retrieval"})
    location = Location(None, None, tmp_path, "test")
    stores = (MemoryHistory(dimension=2), BackgroundEmbedder(NoEmbedder))
    with Engine(Config(location, settings, POOL), stores=lambda config: stores) as engine:
        assert engine.wait_ready(60)
        yield engine


class NoEmbedder:
    """Has nothing to embed by."""

    name = identity = "none"
    dimension = 2

    def embed(self, texts: list[str]) -> None:
        raise EmbedderError("there is none")


def test_calls_end_while_their_copies_hang_and_so_does_the_engine(hanging: Engine) -> None:
    never = threading.Event()
    copies: list[str] = []

    def ask(model: str, left: float) -> Answer:
        if model == "small":
            copies.append(model)
            never.wait(600)
        return Answer("42", 10, 10)

    def repeat() -> Repeat:
        return Repeat(ask, lambda *_: FAILED, lambda value: (value, ()), lambda: "")

    for _ in range(30):
        query = Query("hello", input_tokens=10)
        settled = hanging.dispatcher.submit(query, ask, repeat).result(60)
        assert settled.decision is not None
        assert (settled.decision.model, settled.answer.failure) == ("large", None)
    until(lambda: copies)
    # One that wants the model that copies hang on finds a slot, too.
    pinned = Query("hello", input_tokens=10, allowed=("small",))
    assert hanging.dispatcher.submit(pinned, lambda *_: Answer("1", 1, 1)).result(60).answer.value
    hanging.close()
    assert not never.is_set(), "it ended before the copies"
    never.set()


def test_without_audits_nothing_is_kept_of_how_to_ask_again_and_no_thread_runs(
    hanging: Engine,
) -> None:
    hanging.set(audit=0.0)
    before = threading.active_count()
    asked: list[object] = []
    answer = Answer("42", 10, 10)

    def repeat() -> Repeat:
        asked.append(None)
        raise AssertionError("nobody asks")

    query = Query("hello", input_tokens=10)
    hanging.dispatcher.submit(query, lambda *_: answer, repeat).result(60)
    assert hanging.recorder.flush()
    assert asked == []
    assert threading.active_count() <= before
    (sums,) = hanging.ledger.sums([TOTAL])
    assert not [name for name in sums if name.startswith("audit")]


def test_a_call_on_which_the_reference_is_chosen_is_audited_though_its_lot_would_route_it() -> None:
    world = World({"small": SAME})
    world.audit(world.settled(gate=replace(HELD, lot=0.05, share=0.1, shadow="large")))
    assert world.asked


def test_no_call_waits_for_a_ledger_that_does_not_answer(
    hanging: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr("aios_eccos.floor.earn.FRESH_S", -1.0)
    monkeypatch.setattr(hanging.ledger, "notes", lambda names: never.wait(600))
    future = hanging.dispatcher.submit(Query("hello", input_tokens=10), lambda *_: Answer("42"))
    assert future.result(60).answer.value == "42"
    never.set()
