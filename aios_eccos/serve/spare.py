"""Requests that no agent waits for: only while no call waits, and in slots that nobody misses."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from aios_eccos.errors import raised
from aios_eccos.providers.usage import whole
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, Candidate, Failure, Lease, Model, Slots, Used
from aios_eccos.workload.store import SlotStore

log = logging.getLogger("aios_eccos.serve.spare")

#: Share of a model's slots that is left to agents' calls; of two or more, one at least.
LEFT = 0.25
#: Slots of a server that computes for one call about as fast as for all together, at most.
FEW = 4
#: Seconds for which a request waits until there is a spare slot.
PATIENCE_S = 30.0
#: Seconds between two looks at whether agents' calls wait, and at the slots.
CALLS_LOOK_S, SLOTS_LOOK_S = 0.02, 0.1


class Paid(NamedTuple):
    """An answer, or a failure, and the dollars that it has cost."""

    answer: Answer
    usd: float


class SpareRequests:
    """Makes requests while no call waits for a slot, each in one that is lent to it alone.

    Args:
        workload: lends the slots.
        waiting: how many calls wait here for a slot.

    Attributes:
        router: gives the one in force.
        stopped: set when no more requests are wanted; those that hang are left behind.
    """

    def __init__(
        self, workload: SlotStore, router: Callable[[], Router], waiting: Callable[[], int]
    ) -> None:
        self.stopped = threading.Event()
        self.router = router
        self._workload, self._waiting = workload, waiting
        self._lock = threading.Lock()
        #: Held while one looks and takes: two that look at once would both take the last.
        self._looking = threading.Lock()
        self._held: set[Lease] = set()

    def away(self) -> bool:
        """Whether the shared store is: what may be spent cannot be told."""
        return self._workload.degraded

    def make(
        self,
        model: str,
        expected_usd: float,
        ask: Callable[[float], Answer],
        candidate: Candidate | None = None,
        patience_s: float | None = None,
    ) -> Paid | None:
        """One request to a model; None: limits left it no room in time.

        Args:
            expected_usd: what an answer costs whose tokens nobody counted.
            ask: asks the model, within so many seconds.
            candidate: of the call for which it is asked, whose agent pays; None: nobody does.
            patience_s: seconds to wait for a slot, by default `PATIENCE_S`.

        Raises:
            WorkloadError: the workload store cannot be used.
        """
        lent = self._lease(model, candidate, PATIENCE_S if patience_s is None else patience_s)
        if lent is None:
            return None
        lease, router = lent
        answers: dict[str, Answer] = {}
        try:
            answer = answers[model] = _asked(model, ask, self.router().settings.call_timeout_s)
        finally:
            used = None
            if lease.need is not None:
                # By the router that has lent it: the model may be gone from the pool meanwhile.
                used = router.limits.used(candidate, model, lease.need, answers)
            self._give_back(lease, used)
        return Paid(answer, self._cost(model, answer, expected_usd))

    def stop(self) -> None:
        """Make no more requests; those under way count as if they took all that they reserved."""
        self.stopped.set()
        with self._lock:
            held = [*self._held]
        for lease in held:
            need = lease.need
            used = None if need is None else Used(tokens=need.tokens, usd=need.usd)
            self._give_back(lease, used)

    def _lease(
        self, model: str, candidate: Candidate | None, patience_s: float
    ) -> tuple[Lease, Router] | None:
        """A slot of the model as soon as one is spare, within so many seconds.

        For half of them also where no call would be slower for it.
        """
        end = time.monotonic() + patience_s
        while not self.stopped.is_set() and time.monotonic() < end:
            if self._waiting():
                self.stopped.wait(CALLS_LOOK_S)
                continue
            with self._looking:
                patient = time.monotonic() < end - patience_s / 2
                lent = self._taken(model, candidate, patient=patient)
            if lent is not None:
                return lent
            self.stopped.wait(SLOTS_LOOK_S)
        return None

    def _taken(
        self, model: str, candidate: Candidate | None, *, patient: bool
    ) -> tuple[Lease, Router] | None:
        """A slot of the model, if one is spare now, and the router that lends it."""
        router = self.router()
        limits = {each.slot: each.limit for each in router.models}
        asked = next((each for each in router.models if each.name == model), None)
        slots = router.slots()
        if asked is None or not spare(slots, model):
            return None
        if patient and slows(asked, router.models, slots):
            return None
        slot = asked.slot
        need = None if candidate is None else router.limits.need(candidate, model)
        lease = Lease(f"audit:{uuid.uuid4().hex}", slot, need)
        if not self._workload.acquire([lease], limits, router.limits.rates)[0]:
            return None
        with self._lock:
            self._held.add(lease)
        return lease, router

    def _give_back(self, lease: Lease, used: Used | None) -> None:
        """Settle what the lease needed, if anything is limited, and give its slot back; once."""
        with self._lock:
            if lease not in self._held:
                return
            self._held.discard(lease)
        try:
            if used is not None:
                self._workload.settle([(lease, used)])
        finally:
            self._workload.release([lease])

    def _cost(self, model: str, answer: Answer, expected_usd: float) -> float:
        """Dollars for what came back, of a failed request too as far as its tokens are known."""
        prices = self.router().prices
        if answer.output_tokens is None or model not in prices.models:
            return expected_usd if answer.failure is None else 0.0
        tokens = answer.input_tokens or 0, answer.output_tokens, answer.cached_tokens
        return prices.paid(model, *tokens)


def spare(slots: Slots, model: str) -> bool:
    """Whether one of a model's slots can be lent for a while without agents missing it."""
    limit, free = slots.limits.get(model, 0), slots.free.get(model, 0)
    left = max(LEFT * limit, 1) if limit > 1 else 0
    return model not in slots.cooling and free >= 1 and free - 1 >= left


def slows(model: Model, pool: Sequence[Model], slots: Slots) -> bool:
    """Whether a request would slow down others that run: small servers of a machine share it."""
    if not model.local or model.limit > FEW:
        return False
    host = urlsplit(model.endpoint).hostname
    there = (each for each in pool if each.local and urlsplit(each.endpoint).hostname == host)
    return any(slots.free[each.name] < slots.limits[each.name] for each in there)


def _asked(model: str, ask: Callable[[float], Answer], seconds: float) -> Answer:
    """The model's answer, or a failure, whatever its client does."""
    try:
        answer = ask(seconds)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, costs an audit, no more
        log.error("an audit's call to %s raised %s", model, raised(error))
        return Answer(failure=Failure(type(error).__name__, 500, rests=False))
    asked, told = whole(answer.input_tokens), whole(answer.output_tokens)
    return replace(answer, input_tokens=asked, output_tokens=told)
