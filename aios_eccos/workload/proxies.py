"""Stores that pass calls on to other stores; their methods are made from the capabilities' own."""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.store import Decisions, Inbox, Ledger, Loads, PriceStore, WorkloadStore

P = ParamSpec("P")
T = TypeVar("T")
Capability = TypeVar("Capability")
log = logging.getLogger(__name__)

#: A Redis that did not answer an observer is left alone for so long, seconds.
REST_S = 5.0


def _passed(
    method: Callable[Concatenate[Capability, P], T],
) -> Callable[Concatenate[Proxy, P], T]:
    """A method like the capability's, which `Proxy.ask` carries out; a write gets a name."""
    name, writes = method.__name__, "once" in inspect.signature(method).parameters

    def call(self: Proxy, /, *args: P.args, **kwargs: P.kwargs) -> T:
        given: dict[str, Any] = dict(kwargs)
        if writes:
            given["once"] = given.get("once") or uuid.uuid4().hex
        answer: T = self.ask(name, args, given)
        return answer

    return call


class Proxy(ABC):
    """All of a store but its slots, passed on by `ask`."""

    @abstractmethod
    def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method `name` of whatever store is in reach; writes bring `once`."""

    loads = _passed(Loads.loads)
    spent = _passed(Loads.spent)
    read_prices = _passed(PriceStore.read_prices)
    set_prices = _passed(PriceStore.set_prices)
    move_price = _passed(PriceStore.move_price)
    push_inbox = _passed(Inbox.push_inbox)
    take_inbox = _passed(Inbox.take_inbox)
    ack_inbox = _passed(Inbox.ack_inbox)
    set_aside = _passed(Inbox.set_aside)
    inbox_sizes = _passed(Inbox.inbox_sizes)
    append_decision = _passed(Decisions.append_decision)
    decisions = _passed(Decisions.decisions)
    decision = _passed(Decisions.decision)
    add_sums = _passed(Ledger.add_sums)
    sums = _passed(Ledger.sums)
    append_event = _passed(Ledger.append_event)
    events = _passed(Ledger.events)
    swap_note = _passed(Ledger.swap_note)
    change_note = _passed(Ledger.change_note)
    notes = _passed(Ledger.notes)
    clock = _passed(WorkloadStore.clock)
    warnings = _passed(WorkloadStore.warnings)


class ObserverStore(Proxy):
    """The store as observers use it: looking must never cost a kernel its Redis.

    A kernel gives Redis 50 ms and lends from memory when that is not enough. Observers read more at
    once and can wait: they have a connection of their own with a second's patience, opened by
    `connect` (None: there is none), and use the kernel's `own` store only while that fails.
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

    def warnings(self) -> list[str]:
        return self._own.warnings()  # where a server refuses to tell, that is no reason to leave it

    def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Without Redis the kernel lends from memory, and only its own store knows what.
        alone = name == "loads" and self._own.degraded
        other = None if alone else self._patient()
        if other is not None:
            try:
                return getattr(other, name)(*args, **kwargs)
            except WorkloadError as error:
                log.debug("observing through the kernel's own connection: %s", error)
                self._drop()
        return getattr(self._own, name)(*args, **kwargs)

    def close(self) -> None:
        """End the connection of its own; the kernel's store is not touched."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        """Leave the other Redis alone for a while."""
        with self._lock:
            self._rest_until = time.monotonic() + REST_S
            other, self._other = self._other, None
        if other is not None:
            other.close()

    def _patient(self) -> WorkloadStore | None:
        """The connection of its own, opened if it is time to try."""
        with self._lock:
            resting = time.monotonic() < self._rest_until
            if self._closed or self._connect is None or resting:
                return None
            if self._other is None:
                try:
                    self._other = self._connect()
                except WorkloadError:
                    self._rest_until = time.monotonic() + REST_S
            return self._other
