"""The scheduler: takes calls as they come, asks the router, runs each call on its own thread.

No call waits for another's answer. A waiting call blocks only calls that want the same slots;
among the waiting, priority then age decides within an agent, and `fairness` between agents, so
that one agent's loop starves nobody. Knows nothing of AIOS: what to run is a function that the
submitter brings.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from aios_eccos.errors import raised
from aios_eccos.serve.call import Call, Routes, Run
from aios_eccos.serve.fairness import FairShare
from aios_eccos.values import Answer, CallResult, Candidate, Decision, Failure, Query, Slots

log = logging.getLogger("aios_eccos.serve.dispatch")

NOWHERE = Failure("no configured model may serve this call", 400, retryable=False)
#: Waits before the first and the second repetition on the same model, seconds (plus jitter).
PINNED_BACKOFF_S = (0.5, 2.0)
#: How often to look for slots that another kernel freed without our hearing of it, seconds.
POLL_S = 0.05
#: Seconds per output token where no model's pace is known yet.
USUAL_PACE_S = 0.02
#: Statuses by which a server says that it is busy or ill.
RESTING = frozenset({429, 500, 502, 503, 504})
STOPPED = Failure("the dispatcher was stopped", 503, retryable=False)
DROPPED = Failure("dropped while it waited to be tried again", 499, retryable=False)
#: Seconds in which a lasting fault is logged once.
COMPLAINT_S = 60.0
#: Share of a new observation in a model's seconds per token.
PACE_GAIN = 0.1


class Dispatcher:
    """Schedules calls over a router. Use as a context manager, or `start()` and `stop()`.

    Args:
        router: forecasts, assigns and lends slots.
        window_s: seconds that calls are gathered for; a lone call does not wait.
        max_batch: most calls assigned in one round.
        max_workers: most calls in flight here.
        call_timeout_s: seconds from arrival until a call is given up (deadlines may be sooner).
        on_settled: called once per call from its thread, before its future is done.
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
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        # Insertion-ordered sets: calls leave from anywhere.
        self._arrived: dict[Call, None] = {}
        self._waiting: dict[Call, None] = {}
        self._running: dict[Call, None] = {}
        self._fair = FairShare()
        self._pace: dict[str, float] = {}
        self._wake = False
        self._stopping = False
        self._count = 0
        self._complaint = "", 0.0
        self._thread: threading.Thread | None = None
        self._router = router
        router.on_release(self._slots_freed)

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
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        with self._changed:
            left = [*self._arrived, *self._waiting]
            self._arrived.clear()
            self._waiting.clear()
        for call in left:
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
        router.on_release(self._slots_freed)
        with self._changed:
            self._router = router
            self._window_s = self._window_s if window_s is None else window_s
            self._max_batch = max_batch or self._max_batch
            self._max_workers = max_workers or self._max_workers
            self._call_timeout_s = call_timeout_s or self._call_timeout_s
            self._wake = True
            self._changed.notify_all()

    def submit(self, query: Query, run: Run) -> Future[CallResult]:
        """Queue a call. The future always ends with a `CallResult`, or cancelled by `drop`."""
        future: Future[CallResult] = Future()
        limit = time.monotonic() + self._call_timeout_s
        expires = limit if query.deadline is None else min(limit, query.deadline)
        with self._changed:
            self._count += 1
            order = (-query.priority, query.arrived, self._count)
            call = Call(query, run, future, order, expires)
            stopped = self._stopping
            if not stopped:
                self._arrived[call] = None
                self._changed.notify_all()
        if stopped:
            self._settle(call, Answer(failure=STOPPED))
        return future

    def drop(self, query_id: str) -> bool:
        """Forget a call that still waits (its client has gone). False if it runs or is over.

        Its future is cancelled, or, after a failed attempt, ends with `DROPPED`.
        """
        with self._changed:
            here = (c for c in [*self._arrived, *self._waiting] if c.query.id == query_id)
            call = next(here, None)
            if call is None or not self._take_out(call):
                return False
        # Without the lock: whoever waits for the future is told on this thread.
        if not call.future.cancel():
            self._settle(call, Answer(failure=DROPPED))
        return True

    def depth(self) -> tuple[int, int]:
        """How many calls wait and how many run, here."""
        with self._changed:
            return len(self._arrived) + len(self._waiting), len(self._running)

    # The scheduling thread.

    def _loop(self) -> None:
        while not self._stopping:
            for call in self._gather():
                self._settle(call, Answer(failure=Failure("timeout", 504, retryable=False)))
            try:
                while self._round():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the calls must be served
                self._complain(raised(error))
                self._serve_undecided()

    def _complain(self, fault: str) -> None:
        """Say it, but not with every look at the calls that wait."""
        before, until = self._complaint
        if fault != before or time.monotonic() > until:
            log.error("no decision (%s); waiting calls go to the first model they allow", fault)
            self._complaint = fault, time.monotonic() + COMPLAINT_S

    def _gather(self) -> list[Call]:
        """Wait for work, then a window more for company; take out what has run out of time."""
        with self._changed:
            if not (self._arrived or self._wake or self._stopping):
                self._changed.wait(self._idle_s())
            if len(self._arrived) > 1 or (self._arrived and self._running):
                end = time.monotonic() + self._window_s
                while len(self._arrived) < self._max_batch and not self._stopping:
                    left = end - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            self._wake = False
            now = time.monotonic()
            late = [
                call
                for group in (self._waiting, self._arrived, self._running)
                for call in group
                if call.expires <= now
            ]
            for call in late:
                self._take_out(call)
            return late

    def _take_out(self, call: Call) -> bool:
        """Remove a call from wherever it stands (under the lock); False if it is gone already."""
        for group in (self._waiting, self._arrived, self._running):
            if call in group:
                del group[call]
                return True
        return False

    def _idle_s(self) -> float | None:
        """Seconds until something has to be looked at without being told (under the lock)."""
        now = time.monotonic()
        times = [c.expires - now for c in self._running]
        times += [min(c.expires - now, max(c.not_before - now, POLL_S)) for c in self._waiting]
        return min(max(min(times), 0.0), threading.TIMEOUT_MAX) if times else None

    def _round(self) -> bool:
        """Assign once. True if another look may pay: calls were started and some still wait."""
        router = self._router
        with self._changed:
            self._waiting.update(self._arrived)
            self._arrived.clear()
            waiting = list(self._waiting)
            room = self._max_workers - len(self._running)
        if not waiting or room <= 0:
            return False
        unknown = [call for call in waiting if call.router is not router]
        if unknown:
            candidates = router.forecast([call.query for call in unknown])
            for call, candidate in zip(unknown, candidates, strict=True):
                call.candidate, call.router = candidate, router
        for call in unknown:
            if not call.allowed():
                self._give_up(call, NOWHERE)
        slots = router.slots()
        calls = self._candidates(waiting, slots, min(room, self._max_batch), router)
        if not calls:
            return False
        assignment = router.assign([call.closed(slots.cooling) for call in calls], slots)
        decided = list(zip(calls, assignment.decisions, strict=True))[::-1]
        started = 0
        try:
            while decided:
                call, decision = decided[-1]
                if decision.model is not None:
                    started += self._launch(call, decision, router)
                decided.pop()
        finally:
            # Nothing is left, unless launching failed.
            for _, decision in decided:
                self._release(router, decision)
        return 0 < started < len(waiting)

    def _serve_undecided(self) -> None:
        router = self._router
        now = time.monotonic()
        with self._changed:
            waiting = [*self._waiting, *self._arrived]
            room = self._max_workers - len(self._running)
        for call in [call for call in waiting if call.not_before <= now][: max(room, 0)]:
            try:
                decision = self._decide_alone(call, router)
                if decision.model is not None:
                    self._launch(call, decision, router)
                elif not decision.candidate.allowed.any():
                    self._give_up(call, NOWHERE)
            except Exception as error:  # noqa: BLE001 - the other calls must be served
                log.error("the fallback failed too: %s", raised(error))
                self._give_up(call, Failure("no model could be chosen", 503, False, rests=False))

    def _decide_alone(self, call: Call, router: Routes) -> Decision:
        """A decision for one call, after that for all has failed: one may have spoiled it."""
        try:
            if call.router is not router:
                (call.candidate,), call.router = router.forecast([call.query]), router
            slots = router.slots()
            (decision,) = router.assign([call.closed(slots.cooling)], slots).decisions
        except Exception:  # noqa: BLE001 - what is wrong has been logged
            return router.fallback(call.query, call.failed_on)
        return decision

    def _candidates(
        self, waiting: list[Call], slots: Slots, most: int, router: Routes
    ) -> list[Call]:
        """The waiting calls that can have a slot now, fairest first, about as many as slots."""
        now = time.monotonic()
        free, cooling, spills = slots.free, slots.cooling, router.spills
        queues: dict[str, list[Call]] = {}
        wants: dict[Call, list[str]] = {}
        for call in sorted(waiting, key=lambda c: c.order):
            if call.not_before > now:
                continue
            names = wants[call] = call.usable(cooling) if spills else call.best(cooling, router)
            if any(free[name] > 0 for name in names):
                queues.setdefault(call.query.agent, []).append(call)
        wanted = {name: count for name, count in free.items() if count > 0}
        in_all = sum(wanted.values())
        chosen: list[Call] = []
        agents = {call.query.agent for call in waiting}
        merged = self._fair.merge(
            queues, lambda c: self._slot_seconds(c.candidate, wants[c]), agents
        )
        for call in merged:
            if len(chosen) >= most or (len(chosen) >= in_all and not any(wanted.values())):
                break
            # Who waits for one model must not fill the batch of those that another could serve.
            if not spills and not any(wanted.get(name, 0) for name in wants[call]):
                continue
            chosen.append(call)
            for name in wants[call]:
                wanted[name] = max(wanted.get(name, 0) - 1, 0)
        return chosen

    def _slot_seconds(self, candidate: Candidate | None, names: list[str]) -> float:
        """Forecast seconds that the call holds a slot, averaged over the models named."""
        if candidate is None or not names:
            return 1.0
        usual = sum(self._pace.values()) / len(self._pace) if self._pace else USUAL_PACE_S
        columns = [candidate.models.index(name) for name in names]
        times = [
            float(candidate.output_tokens[column]) * self._pace.get(name, usual)
            for name, column in zip(names, columns, strict=True)
        ]
        return max(sum(times) / len(times), 1e-6)

    def _launch(self, call: Call, decision: Decision, router: Routes) -> bool:
        """Start the call on its own thread; False if it was dropped in the meantime."""
        model = decision.model or ""
        # Not the call's own candidate, which may be an earlier router's.
        cost = self._slot_seconds(decision.candidate, [model])
        with self._changed:
            present = self._take_out(call) and (
                call.attempts > 0 or call.future.set_running_or_notify_cancel()
            )
            if present:
                self._running[call] = None
                call.decision = decision
                call.attempts += 1
                call.asking_since = time.monotonic()
                call.started = call.started or call.asking_since
                self._fair.charge(call.query.agent, cost)
        if not present:
            self._release(router, decision)
            return False
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
            self._give_up(call, Failure("no thread for the call", 503, False, rests=False))
            return False
        return True

    def _release(self, router: Routes, decision: Decision) -> None:
        try:
            router.release(decision)
        except Exception as error:  # noqa: BLE001 - a slot not given back expires by itself
            log.error("giving a slot of %s back failed: %s", decision.model, raised(error))

    # A call's own thread.

    def _serve(self, call: Call, decision: Decision, model: str, router: Routes) -> None:
        begun = time.monotonic()
        try:
            answer = call.run(model, call.expires - begun)
            failure = answer.failure
        except Exception as error:  # noqa: BLE001 - whatever the caller does, the call must end
            log.error("the model call to %s raised %s", model, raised(error))
            failure = Failure(type(error).__name__, 500, rests=False)
            answer = Answer(failure=failure)
        ended = time.monotonic()
        if failure is None and answer.output_tokens:
            pace = (ended - begun) / answer.output_tokens
            self._pace[model] = self._pace.get(model, pace) * (1 - PACE_GAIN) + pace * PACE_GAIN
        # Before the call waits again: a second attempt on a model borrows under the same id.
        self._release(router, decision)
        if failure is not None:
            self._rest(router, model, failure)
        again = self._again(call, model, failure)
        with self._changed:
            # A call that was given up while it ran is settled already.
            owned = self._take_out(call)
            # Nobody looks at what waits after `stop`, which may have come since.
            again = again and not self._stopping
            if owned:
                call.tried(answer, ended)
            if owned and again:
                self._waiting[call] = None
        if owned and not again:
            self._settle(call, answer)
        self._slots_freed()

    def _rest(self, router: Routes, model: str, failure: Failure) -> None:
        """Let the model rest if its server says that it is busy, ill or not for us."""
        ill = failure.retryable and failure.status_code in RESTING
        if not (failure.rests and (ill or failure.elsewhere)):
            return
        try:
            router.rest(model, failure.retry_after_s)
        except Exception as error:  # noqa: BLE001 - the answer is there
            log.error("letting %s rest failed: %s", model, raised(error))

    def _again(self, call: Call, model: str, failure: Failure | None) -> bool:
        """Whether to try once more: on another model once, or on the only one up to twice."""
        if failure is None or self._stopping:
            return False
        if not (failure.retryable or failure.elsewhere):
            return False
        call.failed_on.add(model)
        pinned = call.usable() == [model]
        if not pinned:
            return call.attempts < 2
        if failure.elsewhere or call.attempts > len(PINNED_BACKOFF_S):
            return False
        pause = failure.retry_after_s
        if pause is None:
            pause = PINNED_BACKOFF_S[call.attempts - 1] * self._random.uniform(1.0, 1.25)
        call.not_before = time.monotonic() + pause
        return call.not_before < call.expires

    def _slots_freed(self) -> None:
        with self._changed:
            self._wake = True
            self._changed.notify_all()

    def _give_up(self, call: Call, failure: Failure) -> None:
        with self._changed:
            owned = self._take_out(call)
        if owned:
            self._settle(call, Answer(failure=failure))

    def _settle(self, call: Call, answer: Answer) -> None:
        now = time.monotonic()
        started = call.started
        call.tried(answer, now)
        settled = CallResult(
            query=call.query,
            answer=answer,
            decision=call.decision,
            attempts=call.attempts,
            waited_s=(started or now) - call.query.arrived,
            served_s=now - started if started is not None else 0.0,
            tries=tuple(call.tries),
        )
        if self._on_settled is not None:
            try:
                self._on_settled(settled)
            except Exception as error:  # noqa: BLE001 - an observer's fault is not the agent's
                log.error("recording a settled call failed: %s", raised(error))
        # The caller may have cancelled a call that never ran.
        with suppress(InvalidStateError):
            call.future.set_result(settled)


def wait_all(
    futures: Iterable[Future[CallResult]], timeout_s: float | None = None
) -> list[CallResult]:
    """The results of all futures, in order."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    return [f.result(None if end is None else max(end - time.monotonic(), 0.0)) for f in futures]
