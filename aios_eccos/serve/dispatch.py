"""The scheduler: takes calls as they come, asks the router, runs each call on its own thread.

No call waits for another's answer. A waiting call blocks only calls that want the same slots;
among the waiting, priority then age decides within an agent, and `fairness` between agents, so
that one agent's loop starves nobody. Knows nothing of AIOS: what to run is a function that the
submitter brings.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial

from aios_eccos.serve.attempt import Attempts, Made, guarded
from aios_eccos.serve.call import Call, Routes, Run
from aios_eccos.serve.candidates import startable
from aios_eccos.serve.decisions import Decided, Decisions
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.queue import CallQueue
from aios_eccos.values import Answer, CallResult, Decision, Failure, Query

log = logging.getLogger("aios_eccos.serve.dispatch")

NOWHERE = Failure("no configured model may serve this call", 400, retryable=False)
UNDECIDED = Failure("no model could be chosen", 503, retryable=False)
NO_THREAD = Failure("no thread for the call", 503, retryable=False)
LATE = Failure("timeout", 504, retryable=False)
STOPPED = Failure("the dispatcher was stopped", 503, retryable=False)
BROKEN = Failure("the dispatcher's own fault", 500, retryable=False)
DROPPED = Failure("dropped while it waited to be tried again", 499, retryable=False)


class Dispatcher:
    """Schedules calls over a router. Use as a context manager, or `start()` and `stop()`.

    Args:
        router: forecasts, assigns and lends slots.
        window_s: seconds that calls are gathered for; a lone call does not wait.
        max_batch: most calls assigned in one round.
        max_workers: most calls in flight here.
        call_timeout_s: seconds from arrival until a call is given up (deadlines may be sooner).
        on_settled: called once per call from its thread, before its future is done.

    Attributes:
        attempts: makes the requests; knows what models' servers have refused lately.
    """

    def __init__(
        self,
        router: Routes,
        *,
        window_s: float = 0.005,
        max_batch: int = 1024,
        max_workers: int = 1024,
        call_timeout_s: float = 600.0,
        on_settled: Callable[[CallResult], None] | None = None,
        seed: int | None = None,
    ) -> None:
        self._window_s = window_s
        self._max_batch = max_batch
        self._max_workers = max_workers
        self._call_timeout_s = call_timeout_s
        self._on_settled = on_settled
        self._queue = CallQueue()
        self._decisions = Decisions()
        self.attempts = Attempts(seed)
        self._fair = FairShare()
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._router = router
        router.on_release(self._queue.wake)

    def __enter__(self) -> Dispatcher:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the scheduling thread (daemon: a hung call must not keep the process)."""
        self._thread = threading.Thread(target=self._loop, name="eccos-dispatch", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Settle what still waits with an error, and end the scheduling thread.

        Calls in flight keep their threads and settle when their answers come.
        """
        self._queue.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        for call in self._queue.drain():
            self._settle(call, Answer(failure=STOPPED))

    def use(
        self,
        router: Routes,
        *,
        window_s: float | None = None,
        max_batch: int | None = None,
        max_workers: int | None = None,
        call_timeout_s: float | None = None,
    ) -> None:
        """Replace the router, and what else is given (the timeout for calls to come).

        Waiting calls are forecast anew, calls in flight are not touched.
        """
        router.on_release(self._queue.wake)
        self.attempts.refusals.forget()
        self._router = router
        self._window_s = self._window_s if window_s is None else window_s
        self._max_batch = max_batch or self._max_batch
        self._max_workers = max_workers or self._max_workers
        self._call_timeout_s = call_timeout_s or self._call_timeout_s
        self._queue.wake()

    def submit(self, query: Query, run: Run) -> Future[CallResult]:
        """Queue a call. The future always ends with a `CallResult`, or cancelled by `drop`."""
        future: Future[CallResult] = Future()
        limit = time.monotonic() + self._call_timeout_s
        expires = limit if query.deadline is None else min(limit, query.deadline)
        order = (-query.priority, query.arrived, next(self._count))
        call = Call(query, run, future, order, expires)
        if not self._queue.put(call):
            self._settle(call, Answer(failure=STOPPED))
        return future

    def drop(self, query_id: str) -> bool:
        """Forget a call that still waits (its client has gone). False if it runs or is over.

        Its future is cancelled, or, after a failed attempt, ends with `DROPPED`.
        """
        call = self._queue.take(query_id)
        if call is None:
            return False
        if not call.future.cancel():
            self._settle(call, Answer(failure=DROPPED))
        return True

    def depth(self) -> tuple[int, int]:
        """How many calls wait and how many run, here."""
        return self._queue.depth()

    # The scheduling thread.

    def _loop(self) -> None:
        while not self._queue.closed:
            for call in self._queue.gather(self._window_s, self._max_batch):
                self._settle(call, Answer(failure=LATE))
            try:
                while self._round():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the calls must be served
                self._decisions.complain(error)
                router = self._router
                due = _due(self._queue.waiting(), self._room())
                for decided in self._decisions.fallback(due, router):
                    if not guarded("starting a call", partial(self._start, [decided], router)):
                        self._give_up(decided[0], UNDECIDED)

    def _room(self) -> int:
        return max(self._max_workers - self._queue.depth()[1], 0)

    def _round(self) -> bool:
        """Assign once. True if another look may pay: calls were started and some still wait."""
        router = self._router
        waiting, room = self._queue.waiting(), self._room()
        if not waiting or not room:
            return False
        unknown = [call for call in waiting if call.router is not router]
        odd = _due(self._decisions.forecast(unknown, router), room)
        for call in unknown:
            call.avoided = self.attempts.refusals.of(call.query)
            if call.candidate is not None and not call.able():
                self._give_up(call, NOWHERE)
        slots = router.slots()
        able, most = [call for call in waiting if call.able()], min(room, self._max_batch)
        calls = startable(able, slots, most, router, self._fair, self.attempts.pace)
        decided = self._decisions.assign(calls, slots, router)
        decided += self._decisions.fallback(odd, router)
        return 0 < self._start(decided, router) < len(waiting)

    def _start(self, decided: list[Decided], router: Routes) -> int:
        """Start calls where decisions say; give up those that were not and cannot be decided."""
        left, started = decided[::-1], 0
        try:
            while left:
                call, decision = left[-1]
                if decision is None:
                    self._give_up(call, UNDECIDED)
                elif decision.model is not None:
                    started += self._launch(call, decision, decision.model, router)
                elif not decision.candidate.allowed.any():
                    self._give_up(call, NOWHERE)
                left.pop()
        finally:
            # Nothing is left, unless launching failed.
            for _, decision in left:
                self._release(router, decision)
        return started

    def _launch(self, call: Call, decision: Decision, model: str, router: Routes) -> bool:
        """Start the call on its own thread; False if it was dropped in the meantime."""
        if not self._queue.run(call):
            self._release(router, decision)
            return False
        call.decision = decision
        call.attempts += 1
        call.asking_since = time.monotonic()
        call.started = call.started or call.asking_since
        # Not the call's own candidate, which may be an earlier router's.
        cost = self.attempts.pace.slot_seconds(decision.candidate, [model])
        self._fair.charge(call.query.agent, cost)
        thread = threading.Thread(
            target=self._serve,
            args=(call, decision, model, router),
            name=f"eccos-call-{model}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the process may have no more threads
            log.error("a call to %s cannot be started: %s", model, error)
            call.attempts -= 1
            call.asking_since = None
            self._release(router, decision)
            self._give_up(call, NO_THREAD)
            return False
        return True

    def _release(self, router: Routes, decision: Decision | None) -> None:
        if decision is not None:
            guarded(f"giving a slot of {decision.model} back", lambda: router.release(decision))

    def _serve(self, call: Call, decision: Decision, model: str, router: Routes) -> None:
        """A call's own thread: one request."""
        made = Made(Answer(failure=BROKEN), time.monotonic())
        try:
            made = self.attempts.make(call, decision, model, router, self._call_timeout_s)
        finally:
            if self._queue.over(call, made.answer, made.ended, made.again):
                self._settle(call, made.answer)
            self._queue.wake()

    def _give_up(self, call: Call, failure: Failure) -> None:
        """End a call that cannot be served; with what its last request came to, if it made one."""
        if self._queue.take_out(call):
            self._settle(call, call.answer or Answer(failure=failure))

    def _settle(self, call: Call, answer: Answer) -> None:
        settled, on_settled = call.result(answer), self._on_settled
        if on_settled is not None:
            guarded("recording a settled call", lambda: on_settled(settled))
        # The caller may have cancelled a call that never ran.
        with suppress(InvalidStateError):
            call.future.set_result(settled)


def _due(calls: list[Call], most: int) -> list[Call]:
    """Calls that may be tried now."""
    now = time.monotonic()
    return [call for call in calls if call.not_before <= now][:most]
