"""A plan under way: both members at once, one answer, the escape where they do not agree."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import pytest
from plan_world import PLAN, learned, make_router
from waiting import made_in_time, until

from aios_eccos.config import Settings
from aios_eccos.records import Signals
from aios_eccos.serve import vote
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.vote import KINDS_MOST, KINDS_NOTE, Kinds
from aios_eccos.values import Answer, Failure, Query, Repeat
from aios_eccos.workload.memory import MemoryWorkload

BUSY = Failure("429", 429, retryable=True)
BAD = Failure("malformed", 400, retryable=False)


class Servers:
    """Models that answer what they are told to; a function decides it, or waits."""

    def __init__(self, **says: str | Failure | Callable[[], str | Failure]) -> None:
        self.says = says
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def ask(self, model: str, seconds: float) -> Answer:
        with self._lock:
            self.asked[model] += 1
        said = self.says[model]
        said = said() if callable(said) else said
        if isinstance(said, Failure):
            return Answer(failure=said)
        return Answer((model, said), input_tokens=100, output_tokens=100)

    def repeat(self) -> Repeat:
        return Repeat(
            ask=self.ask,
            plain=lambda model, messages, seconds: self.ask(model, seconds),
            said=lambda value: (value[1], ()),
            instruction=lambda: "",
        )


@contextmanager
def dispatching(router, **settings):
    given = Settings().model_copy(update=settings)
    with Dispatcher(router, given) as dispatcher:
        yield dispatcher


def serve(servers, query=None, router=None, **settings):
    """One call's result, and the router that served it."""
    router = router or make_router(MemoryWorkload())
    with dispatching(router, **settings) as dispatcher:
        asked = query or Query("hello", input_tokens=100)
        settled = dispatcher.submit(asked, servers.ask, servers.repeat).result(60)
    return settled, router


def all_free(router):
    slots = router.slots()
    return dict(slots.free) == dict(slots.limits)


def test_members_that_agree_answer_and_the_escape_is_not_asked() -> None:
    servers = Servers(small="The answer is 42.", mini="**42**", large="43")
    settled, router = serve(servers)
    assert settled.answer.value == ("small", "The answer is 42.")
    assert settled.vote is not None
    assert (settled.vote.outcome, settled.vote.answered_by) == ("agreed", "small")
    assert servers.asked == {"small": 1, "mini": 1}
    assert settled.decision is not None
    assert settled.decision.model == PLAN.name
    assert sorted(tried.model for tried in settled.tries) == ["mini", "small"]
    assert settled.attempts == 2
    assert all_free(router)


def test_members_are_asked_at_once() -> None:
    both = threading.Barrier(2, timeout=60)

    def together() -> str:
        both.wait()
        return "42"

    settled, _ = serve(Servers(small=together, mini=together, large="43"))
    assert settled.vote is not None
    assert settled.vote.outcome == "agreed"


def test_where_they_differ_the_escape_answers_and_all_requests_are_told() -> None:
    servers = Servers(small="41", mini="42", large="43")
    settled, router = serve(servers)
    assert settled.answer.value == ("large", "43")
    assert settled.vote is not None
    assert (settled.vote.outcome, settled.vote.answered_by) == ("differed", "large")
    assert servers.asked == {"small": 1, "mini": 1, "large": 1}
    assert settled.decision is not None
    assert settled.decision.model == PLAN.name, "the plan was decided for, the escape is part of it"
    assert settled.tries[-1].model == "large"
    assert set(settled.said) == {"small", "mini", "large"}
    assert all_free(router)


@pytest.mark.parametrize("failure", [BUSY, Failure("refused", 401, False, elsewhere=True)])
def test_where_one_member_fails_the_escape_decides(failure) -> None:
    settled, router = serve(Servers(small=failure, mini="42", large="43"))
    assert settled.answer.value == ("large", "43")
    assert settled.vote is not None
    assert settled.vote.outcome == "failed"
    assert all_free(router)


@pytest.mark.parametrize("dead", [BUSY, BAD, Failure("too long", 400, False, refused="context")])
def test_where_the_escape_fails_too_the_living_members_answer_is_given(dead) -> None:
    settled, _ = serve(Servers(small=BUSY, mini="42", large=dead))
    assert settled.answer.failure is None
    assert settled.answer.value == ("mini", "42")
    assert settled.vote is not None
    assert settled.vote.answered_by == "mini"
    assert [t.failure for t in settled.tries].count(None) == 1


