"""A workload store inside one process: the fake for tests, and what is left without Redis."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, TypeVar

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Cap, Lease, Rates, Spent, Used
from aios_eccos.workload.expiring import Expiring, Rests
from aios_eccos.workload.leases import LeaseBook
from aios_eccos.workload.meters import Meters
from aios_eccos.workload.notify import Notifier
from aios_eccos.workload.periods import PeriodSums, total_of
from aios_eccos.workload.store import (
    ASIDE_KEPT,
    DECISIONS_KEPT,
    EVENTS_KEPT,
    NO_RATES,
    PRICE_RANGE,
    REMEMBERED_S,
    TAKEN_BYTES,
    Declares,
    Ends,
    Load,
    check_limits,
    check_move,
    check_price,
    check_sizes,
    rest_of,
)

T = TypeVar("T")
Fields = dict[str, str]


class MemoryWorkload:
    """Everything in plain dictionaries under one lock; leases end with this process.

    Leases and waiters may be those of another store, whose place this one takes.

    Args:
        left: billionths of a dollar that may be taken of a cap.
    """

    degraded, kernels = False, 1

    def __init__(
        self,
        leases: LeaseBook | None = None,
        notifier: Notifier | None = None,
        left: Callable[[Cap], int] = attrgetter("nano"),
    ) -> None:
        self._lock = threading.Lock()
        self._left = left
        self.meters = Meters()
        self._closed = False
        self._notifier = notifier or Notifier()
        self._leases = leases or LeaseBook()
        self._cool, self._closed_slots = Rests(), Rests()
        self._prices: dict[str, float] = {}
        self._inbox: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._aside: deque[bytes] = deque(maxlen=ASIDE_KEPT)
        self._decisions: deque[tuple[str, Fields]] = deque(maxlen=DECISIONS_KEPT)
        self._events: deque[tuple[str, Fields]] = deque(maxlen=EVENTS_KEPT)
        self._last_id = (0, 0)
        self._sums: Expiring[dict[str, float]] = Expiring()
        self._notes: Expiring[str] = Expiring()
        self._done: Expiring[Any] = Expiring()

    def acquire(
        self,
        leases: Sequence[Lease],
        limits: Mapping[str, int],
        rates: Mapping[str, Rates] = NO_RATES,
    ) -> list[bool]:
        check_limits(leases, limits)

        def take(group: Sequence[Lease]) -> bool:
            shut = any(self._closed_slots.left_s(lease.slot) for lease in group)
            return not shut and self.meters.take(group, rates, self._left)

        with self._open():
            calls = groupby(leases, key=attrgetter("call_id"))
            lent = (self._leases.lend([*group], limits, take) for _, group in calls)
            return [*chain.from_iterable(lent)]

    def recall(self, declared: Declares, calls: int) -> dict[str, Load] | None:
        return None  # asking takes no longer

    def settle(self, used: Sequence[tuple[Lease, Used]]) -> None:
        self.meters.settle(used)

    def spent(self, caps: Sequence[Cap]) -> list[Spent]:
        with self._open():
            return self.meters.spent(caps, self._left)

    def release(self, leases: Sequence[Lease]) -> None:
        if self._leases.drop(leases):
            self._notifier.notify()

    def renew(self) -> None:
        with self._open():
            pass

    def loads(
        self, limits: Mapping[str, int], rates: Mapping[str, Rates] = NO_RATES
    ) -> dict[str, Load]:
        with self._open():
            return {
                slot: self.meters.measured(
                    slot,
                    Load(
                        self._leases.in_use(slot),
                        limit,
                        self._cool.left_s(slot),
                        rates.get(slot, Rates()),
                        closed_s=self._closed_slots.left_s(slot),
                    ),
                )
                for slot, limit in limits.items()
            }

    def cool_down(self, slot: str, seconds: float, *, closed: bool = False) -> None:
        with self._open():
            seconds = rest_of(seconds)
            self._cool.rest(slot, seconds)
            if closed or seconds == 0:
                self._closed_slots.rest(slot, seconds)

    def cooling(self) -> dict[str, tuple[float, bool]]:
        """The slots that rest, for how many seconds more, and whether they are closed."""
        with self._open():
            left_s = self._closed_slots.left_s
            return {slot: (rest, left_s(slot) > 0) for slot, rest in self._cool.all().items()}

    def on_release(self, callback: Callable[[], None]) -> None:
        self._notifier.add(callback)

    def read_prices(self, age_s: float = 0.0) -> dict[str, float]:
        with self._open():
            return dict(self._prices)

    def set_prices(self, prices: Mapping[str, float]) -> None:
        for value in prices.values():
            check_price(value)
        with self._open():
            self._prices.update(prices)

    def put_prices(self, prices: Mapping[str, float]) -> None:
        """Have these prices and no others."""
        with self._open():
            self._prices = dict(prices)

    def move_price(
        self, name: str, step: float, start: float, ends: Ends = PRICE_RANGE, *, once: str = ""
    ) -> float:
        check_move(step, start, ends)

        def move() -> float:
            price = self._prices.get(name, start)
            target = price * math.exp(min(step, math.log(PRICE_RANGE[1])))
            if step > 0 and price < ends[1]:
                price = min(target, ends[1])
            elif step < 0 and price > ends[0]:
                price = max(target, ends[0])
            self._prices[name] = price
            return price

        return self._once(once and f"{name}:{once}", move)

    def push_inbox(self, payloads: Sequence[bytes], *, once: str = "") -> None:
        check_sizes(payloads)
        self._once(once, lambda: self._inbox.extend(payloads))

    def take_inbox(self, most: int) -> list[bytes]:
        with self._open():
            if not self._taken:
                left = TAKEN_BYTES
                while self._inbox and len(self._taken) < most:
                    left -= len(self._inbox[0])
                    if self._taken and left < 0:
                        break
                    self._taken.append(self._inbox.popleft())
            return list(self._taken)

    def ack_inbox(self) -> None:
        with self._open():
            self._taken = []

    def set_aside(self, payloads: Sequence[bytes]) -> None:
        with self._open():
            self._aside.extend(payloads)

    def inbox_sizes(self) -> tuple[int, int]:
        with self._open():
            return len(self._inbox) + len(self._taken), len(self._aside)

    def append_decision(self, fields: Mapping[str, str], *, once: str = "") -> str:
        return self._once(once, lambda: self._append(self._decisions, fields))

    def decisions(self, n: int) -> list[tuple[str, Fields]]:
        return self._newest(self._decisions, n)

    def decision(self, identity: str) -> Fields | None:
        with self._open():
            return next((dict(fields) for i, fields in self._decisions if i == identity), None)

    def append_event(self, fields: Mapping[str, str], *, once: str = "") -> str:
        return self._once(once, lambda: self._append(self._events, fields))

    def events(self, n: int) -> list[tuple[str, Fields]]:
        return self._newest(self._events, n)

    def _append(self, stream: deque[tuple[str, Fields]], fields: Mapping[str, str]) -> str:
        now_ms = int(time.time() * 1000)
        last_ms, last_n = self._last_id
        self._last_id = (now_ms, 0) if now_ms > last_ms else (last_ms, last_n + 1)
        identity = f"{self._last_id[0]}-{self._last_id[1]}"
        stream.append((identity, dict(fields)))
        return identity

    def _newest(self, stream: deque[tuple[str, Fields]], n: int) -> list[tuple[str, Fields]]:
        with self._open():
            return [(i, dict(fields)) for i, fields in list(stream)[::-1][: max(n, 0)]]

    def add_sums(self, additions: Sequence[PeriodSums], *, once: str = "") -> None:
        def add() -> None:
            for each in additions:
                sums = total_of([self._sums.get(each.period) or {}, each.amounts])
                self._sums.put(each.period, sums, each.keep_s)

        self._once(once, add)

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        with self._open():
            return [dict(self._sums.get(period) or {}) for period in periods]

    def swap_note(
        self, name: str, value: str, keep_s: float = 0.0, *, once: str = ""
    ) -> str | None:
        def swap() -> str | None:
            before = self._notes.get(name)
            self._notes.put(name, value, keep_s)
            return before

        return self._once(once, swap)

    def change_note(self, name: str, known: str | None, value: str, *, once: str = "") -> bool:
        def change() -> bool:
            if self._notes.get(name) != known:
                return False
            self._notes.put(name, value, 0.0)
            return True

        return self._once(once, change)

    def notes(self, names: Sequence[str]) -> list[str | None]:
        with self._open():
            return [self._notes.get(name) for name in names]

    def clock(self) -> float:
        with self._open():
            return time.time()

    def warnings(self) -> list[str]:
        return []

    def forget_ledger(self) -> None:
        """Drop decisions, sums, events and notes: another store has them now."""
        with self._lock:
            for each in (self._decisions, self._events, self._sums, self._notes):
                each.clear()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._leases.clear()
        self._notifier.close()

    def _open(self) -> threading.Lock:
        if self._closed:
            raise WorkloadError("the workload store is closed")
        return self._lock

    def _once(self, name: str, write: Callable[[], T]) -> T:
        """Do a write under the lock, unless one of that name was done lately."""
        with self._open():
            done = self._done.get(name)
            answer: T = write() if done is None else done[0]
            if name:
                self._done.put(name, (answer,), REMEMBERED_S)
            return answer
