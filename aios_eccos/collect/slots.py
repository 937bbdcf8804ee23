"""Slots: collecting beside living kernels keeps to the limits that they share."""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from aios_eccos.values import Lease, Model, Need, Rates
from aios_eccos.workload.store import SlotStore

#: Longest wait for word of a slot that came back; a rest ends, and a kernel dies, without one.
LOOK_AGAIN_S = 1.0


class Slots:
    """Borrows slots of models from the store that kernels share; for several threads."""

    def __init__(self, workload: SlotStore, stop: threading.Event) -> None:
        self._workload, self._stop = workload, stop
        self._looking: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._changed = threading.Condition()
        self._changes = 0
        workload.on_release(self._wake)

    @contextmanager
    def one(self, model: Model) -> Iterator[bool]:
        """Hold a slot of `model` as soon as one is to spare; False if the run stopped before."""
        # How long an answer will be is not forecast here, so that its tokens are not reserved.
        need = None if model.rates == Rates() else Need()
        lease, taken = Lease(uuid.uuid4().hex, model.slot, need), False
        while not self._stop.is_set():
            seen = self._changes
            if taken := self._take(lease, model):
                break
            self._wait(seen)
        try:
            yield taken
        finally:
            if taken:
                self._workload.release([lease])

    def _take(self, lease: Lease, model: Model) -> bool:
        """Take a slot, but not a model's last one of several: agents find that one free."""
        limits, rates = {model.slot: model.limit}, {model.slot: model.rates}
        with self._looking[model.slot]:  # two that look at once would both take
            load = self._workload.loads(limits, rates)[model.slot]
            if load.cooling_s or load.free <= (load.limit > 1):
                return False
            return self._workload.acquire([lease], limits, rates)[0]

    def _wait(self, seen: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen, LOOK_AGAIN_S)

    def _wake(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()
