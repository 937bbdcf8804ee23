"""The workload store as observers use it: looking must never cost a kernel its Redis.

A kernel gives Redis 50 ms and lends from memory when that is not enough. Observers read more at
once and can wait, so they have a connection of their own with a second's patience, and use the
kernel's store only while that fails.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.ledger import Ledger, PeriodSums
from aios_eccos.workload.store import Load, WorkloadStore

T = TypeVar("T")
log = logging.getLogger("aios_eccos.observe.observer_store")

#: A Redis that did not answer an observer is left alone for so long, seconds.
REST_S = 5.0


class Watched(Ledger, Protocol):
    """As much of a workload store as observers use."""

    @property
    def degraded(self) -> bool:
        """See `WorkloadStore.degraded`."""
        ...

    @property
    def kernels(self) -> int:
        """See `WorkloadStore.kernels`."""
        ...

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        """See `WorkloadStore.loads`."""
        ...

    def append_decision(self, fields: Mapping[str, str]) -> str:
        """See `WorkloadStore.append_decision`."""
        ...

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """See `WorkloadStore.decisions`."""
        ...

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        """See `WorkloadStore.push_inbox`."""
        ...


class ObserverStore:
    """Asks a connection of its own first, and the kernel's store while that fails.

    Args:
        own: the kernel's store.
        connect: opens the other connection, when it is first needed; None: there is none.
    """

    def __init__(
        self, own: WorkloadStore, connect: Callable[[], WorkloadStore] | None = None
    ) -> None:
        self._own = own
        self._connect = connect
        self._lock = threading.Lock()
        self._other: WorkloadStore | None = None
        self._rest_until = -math.inf
        self._closed = False

    @property
    def degraded(self) -> bool:
        return self._own.degraded

    @property
    def kernels(self) -> int:
        return self._own.kernels

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        # Without Redis the kernel lends from memory, and only its own store knows what.
        if self._own.degraded:
            return self._own.loads(limits)
        return self._ask(lambda store: store.loads(limits))

    def append_decision(self, fields: Mapping[str, str]) -> str:
        return self._ask(lambda store: store.append_decision(fields))

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._ask(lambda store: store.decisions(n))

    def decision(self, identity: str) -> dict[str, str] | None:
        return self._ask(lambda store: store.decision(identity))

    def add_sums(self, additions: Sequence[PeriodSums]) -> None:
        self._ask(lambda store: store.add_sums(additions))

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        return self._ask(lambda store: store.sums(periods))

    def append_event(self, fields: Mapping[str, str]) -> str:
        return self._ask(lambda store: store.append_event(fields))

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._ask(lambda store: store.events(n))

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        return self._ask(lambda store: store.swap_note(name, value, keep_s))

    def notes(self, names: Sequence[str]) -> list[str | None]:
        return self._ask(lambda store: store.notes(names))

    def clock(self) -> float:
        return self._ask(lambda store: store.clock())

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        self._ask(lambda store: store.push_inbox(payloads))

    def close(self) -> None:
        """End the connection of its own; the kernel's store is not touched."""
        with self._lock:
            self._closed = True
            other, self._other = self._other, None
        if other is not None:
            other.close()

    def _ask(self, ask: Callable[[WorkloadStore], T]) -> T:
        other = self._patient()
        if other is not None:
            try:
                return ask(other)
            except WorkloadError as error:
                self._give_up(error)
        return ask(self._own)

    def _patient(self) -> WorkloadStore | None:
        """The connection of its own, opened if it is time to try."""
        with self._lock:
            resting = time.monotonic() < self._rest_until
            if self._closed or self._connect is None or resting:
                return None
            if self._other is None:
                try:
                    self._other = self._connect()
                except WorkloadError as error:
                    log.debug("observing through the kernel's own connection: %s", error)
                    self._rest_until = time.monotonic() + REST_S
            return self._other

    def _give_up(self, error: WorkloadError) -> None:
        log.debug("observing through the kernel's own connection: %s", error)
        with self._lock:
            self._rest_until = time.monotonic() + REST_S
            other, self._other = self._other, None
        if other is not None:
            other.close()
