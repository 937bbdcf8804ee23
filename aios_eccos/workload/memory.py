"""A workload store inside one process: the fake for tests, and what is left without Redis."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.ledger import MemoryLedger
from aios_eccos.workload.notify import Notifier
from aios_eccos.workload.store import PRICE_RANGE, REMEMBERED_S, Load, check_limits, moved

DECISIONS_KEPT = 10_000


class MemoryWorkload(MemoryLedger):
    """Slots, prices, inbox and decisions in plain dictionaries under one lock.

    Leases do not expire: their holder is this process, and they end with it.

    Args:
        notifier: shared with another store, if waiters of both are the same.
        decisions_kept: most decisions kept.
    """

    degraded = False
    kernels = 1

    def __init__(
        self, notifier: Notifier | None = None, decisions_kept: int = DECISIONS_KEPT
    ) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._notifier = notifier or Notifier()
        self._held: dict[str, set[str]] = {}
        self._cool_until: dict[str, float] = {}
        self._prices: dict[str, float] = {}
        # Named moves, oldest first: when it was, and the price that it led to.
        self._moves: dict[tuple[str, str], tuple[float, float]] = {}
        self._inbox: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._decisions: deque[tuple[str, dict[str, str]]] = deque(maxlen=decisions_kept)
        self._last_id = (0, 0)
        self._closed = False

    def acquire(self, leases: Sequence[Lease], limits: Mapping[str, int]) -> list[bool]:
        check_limits(leases, limits)
        with self._open():
            return [self._grant(lease, limits[lease.slot]) for lease in leases]

    def _grant(self, lease: Lease, limit: int) -> bool:
        held = self._held.setdefault(lease.slot, set())
        if lease.call_id in held:
            return True
        if len(held) >= limit:
            return False
        held.add(lease.call_id)
        return True

    def release(self, leases: Sequence[Lease]) -> None:
        if self.forget(leases):
            self._notifier.notify()

    def adopt(self, leases: Sequence[Lease]) -> None:
        """Count leases that another store granted, whatever the limit."""
        with self._lock:
            for lease in leases:
                self._held.setdefault(lease.slot, set()).add(lease.call_id)

    def forget(self, leases: Sequence[Lease]) -> int:
        """Stop counting leases without waking anyone; returns how many there were."""
        found = 0
        with self._lock:
            for lease in leases:
                held = self._held.get(lease.slot, set())
                found += lease.call_id in held
                held.discard(lease.call_id)
        return found

    def renew(self) -> None:
        with self._open():
            pass

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        with self._open():
            return {
                slot: Load(len(self._held.get(slot, ())), limit, self._cooling_s(slot))
                for slot, limit in limits.items()
            }

    def cool_down(self, slot: str, seconds: float) -> None:
        with self._open():
            if seconds <= 0:
                self._cool_until.pop(slot, None)
                return
            until = time.monotonic() + seconds
            self._cool_until[slot] = max(until, self._cool_until.get(slot, until))

    def _cooling_s(self, slot: str) -> float:
        return max(0.0, self._cool_until.get(slot, 0.0) - time.monotonic())

    def on_release(self, callback: Callable[[], None]) -> None:
        self._notifier.add(callback)

    def read_prices(self) -> dict[str, float]:
        with self._open():
            return dict(self._prices)

    def set_prices(self, prices: Mapping[str, float]) -> None:
        for value in prices.values():
            check_price(value)
        with self._open():
            self._prices.update(prices)

    def move_price(
        self,
        name: str,
        step: float,
        start: float,
        low: float = PRICE_RANGE[0],
        high: float = PRICE_RANGE[1],
        once: str = "",
    ) -> float:
        check_move(step, start, low, high)
        with self._open():
            now = time.monotonic()
            while self._moves and next(iter(self._moves.values()))[0] < now - REMEMBERED_S:
                del self._moves[next(iter(self._moves))]
            if (name, once) in self._moves:
                return self._moves[name, once][1]
            price = self._prices[name] = moved(self._prices.get(name, start), step, low, high)
            if once:
                self._moves[name, once] = (now, price)
            return price

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        with self._open():
            self._inbox.extend(payloads)

    def take_inbox(self, most: int) -> list[bytes]:
        with self._open():
            if not self._taken:
                count = min(most, len(self._inbox))
                self._taken = [self._inbox.popleft() for _ in range(count)]
            return list(self._taken)

    def ack_inbox(self) -> None:
        with self._open():
            self._taken = []

    def append_decision(self, fields: Mapping[str, str]) -> str:
        with self._open():
            now_ms = int(time.time() * 1000)
            last_ms, last_n = self._last_id
            self._last_id = (now_ms, 0) if now_ms > last_ms else (last_ms, last_n + 1)
            identity = f"{self._last_id[0]}-{self._last_id[1]}"
            self._decisions.append((identity, dict(fields)))
            return identity

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        with self._open():
            newest = list(self._decisions)[::-1][:n]
            return [(identity, dict(fields)) for identity, fields in newest]

    def decision(self, identity: str) -> dict[str, str] | None:
        with self._open():
            found = (fields for i, fields in self._decisions if i == identity)
            return next((dict(fields) for fields in found), None)

    def take_decision(self) -> dict[str, str] | None:
        """Take out the oldest decision, if there is one."""
        with self._lock:
            return self._decisions.popleft()[1] if self._decisions else None

    def put_back(self, decision: dict[str, str]) -> None:
        """Undo `take_decision`; if so many came meanwhile that it no longer fits, it is lost."""
        with self._lock:
            if len(self._decisions) != self._decisions.maxlen:
                self._decisions.appendleft(("0-0", decision))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._held.clear()
        self._notifier.close()

    def _open(self) -> threading.Lock:
        if self._closed:
            raise WorkloadError("the workload store is closed")
        return self._lock


def check_price(value: float) -> None:
    """Refuse a price that is not a positive number in range."""
    low, high = PRICE_RANGE
    if not low <= value <= high:
        raise ValueError(f"a price must be between {low} and {high}, not {value}")


def check_move(step: float, start: float, low: float, high: float) -> None:
    """Refuse prices that are none, and a step that is not a finite number."""
    for price in (start, low, high):
        check_price(price)
    if not math.isfinite(step):
        raise ValueError(f"a price cannot move by {step}")