def test_where_both_differ_and_the_escape_fails_the_first_members_answer_is_given() -> None:
    settled, _ = serve(Servers(small="41", mini="42", large=BUSY))
    assert settled.answer.value == ("small", "41")


def test_where_all_three_fail_the_call_fails_once_and_every_slot_comes_back() -> None:
    servers = Servers(small=BUSY, mini=BUSY, large=BUSY)
    settled, router = serve(servers)
    assert settled.answer.failure is not None
    assert settled.vote is not None
    assert settled.vote.answered_by is None
    assert servers.asked["large"] == 1
    assert all_free(router)


def test_what_no_model_can_serve_is_not_sent_to_the_escape() -> None:
    servers = Servers(small=BAD, mini=BAD, large="43")
    settled, _ = serve(servers)
    assert settled.answer.failure == BAD
    assert servers.asked["large"] == 0


def test_an_answer_that_was_cut_off_is_compared_with_nothing() -> None:
    servers = Servers(small="42", mini="42", large="43")

    def cut(model: str, seconds: float) -> Answer:
        return Answer((model, "42"), 1, 1, signals=Signals(truncated=model == "mini"))

    router = make_router(MemoryWorkload())
    with dispatching(router) as dispatcher:
        repeat = Repeat(cut, lambda *a: Answer(), lambda value: (value[1], ()), lambda: "")
        servers.says["large"] = "43"

        def run(model: str, seconds: float) -> Answer:
            return servers.ask(model, seconds) if model == "large" else cut(model, seconds)

        settled = dispatcher.submit(Query("hello"), run, lambda: repeat).result(60)
    assert settled.answer.value == ("large", "43")


PROSE = "There is much to be said about this, and it depends on what one wants to do. " * 3


def test_calls_whose_answers_cannot_be_compared_are_kept_from_plans_from_then_on() -> None:
    servers = Servers(small=PROSE, mini=PROSE, large="43")
    router = make_router(MemoryWorkload())
    with dispatching(router) as dispatcher:

        def call(agent: str):
            query = Query("hello", agent=agent, input_tokens=100)
            return dispatcher.submit(query, servers.ask, servers.repeat).result(60)

        first, second, other = call("writer"), call("writer"), call("solver")
    assert first.vote is not None
    assert first.vote.outcome == "no form"
    assert first.answer.value == ("large", "43")
    assert second.vote is None
    assert PLAN.name in second.closed
    assert other.vote is not None, "other agents' calls are another kind"


def test_one_answer_without_a_form_closes_no_kind_that_has_given_forms_before() -> None:
    kinds, query = Kinds(), Query("", agent="a")
    kinds.note(query, "no form")
    assert kinds.closed(query)
    kinds.note(query, "agreed")
    assert not kinds.closed(query)


def told(*shares: tuple[Kinds, MemoryWorkload]) -> None:
    for kinds, ledger in shares:
        kinds.share(ledger)


def test_other_kernels_and_a_kernel_started_anew_know_the_kinds_without_a_form() -> None:
    ledger, one, other, later = MemoryWorkload(), Kinds(), Kinds(), Kinds()
    query = Query("secret words", agent="a", input_tokens=100)
    one.note(query, "no form")
    told((one, ledger), (other, ledger), (later, ledger))
    assert one.closed(query) == other.closed(query) == later.closed(query) != ""
    assert not other.closed(replace(query, agent="b"))
    (note,) = ledger.notes([KINDS_NOTE])
    assert "secret" not in (note or "")


def test_other_kernels_hear_that_a_kind_has_given_forms_again() -> None:
    ledger, one, other, query = MemoryWorkload(), Kinds(), Kinds(), Query("", agent="a")
    one.note(query, "no form")
    told((one, ledger), (other, ledger))
    other.note(query, "agreed")
    told((other, ledger), (one, ledger))
    assert not one.closed(query)


def test_what_is_known_of_kinds_is_bounded_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, kinds, other = MemoryWorkload(), Kinds(), Kinds()
    for number in range(KINDS_MOST + 5):
        kinds.note(Query("", agent=f"agent {number}"), "no form")
    told((kinds, ledger))
    (note,) = ledger.notes([KINDS_NOTE])
    assert len(json.loads(note or "")) == KINDS_MOST
    assert not kinds.closed(Query("", agent="agent 0")), "the oldest goes first"
    newest = Query("", agent=f"agent {KINDS_MOST + 4}")
    assert kinds.closed(newest)
    monkeypatch.setattr(vote, "CLOSED_S", 0.0)
    told((other, ledger))
    assert not other.closed(newest) and not kinds.closed(newest)


