"""The requests of calls: each on a thread of its own, and what follows when they have ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from aios_eccos.errors import raised
from aios_eccos.serve.attempt import Attempts, guarded
from aios_eccos.serve.call import Call
from aios_eccos.serve.queue import CallQueue
from aios_eccos.serve.routes import Routes
from aios_eccos.serve.vote import Kinds, Planned
from aios_eccos.values import Answer, Decision, Failure

log = logging.getLogger("aios_eccos.serve.dispatch")

NO_THREAD = Failure("no thread for the call", 503, retryable=False)
BROKEN = Failure("the dispatcher's own fault", 500, retryable=False)
#: What a call comes to that would be tried again if somebody waited for its answer.
DROPPED = Failure("dropped before it was tried again", 499, retryable=False)


class Requests:
    """Starts the requests of calls. Safe to use from any thread.

    Args:
        queue: where calls wait and run.
        attempts: makes the requests.
        router: gives the one in force.
        timeout_s: what calls get that have no deadline of their own.
        settle: ends a call with an answer.

    Attributes:
        kinds: of calls whose answers could not be compared.
    """

    def __init__(
        self,
        queue: CallQueue,
        attempts: Attempts,
        router: Callable[[], Routes],
        timeout_s: Callable[[], float],
        settle: Callable[[Call, Answer], None],
    ) -> None:
        self.kinds = Kinds()
        self._queue, self._attempts = queue, attempts
        self._router, self._timeout_s, self._settle = router, timeout_s, settle

    def start(self, call: Call, decision: Decision, router: Routes) -> bool:
        """Start the call, each request on its own thread; False if it waits on, or is gone."""
        try:
            parts, planned = requests_of(decision), _planned(call, decision)
        except BaseException as error:  # noqa: BLE001 - the other calls must be started
            log.error("a plan could not be made ready: %s", raised(error))
            call.repeat = None  # it is decided again, without plans
            give_back(router, decision)
            return False
        if not self._queue.run(call):
            give_back(router, decision)
            return False
        call.decision, call.planned = decision, planned or call.planned
        call.asking = dict.fromkeys(parts, time.monotonic())
        started = [self._request(call, part, model, router) for model, part in parts.items()]
        return any(started)

    def _request(self, call: Call, decision: Decision, model: str, router: Routes) -> bool:
        """Start one request; False if there is no thread for it."""
        serve = partial(self._serve, call, decision, model, router)
        thread = threading.Thread(target=serve, name=f"eccos-call-{model}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process may have no more threads
            log.error("a call to %s cannot be started: %s", model, error)
            give_back(router, decision)
            if call.votes:
                self._ended(call, model, Answer(failure=NO_THREAD), time.monotonic())
            else:
                call.asking.clear()
                self.give_up(call, NO_THREAD)
            return False
        return True

    def _serve(self, call: Call, decision: Decision, model: str, router: Routes) -> None:
        """A request's own thread."""
        answer, ended = Answer(failure=BROKEN), time.monotonic()
        try:
            answer, ended = self._attempts.make(call, decision, model, router, self._timeout_s())
        finally:
            self._ended(call, model, answer, ended)
            self._queue.wake()

    def _ended(self, call: Call, model: str, answer: Answer, ended: float) -> None:
        """A request has ended: settle the call, or let it go on."""
        if not self._queue.ended(call, model, answer, ended):
            return
        planned = call.planned
        if planned is not None and call.votes:
            guarded("comparing answers", lambda: planned.compare(call.said))
            self.kinds.note(call.query, planned.outcome or "failed")
            if self._escapes(call):
                return
        if self._queue.over(call):
            failure = answer.failure
            again = failure is not None and (failure.retryable or failure.elsewhere)
            self._settle(call, Answer(failure=DROPPED) if call.dropped and again else answer)

    def _escapes(self, call: Call) -> bool:
        """Ask the escape of a plan, where it is needed, at once; False: it is to be waited for.

        What it costs was charged with the plan.
        """
        router = self._router()
        if self._queue.closed or call.router is not router or not call.tries_again():
            return False
        candidate = call.willing()
        if candidate is None:
            return False
        try:
            slots = router.slots()
            call.barred = router.bars(candidate, slots)
            (decision,) = router.assign([call.closed(slots)], slots).decisions
        except BaseException as error:  # noqa: BLE001 - the call waits for its escape instead
            log.error("an escape was not asked at once: %s", raised(error))
            return False
        return decision.model is not None and self.start(call, decision, router)

    def give_up(self, call: Call, failure: Failure) -> None:
        """End a call that cannot be served; with what its last request came to, if it made one."""
        if self._queue.remove(call):
            last = call.made[-1].answer if call.made else Answer(failure=failure)
            self._settle(call, last)


def requests_of(decision: Decision) -> dict[str, Decision]:
    """By model, the requests that a decision starts, each with the slot that is lent for it."""
    plan, model = decision.plan, decision.model
    if plan is None:
        return {} if model is None else {model: decision}
    lent = zip(plan.members, decision.leases, strict=True)
    return {name: replace(decision, model=name, leases=(lease,)) for name, lease in lent}


def _planned(call: Call, decision: Decision) -> Planned | None:
    """What is needed to run a plan; None where a model was chosen."""
    plan = decision.plan
    if plan is None or call.repeat is None:
        return None
    return Planned(plan, decision, call.repeat(), call.closed_by)


def give_back(router: Routes, decision: Decision) -> None:
    """Give the slots of a decision back, whatever happens to the store."""
    guarded(f"giving a slot of {decision.model} back", lambda: router.release(decision))
