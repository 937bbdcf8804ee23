"""The dispatcher, against a router that lends slots in this process."""

from __future__ import annotations

import math
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from waiting import made_in_time, until

from aios_eccos.config import Settings
from aios_eccos.records import Signals
from aios_eccos.serve.attempt import Attempts
from aios_eccos.serve.call import Call
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.lending import NEVER_ASKED
from aios_eccos.serve.router import Router
from aios_eccos.values import (
    Answer,
    Assignment,
    Bar,
    CallResult,
    Candidate,
    Decision,
    Failure,
    Lease,
    Model,
    Price,
    Query,
    Slots,
)
from aios_eccos.workload.memory import MemoryWorkload


class FewSlots:
    """A router without forecasts: the first usable model with a free slot, in column order."""

    spills = True

    def __init__(self, limits: dict[str, int], tokens: float = 100.0) -> None:
        self.limits = limits
        self.in_use = dict.fromkeys(limits, 0)
        self.peak = dict.fromkeys(limits, 0)
        self.resting: set[str] = set()
        self.forecasts = 0
        self.broken: bool | BaseException = False
        self._tokens = tokens
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def forecast(self, queries: list[Query]) -> list[Candidate]:
        if self.broken:
            raise RuntimeError("forecast out of order") if self.broken is True else self.broken
        self.forecasts += len(queries)
        names = tuple(self.limits)
        row = np.ones(len(names))
        return [
            Candidate(
                query=query,
                models=names,
                success=row,
                output_tokens=row * self._tokens,
                support=row,
                cost=row,
                allowed=np.array([query.allowed is None or n in query.allowed for n in names]),
                novelty=0.0,
                worth=Price(floor=0.5, value=1.0),
            )
            for query in queries
        ]

    def slots(self, calls: int | None = None) -> Slots:
        with self._lock:
            free = {n: self.limits[n] - self.in_use[n] for n in self.limits}
            cooling = dict.fromkeys(self.resting, 1.0)
            return Slots(free=free, limits=self.limits, cooling=cooling)

    def bars(self, candidate: Candidate, slots: Slots) -> dict[str, Bar]:
        return {}

    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment:
        decisions = tuple(self._decide(candidate) for candidate in candidates)
        return Assignment(decisions, "optimal")

    def _decide(self, candidate: Candidate, *, model: str | None = None) -> Decision:
        with self._lock:
            for name, ok in zip(candidate.models, candidate.allowed, strict=True):
                if ok and self.in_use[name] < self.limits[name]:
                    self.in_use[name] += 1
                    self.peak[name] = max(self.peak[name], self.in_use[name])
                    model = name
                    break
        leases = (Lease(candidate.query.id, model),) if model else ()
        nothing = np.zeros(len(candidate.models))
        return Decision(
            candidate, model, leases, nothing.astype(int), nothing, "optimal", "", 1, 0.0, 0.0
        )

    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
        broken, self.broken = self.broken, False
        (candidate,) = self.forecast([query])
        self.broken = broken
        return self._decide(candidate)

    def release(self, decision: Decision, answers: Mapping[str, Answer] = NEVER_ASKED) -> None:
        if decision.leases:
            with self._lock:
                self.in_use[decision.leases[0].slot] -= 1
            for callback in self._callbacks:
                callback()

    def preferred(self, candidate: Candidate) -> str | None:
        return next(
            (n for n, ok in zip(candidate.models, candidate.allowed, strict=True) if ok), None
        )

    def rest(self, model: str, seconds: float | None) -> None:
        self.resting.add(model)

    def on_release(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)


def answers(seconds: float) -> Callable[[str, float], Answer]:
    def run(model: str, left: float) -> Answer:
        time.sleep(seconds)
        return Answer(value=model, output_tokens=100)

    return run


def holding() -> tuple[threading.Event, Callable[[str, float], Answer]]:
    """An event, and what asks a model: it answers when the event has come."""
    gate = threading.Event()

    def held(model: str, left: float) -> Answer:
        gate.wait(60)
        return Answer(value=model)

    return gate, held


def wait_all(futures: Iterable[Future[CallResult]], timeout_s: float) -> list[CallResult]:
    end = time.monotonic() + timeout_s
    return [future.result(max(end - time.monotonic(), 0.0)) for future in futures]


@contextmanager
def dispatching(router: FewSlots, **settings: float) -> Iterator[Dispatcher]:
    with Dispatcher(router, Settings().model_copy(update=settings)) as dispatcher:
        yield dispatcher


