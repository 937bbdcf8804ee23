"""Keeps lending while Redis is away: each kernel lends its share of every limit by itself."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.heartbeat import Heartbeat
from aios_eccos.workload.ledger import PeriodSums
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.store import PRICE_RANGE, Load

T = TypeVar("T")
log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
#: A server that comes and goes is warned of once in so many seconds.
WARN_AGAIN_S = 60.0
#: Most moves of prices that are kept until Redis is back.
MOVES_KEPT = 10_000


class ResilientWorkload:
    """A `RedisWorkload` that never stops lending.

    The first call that Redis fails, and all until it answers again, are served from memory at
    limit / known kernels (at least 1). A background thread looks for Redis; when it answers, what
    was lent meanwhile is added there, prices move by what they moved here, and decisions follow.

    Args:
        shared: the store to lean on.
        kernels: kernels to share the limits with until the first answer tells how many there are.
        lost: why Redis cannot be reached yet, if so.
        heartbeat_s: seconds between two renewals; a third of the leases' lifetime or less.
    """

    def __init__(
        self,
        shared: RedisWorkload,
        kernels: int = 1,
        *,
        lost: WorkloadError | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._shared = shared
        self._shared.kernels = max(1, kernels)
        self._local = MemoryWorkload(shared.notifier)
        # Guards `_degraded` together with what is lent locally; never held while Redis is asked.
        self._switch = threading.Lock()
        self._degraded = False
        self._closed = False
        self._warned = -math.inf
        # What happened to prices while away: arguments of moves to repeat, and names set anew.
        self._moves: deque[tuple[str, float, float, float, float, str]] = deque(maxlen=MOVES_KEPT)
        self._set: set[str] = set()
        self._heartbeat = Heartbeat(
            shared, period_s=heartbeat_s, lost=self._lose, back=self._return
        )
        if lost is not None:
            self._lose(lost)
        self._heartbeat.start()

    @property
    def degraded(self) -> bool:
        return self._degraded

    @property
    def kernels(self) -> int:
        return self._shared.kernels

    def acquire(self, leases: Sequence[Lease], limits: Mapping[str, int]) -> list[bool]:
        while True:
            self._check_open()
            if not self._degraded:
                try:
                    granted = self._shared.acquire(leases, limits)
                except WorkloadError as error:
                    self._lose(error)
                else:
                    self._local.adopt(_chosen(leases, granted))
                    return granted
            with self._switch:
                if self._degraded:
                    granted = self._local.acquire(leases, self._shares(limits))
                    self._shared.adopt(_chosen(leases, granted))
                    return granted

    def release(self, leases: Sequence[Lease]) -> None:
        self._local.forget(leases)
        if self._closed:
            return
        if not self._degraded:
            try:
                self._shared.release(leases)
            except WorkloadError as error:
                self._lose(error)
            else:
                return
        self._shared.forget(leases)
        self._shared.notifier.notify()

    def renew(self) -> None:
        if not self._degraded:
            self._either(self._shared.renew, lambda: None)

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        return self._either(
            lambda: self._shared.loads(limits), lambda: self._local.loads(self._shares(limits))
        )

    def cool_down(self, slot: str, seconds: float) -> None:
        self._local.cool_down(slot, seconds)
        self._either(lambda: self._shared.cool_down(slot, seconds), lambda: None)

    def on_release(self, callback: Callable[[], None]) -> None:
        self._shared.on_release(callback)

    def read_prices(self) -> dict[str, float]:
        return self._either(self._shared_prices, self._local.read_prices)

    def _shared_prices(self) -> dict[str, float]:
        prices = self._shared.read_prices()
        self._local.set_prices(prices)
        return prices

    def set_prices(self, prices: Mapping[str, float]) -> None:
        self._local.set_prices(prices)
        self._either(lambda: self._shared.set_prices(prices), lambda: self._note_set(prices))

    def move_price(
        self,
        name: str,
        step: float,
        start: float,
        low: float = PRICE_RANGE[0],
        high: float = PRICE_RANGE[1],
        once: str = "",
    ) -> float:
        # Redis may do it and answer too late: repeated under the same name, it is done once.
        once = once or uuid.uuid4().hex

        def here() -> float:
            with self._switch:
                before = self._local.read_prices().get(name, start)
                self._moves.append((name, step, before, low, high, once))
                return self._local.move_price(name, step, start, low, high, once)

        def there() -> float:
            price = self._shared.move_price(name, step, start, low, high, once)
            self._local.set_prices({name: price})
            return price

        return self._either(there, here)

    def _note_set(self, names: Iterable[str]) -> None:
        with self._switch:
            self._set.update(names)

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        # Kept in memory, the records would reach nobody; whoever hands them over must know.
        self._shared.push_inbox(payloads)

    def take_inbox(self, most: int) -> list[bytes]:
        return self._either(lambda: self._shared.take_inbox(most), list)

    def ack_inbox(self) -> None:
        # Not dropped, they are taken once more, which changes nothing.
        self._either(self._shared.ack_inbox, lambda: None)

    def append_decision(self, fields: Mapping[str, str]) -> str:
        return self._either(
            lambda: self._shared.append_decision(fields),
            lambda: self._local.append_decision(fields),
        )

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._either(lambda: self._shared.decisions(n), lambda: self._local.decisions(n))

    def decision(self, identity: str) -> dict[str, str] | None:
        return self._either(
            lambda: self._shared.decision(identity), lambda: self._local.decision(identity)
        )

    def add_sums(self, additions: Sequence[PeriodSums]) -> None:
        self._either(
            lambda: self._shared.add_sums(additions), lambda: self._local.add_sums(additions)
        )

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        return self._either(lambda: self._shared.sums(periods), lambda: self._local.sums(periods))

    def append_event(self, fields: Mapping[str, str]) -> str:
        return self._either(
            lambda: self._shared.append_event(fields), lambda: self._local.append_event(fields)
        )

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        return self._either(lambda: self._shared.events(n), lambda: self._local.events(n))

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        return self._either(
            lambda: self._shared.swap_note(name, value, keep_s),
            lambda: self._local.swap_note(name, value, keep_s),
        )

    def notes(self, names: Sequence[str]) -> list[str | None]:
        return self._either(lambda: self._shared.notes(names), lambda: self._local.notes(names))

    def clock(self) -> float:
        return self._either(self._shared.clock, self._local.clock)

    def close(self) -> None:
        with self._switch:
            if self._closed:
                return
            self._closed = True
        self._heartbeat.stop()
        self._shared.close()
        self._local.close()
        atexit.unregister(self.close)

    def _either(self, shared: Callable[[], T], local: Callable[[], T]) -> T:
        """Ask Redis, or memory if Redis is away or fails just now."""
        self._check_open()
        if not self._degraded:
            try:
                return shared()
            except WorkloadError as error:
                self._lose(error)
        return local()

    def _check_open(self) -> None:
        if self._closed:
            raise WorkloadError("the workload store is closed")

    def _shares(self, limits: Mapping[str, int]) -> dict[str, int]:
        """This kernel's part of each limit, of the one that held last if that was smaller."""
        known, kernels = self._shared.limits, self.kernels
        smallest = {slot: min(limit, known.get(slot, limit)) for slot, limit in limits.items()}
        return {slot: min(limit, max(1, limit // kernels)) for slot, limit in smallest.items()}

    def _lose(self, error: WorkloadError) -> None:
        with self._switch:
            if self._degraded or self._closed:
                return
            self._degraded = True
        now = time.monotonic()
        level = logging.WARNING if now - self._warned >= WARN_AGAIN_S else logging.DEBUG
        self._warned = now
        log.log(level, "%s; lending 1/%d of each limit from memory", error, self.kernels)
        self._heartbeat.doubt()

    def _return(self) -> None:
        """Redis answered a heartbeat: tell it what it missed, then lean on it again."""
        if not self._degraded:
            return
        self._pay()
        with self._switch:
            self._degraded = False
        # What came up here since the heartbeat and the payment.
        self._shared.renew()
        self._pay()
        log.warning("Redis at %s answers again; limits are shared again", self._shared.place)

    def _pay(self) -> None:
        """Bring prices, decisions and sums to Redis; what fails is kept for the next time."""
        self._local.hand_over(self._shared)
        self._pay_prices()
        while (decision := self._local.take_decision()) is not None:
            try:
                self._shared.append_decision(decision)
            except WorkloadError:
                self._local.put_back(decision)
                raise

    def _pay_prices(self) -> None:
        with self._switch:
            anew, self._set = self._set, set()
            moves = [move for move in self._moves if move[0] not in anew]
            self._moves.clear()
        try:
            known = self._local.read_prices()
            self._shared.set_prices({name: known[name] for name in anew})
            anew = set()
            while moves:
                self._shared.move_price(*moves[0])
                del moves[0]
        finally:
            with self._switch:
                self._set |= anew
                self._moves.extendleft(reversed(moves))


def _chosen(leases: Sequence[Lease], granted: Sequence[bool]) -> list[Lease]:
    return [lease for lease, ok in zip(leases, granted, strict=True) if ok]
