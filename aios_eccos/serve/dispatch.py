"""The scheduler: takes calls as they come, asks the router, runs each call on its own thread.

No call waits for another's answer. A waiting call blocks only calls that want the same slots.
Knows nothing of AIOS: what to run is a function that the submitter brings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial

from aios_eccos.config import Settings
from aios_eccos.serve.attempt import LATE, Attempts, guarded
from aios_eccos.serve.call import Call
from aios_eccos.serve.decisions import Decided, Decisions, fallback
from aios_eccos.serve.fairness import FairShare
from aios_eccos.serve.limits import hopeless, refused
from aios_eccos.serve.queue import CallQueue, startable
from aios_eccos.serve.requests import DROPPED, Requests, give_back
from aios_eccos.serve.routes import Routes, Run
from aios_eccos.values import Answer, CallResult, Decision, Failure, Query, Repeat, Slots
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.dispatch")

NOWHERE = Failure("no configured model may serve this call", 400, retryable=False)
UNDECIDED = Failure("no model could be chosen", 503, retryable=False)
#: Seconds within which calls are decided, unless they wait for a slot.
DECIDED_S = 0.1
STOPPED = Failure("the dispatcher was stopped", 503, retryable=False)


class Dispatcher:
    """Schedules calls over a router. Use as a context manager, or `start()` and `stop()`.

    Args:
        router: forecasts, assigns and lends slots.
        settings: how long and how many calls are gathered, how many may run, and for how long.
        on_settled: called once per call from its thread, before its future is done.

    Attributes:
        attempts: makes the requests; knows what models' servers have refused lately.
    """

    def __init__(
        self,
        router: Routes,
        settings: Settings | None = None,
        *,
        on_settled: Callable[[CallResult], None] | None = None,
    ) -> None:
        self.attempts = Attempts()
        self._on_settled = on_settled
        self._queue = CallQueue()
        self._decisions = Decisions()
        self._fair = FairShare(lambda agent: self._settings.weight(agent))
        self._requests = Requests(
            self._queue,
            self.attempts,
            lambda: self._router,
            lambda: self._settings.call_timeout_s,
            self._settle,
        )
        self._thread: threading.Thread | None = None
        self.use(router, settings or Settings())

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
        for call in self._queue.take():
            self._settle(call, Answer(failure=STOPPED))

    def use(self, router: Routes, settings: Settings) -> None:
        """Replace the router and the settings (the timeout for calls to come).

        Waiting calls are forecast anew, calls in flight are not touched.
        """
        router.on_release(self._queue.wake)
        self._router, self._settings = router, settings
        self._queue.wake()

    def submit(
        self, query: Query, run: Run, repeat: Callable[[], Repeat] | None = None
    ) -> Future[CallResult]:
        """Queue a call. The future always ends with a `CallResult`, or cancelled by `drop`.

        Args:
            repeat: lets the call be audited; asked when it has settled, before its future is done.
        """
        future: Future[CallResult] = Future()
        limit = time.monotonic() + self._settings.call_timeout_s
        expires = limit if query.deadline is None else min(limit, query.deadline)
        call = Call(query=query, run=run, future=future, expires=expires, repeat=repeat)
        if not self._queue.put(call):
            self._settle(call, Answer(failure=STOPPED))
        return future

    def drop(self, query_id: str) -> bool:
        """Forget a call that still waits (its client has gone). False if it runs or is over.

        One that runs asks no further model: it is not tried again, and a plan's escape not asked.
        Its future is cancelled, or, after a failed attempt, ends with `DROPPED`.
        """
        taken = self._queue.take(query_id)
        for call in taken:
            if not call.future.cancel():
                self._settle(call, Answer(failure=DROPPED))
        return bool(taken)

    def depth(self) -> tuple[int, int]:
        """How many calls wait and how many run, here."""
        return self._queue.depth()

    def fairness(self) -> float | None:
        """Jain's index over the agents served here of late; see `FairShare`."""
        return self._fair.fairness()

    def share(self, ledger: Ledger) -> None:
        """Tell other kernels what is known here of models and of kinds of calls; learn theirs.

        Raises:
            WorkloadError: the store cannot be used.
        """
        self.attempts.refusals.share(ledger)
        self._requests.kinds.share(ledger)

    def held_up(self) -> int:
        """How many calls wait here for a slot."""
        return self._queue.held_up(DECIDED_S)

    # The scheduling thread.

    def _loop(self) -> None:
        while not self._queue.closed:
            settings = self._settings
            for call in self._queue.gather(settings.window_ms / 1000, settings.max_batch):
                barred = {} if call.asking else call.barred
                self._settle(call, Answer(failure=refused(barred) if barred else LATE))
            try:
                while self._round():
                    pass
            except BaseException as error:  # noqa: BLE001 - whatever it is, calls must be served
                self._decisions.complain(error)
                router = self._router
                for call in _due(self._queue.waiting(), self._room()):
                    decided = [fallback(call, router)]
                    if not guarded("starting a call", partial(self._start, decided, router)):
                        self._requests.give_up(call, UNDECIDED)

    def _room(self) -> int:
        return max(self._settings.max_workers - self._queue.depth()[1], 0)

    def _round(self, *, recall: bool = True) -> bool:
        """Assign once. True if another look may pay: calls were started and some still wait.

        `recall`: by what is known of slots without asking, if that is enough.
        """
        router = self._router
        waiting, room = self._queue.waiting(), self._room()
        if not waiting or not room:
            return False
        unknown = [call for call in waiting if call.router is not router]
        odd = _due(self._decisions.forecast(unknown, router), room)
        for call in unknown:
            call.avoided = self.attempts.refusals.of(call.query)
            call.unplanned = self._requests.kinds.closed(call.query)
            if call.candidate is not None and not call.able():
                self._requests.give_up(call, self._nowhere(call))
        slots = router.slots(len(waiting) if recall else None)
        able = [call for call in waiting if call.able() and self._may_wait(call, slots, router)]
        if slots.recalled and any(call.barred for call in able):
            return self._round(recall=False)  # a limit may have let go meanwhile
        most = min(room, self._settings.max_batch)
        calls = startable(able, slots, most, router, self._fair, self.attempts.pace)
        decided = self._decisions.assign(calls, slots, router)
        decided += [fallback(call, router) for call in odd]
        short = any(decision is None or decision.model is None for _, decision in decided)
        started = self._start(decided, router)
        if slots.recalled and short:
            return self._round(recall=False)  # another kernel has taken a slot meanwhile
        return 0 < started < len(waiting)

    def _may_wait(self, call: Call, slots: Slots, router: Routes) -> bool:
        """Whether limits let a call be served in its time; else it is refused."""
        candidate = call.willing()
        if candidate is None:
            return True
        call.barred = router.bars(candidate, slots)
        failure = hopeless(call.barred, call.able(), call.expires) if call.barred else None
        if failure is not None and not slots.recalled:
            self._requests.give_up(call, failure)
            return False
        return True

    def _start(self, decided: list[Decided], router: Routes) -> int:
        """Start calls where decisions say; give up those that were not and cannot be decided."""
        left, started = decided[::-1], 0
        try:
            while left:
                call, decision = left[-1]
                if decision is None:
                    self._requests.give_up(call, UNDECIDED)
                elif decision.model is not None:
                    started += self._launch(call, decision, decision.model, router)
                elif not decision.candidate.allowed.any():
                    self._requests.give_up(call, self._nowhere(call))
                left.pop()
        finally:
            # Nothing is left, unless launching failed.
            for _, decision in left:
                if decision is not None:
                    give_back(router, decision)
        return started

    def _launch(self, call: Call, decision: Decision, column: str, router: Routes) -> bool:
        """Start the call's requests; False if it was dropped meanwhile."""
        if not self._requests.start(call, decision, router):
            return False
        if decision.plan is not None or call.planned is None:  # an escape is charged with its plan
            # Not the call's own candidate, which may be an earlier router's.
            cost = self.attempts.pace.slot_seconds(decision.candidate, [column])
            self._fair.charge(call.query.agent, cost)
        return True

    def _nowhere(self, call: Call) -> Failure:
        """Why no model may serve a call."""
        settings, query = self._settings, call.query
        private = settings.tightened(query).private
        return kept_in(settings.private_pattern(query.agent)) if private else NOWHERE

    def _settle(self, call: Call, answer: Answer) -> None:
        settled, on_settled = call.result(answer), self._on_settled
        if on_settled is not None:
            guarded("recording a settled call", lambda: on_settled(settled))
        guarded("telling of a settled call", lambda: _tell(call.future, settled))


def _tell(future: Future[CallResult], settled: CallResult) -> None:
    # The caller may have cancelled a call that never ran.
    with suppress(InvalidStateError):
        future.set_result(settled)


def kept_in(pattern: str | None) -> Failure:
    """No local model may serve a private call; `pattern` names its agent, None: it says so."""
    who = "the call is" if pattern is None else f"agents {pattern!r} are"
    remedy = "set local: true in a model's entry of llms.models if what it reads stays with you"
    text = f"{who} private, and no local model may serve this call; {remedy}"
    return Failure(text, 403, retryable=False)


def _due(calls: list[Call], most: int) -> list[Call]:
    """Calls that may be tried now."""
    now = time.monotonic()
    return [call for call in calls if call.not_before <= now][:most]
