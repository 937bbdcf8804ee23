"""Requests that no agent waits for: only while no call waits, and in slots that nobody misses."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from aios_eccos.errors import raised
from aios_eccos.providers.usage import whole
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, Candidate, Failure, Lease, Slots
from aios_eccos.workload.store import SlotStore

log = logging.getLogger("aios_eccos.serve.spare")

#: Share of a model's slots that is left to agents' calls; of two or more, one at least.
LEFT = 0.25
#: Seconds for which a request waits until there is a spare slot, and between two looks.
PATIENCE_S, LOOK_S = 5.0, 0.1


class Paid(NamedTuple):
    """An answer, or a failure, and the dollars that it has cost."""

    answer: Answer
    usd: float


class SpareRequests:
    """Makes requests while no call waits, each in a slot that is lent to it alone.

    Args:
        workload: lends the slots.
        waiting: how many calls wait here.

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
        self._held: set[Lease] = set()

    def make(
        self,
        model: str,
        expected_usd: float,
        ask: Callable[[float], Answer],
        candidate: Candidate | None = None,
    ) -> Paid | None:
        """One request to a model; None: limits left it no room in `PATIENCE_S`.

        Args:
            expected_usd: what an answer costs whose tokens nobody counted.
            ask: asks the model, within so many seconds.
            candidate: of the call for which it is asked, whose agent pays; None: nobody does.

        Raises:
            WorkloadError: the workload store cannot be used.
        """
        lease = self._lease(model, candidate)
        if lease is None:
            return None
        answers: dict[str, Answer] = {}
        try:
            answer = answers[model] = _asked(model, ask, self.router().settings.call_timeout_s)
        finally:
            if lease.need is not None and candidate is not None:
                used = self.router().limits.used(candidate, model, lease.need, answers)
                self._workload.settle([(lease, used)])
            self._give_back(lease)
        return Paid(answer, self._cost(model, answer, expected_usd))

    def stop(self) -> None:
        """Make no more requests, and give back the slots of those under way."""
        self.stopped.set()
        with self._lock:
            held = [*self._held]
        for lease in held:
            self._give_back(lease)

    def _lease(self, model: str, candidate: Candidate | None) -> Lease | None:
        """A slot of the model as soon as one is spare, within `PATIENCE_S`."""
        end = time.monotonic() + PATIENCE_S
        while not self.stopped.is_set() and time.monotonic() < end:
            router = self.router()
            limits = {each.slot: each.limit for each in router.models}
            slots = [each.slot for each in router.models if each.name == model]
            if slots and self._waiting() == 0 and spare(router.slots(), model):
                need = None if candidate is None else router.limits.need(candidate, model)
                lease = Lease(f"audit:{uuid.uuid4().hex}", slots[0], need)
                if self._workload.acquire([lease], limits, router.limits.rates)[0]:
                    with self._lock:
                        self._held.add(lease)
                    return lease
            self.stopped.wait(LOOK_S)
        return None

    def _give_back(self, lease: Lease) -> None:
        with self._lock:
            if lease not in self._held:
                return
            self._held.discard(lease)
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


def _asked(model: str, ask: Callable[[float], Answer], seconds: float) -> Answer:
    """The model's answer, or a failure, whatever its client does."""
    try:
        answer = ask(seconds)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, costs an audit, no more
        log.error("an audit's call to %s raised %s", model, raised(error))
        return Answer(failure=Failure(type(error).__name__, 500, rests=False))
    asked, told = whole(answer.input_tokens), whole(answer.output_tokens)
    return replace(answer, input_tokens=asked, output_tokens=told)