def test_a_call_is_answered_and_its_slot_comes_back() -> None:
    router = FewSlots({"a": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query("hello"), answers(0.0)).result(60)
    assert settled.answer.value == "a"
    assert settled.attempts == 1
    assert router.in_use == {"a": 0}


def test_no_call_waits_for_anothers_answer() -> None:
    router = FewSlots({"slow": 4, "fast": 4})
    gate, held = holding()
    with dispatching(router) as dispatcher:
        slow = dispatcher.submit(Query("", allowed=("slow",)), held)
        until(lambda: router.in_use["slow"])
        fast = dispatcher.submit(Query("", allowed=("fast",)), answers(0.0))
        fast.result(60)
        assert not slow.done()
        gate.set()
        slow.result(60)


def test_a_limit_is_never_exceeded_and_every_call_answered() -> None:
    router, gate = FewSlots({"a": 3, "b": 2}), threading.Event()

    def run(model: str, left: float) -> Answer:
        gate.wait(60)
        return answers(0.01)(model, left)

    with dispatching(router) as dispatcher:
        futures = [dispatcher.submit(Query("", agent=str(i % 7)), run) for i in range(80)]
        until(lambda: sum(router.in_use.values()) == 5)
        gate.set()
        results = wait_all(futures, 60)
    assert len(results) == 80
    assert all(settled.answer.failure is None for settled in results)
    assert router.peak == {"a": 3, "b": 2}
    assert router.forecasts == 80, "a waiting call is forecast once"


def test_a_waiting_call_blocks_only_those_that_want_its_slot() -> None:
    router = FewSlots({"full": 1, "idle": 1})
    gate, held = holding()
    with dispatching(router) as dispatcher:
        blocked = [dispatcher.submit(Query("", allowed=("full",)), held) for _ in range(20)]
        free = dispatcher.submit(Query("", allowed=("idle",)), answers(0.0))
        assert free.result(60).answer.failure is None
        gate.set()
        wait_all(blocked, 60)


def test_one_agents_crowd_delays_anothers_lone_call_by_at_most_one_service_time() -> None:
    router, served = FewSlots({"a": 2}), threading.Semaphore(0)
    order: list[str] = []

    def noting(name: str) -> Callable[[str, float], Answer]:
        def run(model: str, left: float) -> Answer:
            order.append(name)
            served.acquire(timeout=60)
            return Answer(output_tokens=100)

        return run

    with dispatching(router) as dispatcher:
        queries = [Query("", agent="crowd") for _ in range(500)]
        for query in queries:
            dispatcher.submit(query, noting("crowd"))
        served.release(6)
        until(lambda: len(order) == 8)
        lone = dispatcher.submit(Query("", agent="lone"), noting("lone"))
        served.release(2)
        until(lambda: len(order) == 10)
        assert "lone" in order[8:], "both slots have been served once since it came"
        for query in queries:
            dispatcher.drop(query.id)
        served.release(2)
        lone.result(60)


def test_two_busy_agents_share_evenly() -> None:
    router = FewSlots({"a": 1})
    order: list[str] = []
    gate = threading.Event()

    def noting(name: str) -> Callable[[str, float], Answer]:
        def run(model: str, left: float) -> Answer:
            gate.wait(60)
            order.append(name)
            return Answer(output_tokens=100)

        return run

    with dispatching(router) as dispatcher:
        first = [dispatcher.submit(Query("", agent="x"), noting("x")) for _ in range(40)]
        second = [dispatcher.submit(Query("", agent="y"), noting("y")) for _ in range(20)]
        gate.set()
        wait_all(first + second, 60)
    served_y = [i for i, name in enumerate(order) if name == "y"]
    assert served_y[-1] - served_y[0] <= 2 * 20 + 2, "turn about, not one queue after the other"


def test_within_an_agent_priority_goes_first_then_age() -> None:
    router = FewSlots({"a": 1})
    order: list[str] = []
    gate = threading.Event()

    def noting(name: str) -> Callable[[str, float], Answer]:
        def run(model: str, left: float) -> Answer:
            gate.wait(60)
            order.append(name)
            return Answer()

        return run

    with dispatching(router) as dispatcher:
        futures = [dispatcher.submit(Query(""), noting("running"))]
        until(lambda: router.in_use["a"])
        for name, priority in (("old", 0), ("new", 0), ("urgent", 5)):
            futures.append(dispatcher.submit(Query("", priority=priority), noting(name)))
        gate.set()
        wait_all(futures, 60)
    assert order == ["running", "urgent", "old", "new"]


def failing_on(*models: str, failure: Failure) -> Callable[[str, float], Answer]:
    def run(model: str, left: float) -> Answer:
        return Answer(failure=failure) if model in models else Answer(value=model)

    return run


def test_an_error_is_retried_once_on_another_model_and_the_first_rests() -> None:
    router = FewSlots({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", failure=Failure("500"))).result(60)
    assert (settled.answer.value, settled.attempts) == ("b", 2)
    assert [(t.model, t.failure) for t in settled.tries] == [("a", "500"), ("b", None)]
    assert router.resting == {"a"}


def test_two_models_that_fail_end_the_call_with_the_second_error() -> None:
    router = FewSlots({"a": 1, "b": 1, "c": 1})
    failure = Failure("503", 503)
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", "b", "c", failure=failure)).result(
            60
        )
    assert settled.answer.failure == failure
    assert settled.attempts == 2
    assert router.in_use == {"a": 0, "b": 0, "c": 0}


def test_a_client_error_is_never_retried() -> None:
    router = FewSlots({"a": 1, "b": 1})
    failure = Failure("400", 400, retryable=False)
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", failure=failure)).result(60)
    assert (settled.attempts, settled.answer.failure) == (1, failure)
    assert router.resting == set()


REFUSED = Failure("401", 401, retryable=False, elsewhere=True)


def test_a_model_that_refuses_us_rests_and_another_serves() -> None:
    router = FewSlots({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", failure=REFUSED)).result(60)
        pinned = dispatcher.submit(Query("", allowed=("a",)), failing_on("a", failure=REFUSED))
        assert pinned.result(60).attempts == 1, "its answer would be the same"
    assert (settled.answer.value, settled.attempts) == ("b", 2)
    assert router.resting == {"a"}


def test_a_pinned_call_is_retried_on_its_model_after_what_the_server_asks() -> None:
    router = FewSlots({"a": 1, "b": 1})
    times: list[float] = []

    def run(model: str, left: float) -> Answer:
        times.append(time.monotonic())
        busy = Failure("429", 429, retry_after_s=0.1)
        return Answer(value=model) if len(times) == 3 else Answer(failure=busy)

    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query("", allowed=("a",)), run).result(60)
    assert (settled.answer.value, settled.attempts) == ("a", 3)
    assert np.diff(times).min() >= 0.1


def test_a_model_that_rests_is_avoided_unless_there_is_no_other() -> None:
    router = FewSlots({"a": 1, "b": 1})
    router.resting.add("a")
    with dispatching(router) as dispatcher:
        free = dispatcher.submit(Query(""), answers(0.0)).result(60)
        pinned = dispatcher.submit(Query("", allowed=("a",)), answers(0.0)).result(60)
    assert (free.answer.value, pinned.answer.value) == ("b", "a")


def test_a_run_that_raises_is_a_failure_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    def explode(model: str, left: float) -> Answer:
        raise KeyError("secret prompt")

    router = FewSlots({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), explode).result(60)
    assert settled.answer.failure == Failure("KeyError", 500, rests=False)
    assert router.resting == set(), "its server did nothing wrong"
    assert "KeyError at explode" in caplog.text
    assert "secret prompt" not in caplog.text


def test_a_call_that_hangs_is_settled_in_time_and_keeps_its_slot_while_it_hangs() -> None:
    router = FewSlots({"a": 1})
    begun, gate = threading.Event(), threading.Event()

    def hang(model: str, left: float) -> Answer:
        begun.set()
        gate.wait(60)
        return Answer(value="too late")

    with dispatching(router, call_timeout_s=0.1) as dispatcher:
        settled = made_in_time(
            lambda: dispatcher.submit(Query(""), hang).result(60), lambda made: begun.is_set()
        )
        assert settled.answer.failure is not None
        assert settled.answer.failure.status_code == 504
        (tried,) = settled.tries
        assert (tried.model, tried.failure) == ("a", "timeout")
        assert 0.0 < tried.seconds <= settled.served_s + 0.001
        assert router.in_use == {"a": 1}
        gate.set()
        until(lambda: router.in_use == {"a": 0})


def test_a_waiting_call_times_out_too() -> None:
    router = FewSlots({"a": 0})
    with dispatching(router, call_timeout_s=0.1) as dispatcher:
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert (settled.attempts, settled.tries) == (0, ())
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 504


def test_a_call_that_no_model_may_serve_ends_at_once() -> None:
    with dispatching(FewSlots({"a": 1})) as dispatcher:
        settled = dispatcher.submit(Query("", allowed=("unknown",)), answers(0.0)).result(60)
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 400


def test_a_dropped_call_never_runs() -> None:
    router = FewSlots({"a": 0})
    query = Query("")
    with dispatching(router) as dispatcher:
        future = dispatcher.submit(query, answers(0.0))
        assert dispatcher.drop(query.id)
        assert not dispatcher.drop(query.id)
        assert future.cancelled()
        assert dispatcher.depth() == (0, 0)


def test_who_hears_of_a_dropped_call_may_ask_the_dispatcher() -> None:
    query, heard = Query(""), []

    def ask(_: object) -> None:
        asking = threading.Thread(target=dispatcher.depth, daemon=True)
        asking.start()
        asking.join(60)
        heard.append(not asking.is_alive())

    with dispatching(FewSlots({"a": 0})) as dispatcher:
        dispatcher.submit(query, answers(0.0)).add_done_callback(ask)
        assert dispatcher.drop(query.id)
    assert heard == [True]


def test_a_dropped_call_that_runs_is_not_tried_again() -> None:
    query, asked = Query(""), []

    def gone(model: str, left: float) -> Answer:
        asked.append(model)
        assert not dispatcher.drop(query.id)
        return Answer(failure=Failure("503", 503))

    with dispatching(FewSlots({"a": 1, "b": 1})) as dispatcher:
        settled = dispatcher.submit(query, gone).result(60)
    assert len(asked) == settled.attempts == 1
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 499, "nobody waited for another try"


def test_a_call_that_waits_to_be_tried_again_can_be_dropped() -> None:
    query = Query("", allowed=("a",))
    busy = Answer(failure=Failure("503", 503, retry_after_s=60.0))
    with dispatching(FewSlots({"a": 1})) as dispatcher:
        future = dispatcher.submit(query, lambda model, left: busy)
        until(lambda: future.running() and dispatcher.depth() == (1, 0))
        assert dispatcher.drop(query.id)
        settled = future.result(60)
        assert dispatcher.depth() == (0, 0)
    assert settled.attempts == 1
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 499


@pytest.mark.parametrize("broken", [True, SystemExit(), KeyboardInterrupt()])
def test_a_broken_decision_falls_back_to_the_first_model(broken: bool | BaseException) -> None:
    router = FewSlots({"a": 2})
    router.broken = broken
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert settled.answer.value == "a"


@pytest.mark.parametrize("broken", [False, True])
def test_a_new_router_takes_over_what_waits_on_its_own_models(broken: bool) -> None:
    """Also one that cannot forecast."""
    old, new = FewSlots({"a": 0}), FewSlots({"b": 1})
    new.broken = broken
    with dispatching(old) as dispatcher:
        future = dispatcher.submit(Query(""), answers(0.0))
        until(lambda: old.forecasts)
        dispatcher.use(new, Settings())
        assert future.result(60).answer.value == "b"
    assert new.in_use == {"b": 0}


def test_stopping_settles_what_waits_and_refuses_what_comes() -> None:
    dispatcher = Dispatcher(FewSlots({"a": 0}))
    dispatcher.start()
    waiting = dispatcher.submit(Query(""), answers(0.0))
    dispatcher.stop()
    late = dispatcher.submit(Query(""), answers(0.0))
    for future in (waiting, late):
        failure = future.result(60).answer.failure
        assert failure is not None
        assert failure.status_code == 503


def test_an_observer_that_raises_hurts_nobody() -> None:
    seen: list[CallResult] = []

    def observe(settled: CallResult) -> None:
        seen.append(settled)
        raise ValueError("observer out of order")

    with Dispatcher(FewSlots({"a": 1}), on_settled=observe) as dispatcher:
        assert dispatcher.submit(Query(""), answers(0.0)).result(60).answer.value == "a"
    assert len(seen) == 1


def test_a_router_that_cannot_take_a_slot_back_costs_nobody_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(FewSlots):
        def release(self, decision: Decision, answers: Mapping[str, Answer] = NEVER_ASKED) -> None:
            raise ConnectionError("the store went away")

    with dispatching(Stuck({"a": 1})) as dispatcher:
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert settled.answer.value == "a"
    assert "giving a slot of a back failed" in caplog.text
    assert "the store went away" not in caplog.text


def test_a_process_without_threads_refuses_calls_until_it_has_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = FewSlots({"a": 1})
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("eccos-call"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with dispatching(router) as dispatcher:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
        monkeypatch.setattr(threading.Thread, "start", start)
        served = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert settled.answer.failure is not None
    assert (settled.answer.failure.status_code, settled.attempts) == (503, 0)
    assert served.answer.value == "a"
    assert router.in_use == {"a": 0}


def test_a_call_that_spoils_the_decision_spoils_its_own_alone() -> None:
    class Spoilt(FewSlots):
        fell_back = 0

        def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment:
            if any(candidate.query.text == "spoils" for candidate in candidates):
                raise ValueError("out of order")
            return super().assign(candidates, slots)

        def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
            assert query.text == "spoils"
            self.fell_back += 1
            return super().fallback(query, failed_on)

    router = Spoilt({"a": 4, "b": 4})
    with dispatching(router) as dispatcher:
        texts = ["well", "spoils", "well too", "fine"]
        served = wait_all([dispatcher.submit(Query(text), answers(0.05)) for text in texts], 60)
    assert [settled.answer.value for settled in served] == ["a"] * 4
    assert router.fell_back == 1


def test_a_fallback_that_fails_ends_its_call_and_not_the_scheduler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Lost(FewSlots):
        def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision:
            raise RuntimeError("secret prompt")

    router = Lost({"a": 1})
    router.broken = True
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
        router.broken = False
        served = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 503
    assert served.answer.value == "a"
    assert "RuntimeError at fallback" in caplog.text
    assert "out of order" not in caplog.text
    assert "secret prompt" not in caplog.text


def test_slots_of_decisions_that_were_not_carried_out_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = FewSlots({"a": 3})
    dispatcher = Dispatcher(router)
    start, failures = threading.Thread.start, [OSError("out of order")]

    def fail_once(thread: threading.Thread) -> None:
        if failures and thread.name.startswith("eccos-call"):
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    futures = [dispatcher.submit(Query(""), answers(0.0)) for _ in range(3)]
    with dispatcher:
        results = wait_all(futures[1:], 60)
        assert [settled.answer.value for settled in results] == ["a"] * 2
        assert router.in_use == {"a": 0}


def test_a_time_limit_longer_than_a_thread_can_wait_is_no_error() -> None:
    gate, held = holding()
    router = FewSlots({"a": 2})
    with dispatching(router, call_timeout_s=1e15) as dispatcher:
        first = dispatcher.submit(Query(""), held)
        until(lambda: router.in_use["a"])
        assert dispatcher.submit(Query(""), answers(0.0)).result(60).answer.value == "a"
        gate.set()
        first.result(60)


def test_a_store_that_cannot_let_a_model_rest_keeps_no_slot() -> None:
    class Restless(FewSlots):
        def rest(self, model: str, seconds: float | None) -> None:
            raise OverflowError("cannot convert float infinity to integer")

    router = Restless({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", failure=Failure("503", 503)))
        assert settled.result(60).answer.value == "b"
    assert router.in_use == {"a": 0, "b": 0}


def test_a_failure_that_is_not_the_servers_is_retried_and_rests_nothing() -> None:
    failure = Failure("empty answer", 502, rests=False)
    router = FewSlots({"a": 1, "b": 1})
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query(""), failing_on("a", failure=failure)).result(60)
    assert (settled.answer.value, settled.attempts) == ("b", 2)
    assert router.resting == set()


def test_a_call_that_would_wait_again_while_the_dispatcher_stops_is_settled() -> None:
    class Stops(FewSlots):
        def release(self, decision: Decision, answers: Mapping[str, Answer] = NEVER_ASKED) -> None:
            super().release(decision)
            dispatcher.stop()

    dispatcher = Dispatcher(Stops({"a": 1, "b": 1}))
    dispatcher.start()
    failure = Failure("503", 503)
    settled = dispatcher.submit(Query(""), failing_on("a", failure=failure)).result(60)
    assert settled.answer.failure == failure


@pytest.mark.parametrize(
    "raised",
    [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), CancelledError(), MemoryError()],
    ids=lambda raised: type(raised).__name__,
)
def test_a_request_that_raises_whatever_it_may_ends_and_gives_its_slot_back(
    raised: BaseException,
) -> None:
    def dies(model: str, left: float) -> Answer:
        raise raised

    router = FewSlots({"a": 1})
    with dispatching(router, call_timeout_s=30.0) as dispatcher:
        died = dispatcher.submit(Query("", allowed=("a",)), dies).result(60)
        served = dispatcher.submit(Query(""), answers(0.0)).result(60)
    assert died.answer.failure is not None
    assert died.answer.failure.reason == type(raised).__name__
    assert died.attempts == 1 or isinstance(raised, Exception)
    assert served.answer.value == "a"
    assert router.in_use == {"a": 0}


@pytest.mark.parametrize("odd", ["12", {"text": 2}, float("nan"), float("inf"), -3, 1e30, True, []])
def test_a_count_that_cannot_be_hurts_no_call_and_is_unknown(odd: Any) -> None:
    router, seen = FewSlots({"a": 1}), []
    with Dispatcher(router, on_settled=seen.append) as dispatcher:
        call = dispatcher.submit(Query(""), lambda model, left: Answer("fine", odd, odd))
        settled = call.result(60)
        assert dispatcher.submit(Query(""), answers(0.0)).result(60).answer.value == "a"
    expected = 12 if odd == "12" else None
    assert settled.answer == Answer("fine", expected, expected)
    assert settled.tries[0].output_tokens == expected
    assert router.in_use == {"a": 0}


def test_an_answer_that_is_none_is_a_failure() -> None:
    nothing: Any = lambda model, left: None  # noqa: E731
    with dispatching(FewSlots({"a": 1})) as dispatcher:
        settled = dispatcher.submit(Query(""), nothing).result(60)
    assert settled.answer.failure is not None


def test_an_observer_that_ends_its_thread_keeps_no_agent_waiting() -> None:
    def leave(settled: CallResult) -> None:
        raise SystemExit

    with Dispatcher(FewSlots({"a": 1}), on_settled=leave) as dispatcher:
        assert dispatcher.submit(Query(""), answers(0.0)).result(60).answer.value == "a"


TIMEOUT = Failure("timeout", 504)


def until_late(model: str, left: float) -> Answer:
    """As a client whose time is what the call has left."""
    time.sleep(max(left, 0.0))
    return Answer(failure=TIMEOUT)


def test_who_hears_of_a_settled_call_cannot_end_the_scheduler() -> None:
    def leave(future: Future[CallResult]) -> None:
        raise SystemExit

    router = FewSlots({"a": 0})  # without a slot it is the scheduler that settles the call
    with Dispatcher(router) as dispatcher:
        late = dispatcher.submit(Query("", deadline=time.monotonic() + 0.5), answers(0.0))
        late.add_done_callback(leave)
        assert late.result(60).answer.failure is not None
        router.limits["a"] = 1
        assert dispatcher.submit(Query(""), answers(0.0)).result(60).answer.value == "a"


def test_an_agents_own_short_deadline_rests_no_model() -> None:
    router = FewSlots({"a": 2, "b": 2})
    with dispatching(router, call_timeout_s=30.0) as dispatcher:
        hasty = Query("", allowed=("a",), deadline=time.monotonic() + 0.1)
        settled = dispatcher.submit(hasty, until_late).result(60)
        waited = dispatcher.submit(Query("", allowed=("a",)), answers(0.1)).result(60)
    assert settled.answer.failure is not None and settled.answer.failure.status_code == 504
    assert waited.answer.value == "a"
    assert router.resting == set()


class Late(FewSlots):
    """Lends slots when the call's time has passed, as a router that waits for a Redis may."""

    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment:
        assigned = super().assign(candidates, slots)
        until(lambda: all(time.monotonic() > (c.query.deadline or 0.0) for c in candidates))
        return assigned


def test_a_call_whose_time_passes_while_it_is_decided_asks_no_model() -> None:
    router, asked = Late({"a": 1}), []

    def noted(model: str, left: float) -> Answer:
        asked.append(left)
        return Answer(value=model)

    with dispatching(router) as dispatcher:

        def hasty() -> CallResult:
            query = Query("", deadline=time.monotonic() + 0.2)
            return dispatcher.submit(query, noted).result(60)

        settled = made_in_time(hasty, lambda made: made.attempts)
    assert settled.answer.failure is not None and settled.answer.failure.status_code == 504
    assert settled.attempts == 1 and not asked
    assert router.in_use == {"a": 0} and router.resting == set()


@pytest.mark.parametrize(
    ("failure", "rests"),
    [(TIMEOUT, True), (Failure("503", 503), True), (Failure("no connection", 503), True)],
)
def test_a_server_that_fails_before_the_deadline_rests(failure: Failure, rests: bool) -> None:
    router = FewSlots({"a": 2, "b": 2})
    with dispatching(router, call_timeout_s=30.0) as dispatcher:
        query = Query("", allowed=("a",), deadline=time.monotonic() + 600)
        call = dispatcher.submit(query, failing_on("a", failure=failure))
        until(lambda: router.resting)
        assert not call.done()
        dispatcher.drop(query.id)
    assert (router.resting == {"a"}) is rests


def test_a_server_that_used_all_that_a_call_gets_rests() -> None:
    router = FewSlots({"a": 1})
    with dispatching(router, call_timeout_s=0.2) as dispatcher:
        made_in_time(
            lambda: dispatcher.submit(Query(""), until_late).result(60),
            lambda made: router.resting,
        )
    assert router.resting == {"a"}


def refusal(kind: Any, window: int | None = None, status: int = 400) -> Failure:
    return Failure(
        kind, status, retryable=False, rests=False, elsewhere=True, refused=kind, window=window
    )


def test_what_models_refuse_is_offered_to_each_and_none_rests() -> None:
    router = FewSlots({"a": 1, "b": 1, "c": 1, "d": 1})
    with dispatching(router) as dispatcher:
        run = failing_on("a", "b", "c", failure=refusal("filter"))
        settled = dispatcher.submit(Query(""), run).result(60)
        nobody = failing_on(*"abcd", failure=refusal("filter", status=422))
        refused = dispatcher.submit(Query(""), nobody).result(60)
    assert [t.model for t in settled.tries] == ["a", "b", "c", "d"]
    assert (settled.answer.value, refused.attempts) == ("d", 4)
    assert settled.closed["a"] == "refused it: filter"
    assert refused.answer.failure == refusal("filter", status=422), "the last refusal's own"
    assert router.resting == set()


def test_a_pinned_call_gets_the_refusal_itself_at_once() -> None:
    with dispatching(FewSlots({"a": 1, "b": 1})) as dispatcher:
        query = Query("", allowed=("a",))
        run = failing_on("a", failure=refusal("vision"))
        settled = dispatcher.submit(query, run).result(60)
    assert (settled.answer.failure, settled.attempts) == (refusal("vision"), 1)


def test_a_refusal_after_a_failure_goes_back_to_the_model_that_failed() -> None:
    first = iter([Answer(failure=Failure("503", 503)), Answer("a in the end")])

    def run(model: str, left: float) -> Answer:
        return next(first) if model == "a" else Answer(failure=refusal("tools"))

    with dispatching(FewSlots({"a": 1, "b": 1})) as dispatcher:
        settled = dispatcher.submit(Query(""), run).result(60)
    assert [t.model for t in settled.tries] == ["a", "b", "a"]
    assert settled.answer.value == "a in the end"


@pytest.mark.parametrize(
    ("failure", "alike", "other"),
    [
        (refusal("context", 4096), Query("", input_tokens=4000), Query("", input_tokens=3000)),
        (refusal("context"), Query("", input_tokens=6000), Query("", input_tokens=4000)),
        (refusal("output"), Query("", max_output_tokens=900), Query("", max_output_tokens=100)),
        (refusal("tools"), Query("", needs=frozenset({"tools"})), Query("")),
        (refusal("vision"), Query("", needs=frozenset({"vision"})), Query("")),
        (refusal("json"), Query("", needs=frozenset({"json", "tools"})), Query("")),
    ],
)
def test_calls_like_one_that_was_refused_are_not_sent_there(
    failure: Failure, alike: Query, other: Query
) -> None:
    first = replace(
        alike,
        id="first",
        input_tokens=5000 if failure.refused == "context" else 0,
        max_output_tokens=500 if failure.refused in ("context", "output") else None,
    )
    alike = replace(alike, max_output_tokens=alike.max_output_tokens or first.max_output_tokens)
    router = FewSlots({"a": 9, "b": 9})
    with dispatching(router) as dispatcher:
        dispatcher.submit(first, failing_on("a", failure=failure)).result(60)
        settled = dispatcher.submit(alike, answers(0.0)).result(60)
        assert (settled.answer.value, settled.attempts) == ("b", 1)
        assert settled.closed["a"].startswith("has refused")
        assert dispatcher.submit(other, answers(0.0)).result(60).answer.value == "a"
        pinned = replace(alike, id="pinned", allowed=("a",))
        assert dispatcher.submit(pinned, answers(0.0)).result(60).answer.value == "a"
        (known,) = dispatcher.attempts.refusals.known()
        assert (known.model, known.words) == ("a", settled.closed["a"])
        dispatcher.use(router, Settings())
        again = dispatcher.submit(replace(alike, id="again"), answers(0.0)).result(60)
        assert again.answer.value == "b", "a refresh makes nobody ask again"


@pytest.mark.parametrize("kind", ["filter", "other", "vision", "context"])
def test_a_refusal_that_no_other_call_is_like_is_not_remembered(kind: Any) -> None:
    router = FewSlots({"a": 9, "b": 9})
    with dispatching(router) as dispatcher:
        query = Query("", input_tokens=10, max_output_tokens=1000)
        dispatcher.submit(query, failing_on("a", failure=refusal(kind))).result(60)
        again = dispatcher.submit(replace(query, id="again"), answers(0.0)).result(60)
        assert again.answer.value == "a"
        assert dispatcher.attempts.refusals.known() == []


def test_a_prompt_longer_than_was_thought_is_sent_to_no_model_with_as_small_a_window() -> None:
    pool = [Model("best", strength=0.9), Model("small", context_window=3000), Model("wide")]
    store = MemoryWorkload()
    router = Router(pool, Settings(), store)
    with Dispatcher(router) as dispatcher:
        query, run = (
            Query("", input_tokens=500),
            failing_on("best", failure=refusal("context", 4096)),
        )
        settled = dispatcher.submit(query, run).result(60)
        named = Query("", input_tokens=500, allowed=("best", "small"))
        refused = dispatcher.submit(named, run).result(60)
    store.close()
    assert [t.model for t in settled.tries] == ["best", "wide"]
    assert settled.query.input_tokens == 4097
    assert refused.answer.failure == refusal("context", 4096), "its own words, not ours"


def test_of_models_that_all_rest_the_one_that_has_rested_most_is_asked() -> None:
    pool, store = [Model("best", strength=0.9), Model("other", strength=0.1)], MemoryWorkload()
    router = Router(pool, Settings(), store)
    for model, seconds in zip(pool, (60.0, 20.0), strict=True):
        store.cool_down(model.slot, seconds)
    with Dispatcher(router) as dispatcher:
        settled = dispatcher.submit(Query(""), answers(0.0)).result(60)
    store.close()
    assert settled.answer.value == "other"
    assert settled.closed == {"best": "rests after an error"}


def test_a_cooldown_of_nothing_rests_nothing() -> None:
    pool, store = [Model("a", strength=0.9), Model("b")], MemoryWorkload()
    router = Router(pool, Settings(cooldown_s=0.0), store)
    with Dispatcher(router) as dispatcher:
        run = failing_on("a", failure=Failure("503", 503))
        assert dispatcher.submit(Query(""), run).result(60).answer.value == "b"
        assert router.slots().cooling == {}
    store.close()


def test_an_answer_that_was_cut_off_tells_nothing_of_a_models_pace() -> None:
    attempts, decision = Attempts(), FewSlots({"a": 1})._decide(candidate_of("a"))

    def make(**signals: bool) -> None:
        answer = Answer("x", output_tokens=1, signals=Signals(**signals))
        call = Call(
            query=Query(""), run=lambda model, left: answer, future=Future(), expires=math.inf
        )
        attempts.make(call, decision, "a", FewSlots({"a": 1}), 1.0)

    usual = attempts.pace.slot_seconds(decision.candidate, ["a"])
    make(truncated=True)
    assert attempts.pace.slot_seconds(decision.candidate, ["a"]) == usual
    make(truncated=False)
    assert attempts.pace.slot_seconds(decision.candidate, ["a"]) < usual


def test_short_answers_do_not_make_a_long_one_look_slow() -> None:
    """A prompt takes its time to be read however short the answer is."""
    pace, candidate = Attempts().pace, candidate_of("a")
    for tokens in (1, 2, 3, 100):
        pace.note("a", 4.0 + 0.05 * tokens, tokens)
    forecast = float(candidate.output_tokens[0])
    assert pace.slot_seconds(candidate, ["a"]) < 1.0 * forecast, "a token takes 0.05 s, not 4"


def candidate_of(model: str) -> Candidate:
    (candidate,) = FewSlots({model: 1}).forecast([Query("")])
    return candidate


class Patient(FewSlots):
    """Each call waits for the first model that it allows."""

    spills = False

    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment:
        firsts = [np.arange(len(p.models)) == int(p.allowed.argmax()) for p in candidates]
        only = [replace(p, allowed=first) for p, first in zip(candidates, firsts, strict=True)]
        return super().assign(only, slots)


def test_who_waits_for_a_full_model_does_not_block_who_wants_an_idle_one() -> None:
    gate, held = holding()
    router = Patient({"best": 1, "idle": 1})
    with dispatching(router, max_batch=2) as dispatcher:
        crowd = [dispatcher.submit(Query(""), held) for _ in range(20)]
        until(lambda: router.in_use["best"])
        pinned = dispatcher.submit(Query("", allowed=("idle",)), answers(0.0))
        assert pinned.result(60).answer.value == "idle"
        gate.set()
        assert {settled.answer.value for settled in wait_all(crowd, 60)} == {"best"}


def test_a_cooldown_does_not_hold_up_calls_that_have_no_other_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aios_eccos.serve.call.PINNED_BACKOFF_S", (0.02, 0.02))
    pool, store = [Model("only", limit=1)], MemoryWorkload()
    router = Router(pool, Settings(cooldown_s=600.0), store)
    results = iter([Answer(failure=Failure("503", 503)), Answer(value="second")])
    with Dispatcher(router) as dispatcher:
        first = dispatcher.submit(Query("", agent="x"), lambda model, left: next(results))
        settled = first.result(60)
        assert router.slots().cooling.keys() == {"only"}
        other = dispatcher.submit(Query("", agent="y"), answers(0.0)).result(60)
    store.close()
    assert (settled.answer.value, settled.attempts) == ("second", 2)
    assert other.answer.value == "only"


def serve(fair: FairShare, queues: dict[str, list[str]], cost: float, waiting: object = ()) -> str:
    """Start whoever is next."""
    agent = next(fair.merge(queues, lambda item: cost, waiting))  # type: ignore[arg-type]
    fair.charge(agent, cost)
    return agent


def test_equals_take_turns_whatever_runs_elsewhere() -> None:
    fair = FairShare()
    order = []
    for _ in range(50):
        everyone = {"hog", "long", "z-lone"}
        serve(fair, {"long": ["long"]}, 100.0, everyone)
        order.append(serve(fair, {"hog": ["hog"], "z-lone": ["z-lone"]}, 1.0, everyone))
    assert order == ["hog", "z-lone"] * 25


def test_an_agent_with_one_call_at_a_time_takes_turns_with_a_crowd() -> None:
    fair = FairShare()
    order = []
    for _ in range(20):
        order.append(serve(fair, {"hog": ["hog"], "z-lone": ["z-lone"]}, 1.0))
        if order[-1] == "z-lone":
            # Its next call comes while the crowd has the slot again.
            order.append(serve(fair, {"hog": ["hog"]}, 1.0))
    assert order.count("z-lone") >= 9


def test_what_is_owed_is_kept_while_an_agent_waits() -> None:
    fair = FairShare()
    both = {"x": ["x"], "y": ["y"]}
    fair.charge("x", 10.0)
    assert serve(fair, both, 1.0) == "y"
    serve(fair, {"far": ["far"]}, 1000.0, both)
    serve(fair, {"far": ["far"]}, 1000.0, both)
    assert [serve(fair, both, 1.0) for _ in range(5)] == ["y"] * 5


@pytest.mark.parametrize("crowd_waits", [True, False])
def test_an_agent_that_comes_back_does_not_claim_the_past(crowd_waits: bool) -> None:
    fair = FairShare()
    serve(fair, {"back": ["back"]}, 1.0)
    for _ in range(100):
        serve(fair, {"busy": ["busy"]}, 1.0)
    if not crowd_waits:
        serve(fair, {"back": ["back"]}, 1.0)
    order = [serve(fair, {"back": ["back"], "busy": ["busy"]}, 1.0) for _ in range(10)]
    assert 4 <= order.count("busy") <= 6


def test_agents_that_came_once_are_forgotten() -> None:
    fair = FairShare()
    for n in range(5000):
        serve(fair, {str(n): [str(n)]}, 1.0)
    assert len(fair._tags) <= 1001
    assert len(fair._turns) <= 1001


def test_a_broken_decision_sends_no_call_where_it_may_not_go() -> None:
    router = FewSlots({"a": 1})
    router.broken = True
    with dispatching(router) as dispatcher:
        settled = dispatcher.submit(Query("", allowed=("b",)), answers(0.0)).result(60)
    assert settled.answer.failure is not None
    assert settled.answer.failure.status_code == 400


def test_the_pace_of_a_model_may_be_noted_while_another_asks_for_it() -> None:
    pace, candidate = Attempts().pace, candidate_of("a")

    class Noting(float):
        def __truediv__(self, tokens: float) -> float:
            pace.note("b", 1.0, 10)
            return float(self) / tokens

    pace.note("a", 1.0, 10)
    pace._usual["a"] = Noting(1.0), 10.0
    assert pace.slot_seconds(candidate, ["a"]) > 0