DAMAGED = ["", "17", "[]", '{"a": 1}', '{"a": [1, NaN]}', "a b", "null"]
DAMAGED += ['{"a": [Infinity, 1]}', "[" * 100_000, '{"KIND": [3, 1e300]}']


@pytest.mark.parametrize("note", DAMAGED)
def test_a_note_of_kinds_that_is_damaged_closes_nothing(note: str) -> None:
    ledger, kinds = MemoryWorkload(), Kinds()
    note = note.replace("KIND", vote._kind(Query("", agent="b")))
    ledger.swap_note(KINDS_NOTE, note)
    kinds.share(ledger)
    kinds.note(Query("", agent="a"), "no form")
    kinds.share(ledger)
    assert kinds.closed(Query("", agent="a"))
    assert not kinds.closed(Query("", agent="b"))


def test_a_caller_that_cannot_say_how_to_compare_gets_no_plan() -> None:
    servers = Servers(small="42", mini="42", large="43")
    router = make_router(MemoryWorkload())
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query("hello", input_tokens=100), servers.ask).result(60)
    assert settled.vote is None
    assert settled.attempts == 1


@pytest.mark.parametrize("over", ["spill", "wait"])
def test_the_escape_waits_for_its_slot_with_the_calls_place(over) -> None:
    """The one slot of the escape is held; when it comes free the plan's call has it first."""
    gate, order = threading.Event(), []
    workload = MemoryWorkload()
    from plan_world import LARGE, MINI, SMALL

    router = make_router(workload, models=(SMALL, MINI, replace(LARGE, limit=1)))
    router.settings = router.settings.model_copy(update={"over_capacity": over})

    def held() -> str:
        gate.wait(60)
        return "0"

    holder = Servers(large=held)
    plan = Servers(small="41", mini="42", large=lambda: order.append("plan") or "43")
    later = Servers(large=lambda: order.append("later") or "44")
    with dispatching(router, over_capacity=over) as dispatcher:
        first = dispatcher.submit(Query("", allowed=("large",)), holder.ask)
        until(lambda: holder.asked["large"] == 1)
        mine = dispatcher.submit(Query("hello", input_tokens=100), plan.ask, plan.repeat)
        until(lambda: plan.asked["mini"] == 1 and dispatcher.depth() == (1, 1))
        last = dispatcher.submit(Query("", allowed=("large",)), later.ask)
        gate.set()
        results = [future.result(60) for future in (first, mine, last)]
    assert order == ["plan", "later"]
    assert results[1].answer.value == ("large", "43")
    assert all_free(router)


def test_the_first_answer_does_not_wait_longer_than_a_call_may_take() -> None:
    """One member hangs: when the call's time is up, what the other said is given."""
    gate = threading.Event()
    servers = Servers(small="41", mini=lambda: gate.wait(60) and "42", large="43")

    def hurried():
        query = Query("hello", input_tokens=100, deadline=time.monotonic() + 0.5)
        return serve(servers, query)

    settled, router = made_in_time(hurried, lambda made: made[0].answer.failure is None)
    assert settled.answer.value == ("small", "41")
    assert settled.vote is not None
    assert settled.vote.answered_by == "small"
    assert servers.asked["large"] == 0
    gate.set()
    until(lambda: all_free(router))


def test_an_escape_that_has_no_slot_in_time_leaves_the_members_answer() -> None:
    gate = threading.Event()
    router = make_router(MemoryWorkload())
    holder = Servers(large=lambda: gate.wait(60) and "0")
    servers = Servers(small="41", mini="42", large="43")
    with dispatching(router) as dispatcher:
        held = [dispatcher.submit(Query("", allowed=("large",)), holder.ask) for _ in range(4)]
        until(lambda: holder.asked["large"] == 4)

        def hurried():
            query = Query("hello", input_tokens=100, deadline=time.monotonic() + 0.5)
            return dispatcher.submit(query, servers.ask, servers.repeat).result(60)

        settled = made_in_time(hurried, lambda made: made.answer.failure is None)
        gate.set()
        for future in held:
            future.result(60)
    assert settled.answer.value == ("small", "41")
    assert servers.asked["large"] == 0


def test_a_plan_is_closed_while_one_of_its_models_rests_and_it_is_said_why() -> None:
    router = make_router(MemoryWorkload())
    router.rest("large", None)
    servers = Servers(small="42", mini="42", large="43")
    settled, _ = serve(servers, router=router)
    assert settled.vote is None
    assert "rests" in settled.closed[PLAN.name]
    assert "large" in settled.closed[PLAN.name]


def test_a_refusal_of_a_member_closes_its_plan_to_calls_like_it() -> None:
    refusal = Failure("no tools", 400, False, refused="tools")
    servers = Servers(small=refusal, mini="42", large="43")
    router = make_router(MemoryWorkload())
    with dispatching(router) as dispatcher:

        def call():
            query = Query("hello", input_tokens=100, needs=frozenset({"tools"}))
            return dispatcher.submit(query, servers.ask, servers.repeat).result(60)

        first, second = call(), call()
    assert first.answer.value == ("large", "43")
    assert second.vote is None
    assert servers.asked["small"] == 1


def test_no_thread_for_a_member_is_a_failed_member(monkeypatch) -> None:
    start = threading.Thread.start

    def none_for_mini(thread: threading.Thread) -> None:
        if thread.name == "eccos-call-mini":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", none_for_mini)
    settled, router = serve(Servers(small="42", mini="42", large="43"))
    assert settled.answer.value == ("large", "43")
    assert all_free(router)


def test_without_plans_nothing_is_compared() -> None:
    known = learned()
    from aios_eccos.floor.learned import Learned

    router = make_router(MemoryWorkload(), knows=Learned(known.predictor, None, known.book))
    settled, _ = serve(Servers(small="1", mini="2", large="3"), router=router)
    assert settled.vote is None
    assert settled.said == {}


def test_an_escape_with_a_free_slot_is_asked_without_a_round_of_the_dispatcher() -> None:
    """Whatever the dispatcher is at, the call that has compared its answers goes on."""
    busy, free, compared = threading.Event(), threading.Event(), threading.Event()
    router = make_router(MemoryWorkload())
    forecast = router.forecast

    def slow(queries):
        if any(query.text == "slow" for query in queries):
            busy.set()
            free.wait(60)
        return forecast(queries)

    router.forecast = slow

    def last() -> str:
        busy.wait(60)
        return "42"

    servers = Servers(small="41", mini=last, large=lambda: compared.set() or "43")
    with dispatching(router) as dispatcher:
        mine = dispatcher.submit(Query("hello", input_tokens=100), servers.ask, servers.repeat)
        until(lambda: servers.asked["mini"] == 1)
        other = dispatcher.submit(Query("slow", input_tokens=100), servers.ask)
        assert compared.wait(60), "the dispatcher is still forecasting"
        assert mine.result(60).answer.value == ("large", "43")
        assert not free.is_set()
        free.set()
        other.result(60)
    assert all_free(router)


@pytest.mark.parametrize("mini", ["42", BUSY], ids=["differs", "fails"])
def test_a_plan_whose_client_has_gone_asks_no_escape(mini) -> None:
    asked, gone = threading.Event(), threading.Event()

    def late() -> str:
        asked.set()
        assert gone.wait(60)
        return "41"

    servers, query = Servers(small=late, mini=mini, large="43"), Query("hello", input_tokens=100)
    router = make_router(MemoryWorkload())
    with dispatching(router) as dispatcher:
        future = dispatcher.submit(query, servers.ask, servers.repeat)
        assert asked.wait(60)
        assert not dispatcher.drop(query.id)
        gone.set()
        settled = future.result(60)
    assert servers.asked == {"small": 1, "mini": 1}
    assert settled.answer.failure is None
    assert all_free(router)


@pytest.mark.parametrize("fault", [RuntimeError("odd messages"), SystemExit(3)])
def test_a_call_that_cannot_be_asked_again_goes_without_a_plan_and_disturbs_no_other(
    fault: BaseException,
) -> None:
    def raises() -> Repeat:
        raise fault

    servers = Servers(small="42", mini="42", large="43")
    router = make_router(MemoryWorkload())
    with dispatching(router, window_ms=500.0) as dispatcher:
        futures = [
            dispatcher.submit(Query("hello", input_tokens=100), servers.ask, repeat)
            for repeat in (servers.repeat, raises, servers.repeat)
        ]
        first, odd, last = (future.result(60) for future in futures)
    assert first.vote is not None and last.vote is not None
    assert odd.vote is None and odd.repeat is None
    assert odd.answer.failure is None
    assert router.failures == 0, "nobody had to go where the fallback says"
    assert all_free(router)
