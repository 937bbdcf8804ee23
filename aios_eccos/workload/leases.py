"""Which slots this process holds, and which of them Redis counts as its own."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from aios_eccos.values import Lease, Need, Used


class LeaseBook:
    """The leases of one process.

    *Held* leases are lent to calls. *Owed* ones are held no longer, but Redis may count them until
    it is told or they expire. *Counted* ones are those that Redis surely counts as this kernel's:
    as long as Redis cannot be reached, no other kernel can have their slots.

    Args:
        ttl_s: seconds after which Redis drops a lease that nobody renews.
        longest_s: seconds that the longest call takes; a lease that is older has lost its call.
    """

    def __init__(self, ttl_s: float = math.inf, longest_s: float = math.inf) -> None:
        self.ttl_s = ttl_s
        self._longest_s = longest_s
        self._lock = threading.RLock()
        #: Since when each is held, and until when each may still be counted.
        self._held: dict[Lease, float] = {}
        self._owed: dict[Lease, float] = {}
        self._counted: set[Lease] = set()
        #: When Redis drops the first of those that it counts.
        self.counted_until = -math.inf

    def lend(
        self,
        group: Sequence[Lease],
        caps: Mapping[str, int],
        take: Callable[[Sequence[Lease]], bool] = bool,
    ) -> list[bool]:
        """Lend without Redis to one call, all or nothing, up to each slot's cap.

        `take`: takes what the leases need beside their slots, if there is enough.
        """
        with self._lock:
            new = list(dict.fromkeys(lease for lease in group if lease not in self._held))
            wanted = Counter(lease.slot for lease in new)
            room = all(self.in_use(slot) + n <= caps[slot] for slot, n in wanted.items())
            if new and room and take(new):
                for lease in new:
                    self._held[lease] = time.monotonic()
                    self._owed.pop(lease, None)
            return [lease in self._held for lease in group]

    def in_use(self, slot: str) -> int:
        """How many leases of a slot are held."""
        with self._lock:
            return sum(lease.slot == slot for lease in self._held)

    def credit(self, slot: str) -> int:
        """How many leases of a slot no other kernel can have before `counted_until`."""
        with self._lock:
            return sum(lease.slot == slot for lease in self._counted)

    def drop(self, leases: Iterable[Lease], *, told: bool = False) -> list[Lease]:
        """Hold leases no longer; returns those that were held. `told`: Redis is told of it now."""
        end, found = time.monotonic() + self.ttl_s, list[Lease]()
        with self._lock:
            for lease in leases:
                found += [lease] if self._held.pop(lease, None) is not None else []
                self._owed[lease] = end
                if told:
                    self._counted.discard(lease)
        return found

    def settle(self, leases: Iterable[Lease]) -> None:
        """Redis has heard that these are given back."""
        with self._lock:
            for lease in leases:
                self._owed.pop(lease, None)

    def grant(self, leases: Iterable[Lease], asked_at: float) -> None:
        """Redis has lent these; it was asked at `asked_at`, seconds of the monotonic clock."""
        with self._lock:
            for lease in leases:
                self._held.setdefault(lease, asked_at)
                self._owed.pop(lease, None)
                self._counted.add(lease)
            if self.counted_until == -math.inf:
                self.counted_until = asked_at + self.ttl_s

    def doubt(self, leases: Iterable[Lease]) -> None:
        """Redis was asked for these and did not answer: it may have lent those not held already."""
        end = time.monotonic() + self.ttl_s
        with self._lock:
            self._owed.update((lease, end) for lease in leases if lease not in self._held)

    def heartbeat(self) -> tuple[set[Lease], set[Lease], set[Lease]]:
        """What to tell Redis: leases held, leases owed, and which of the latter lost their call."""
        now = time.monotonic()
        with self._lock:
            lost = {lease for lease, since in self._held.items() if since + self._longest_s < now}
            for lease in lost:
                del self._held[lease]
            self._owed = {lease: end for lease, end in self._owed.items() if end > now}
            self._owed |= dict.fromkeys(lost, now + self.ttl_s)
            self._counted = self._counted_anyway()
            return set(self._held), set(self._owed), lost

    def _counted_anyway(self) -> set[Lease]:
        """Leases that are counted whether Redis hears a heartbeat or does not.

        By their number, as which of them these are matters to nobody: if it hears that, it counts
        those held, else those that it has counted before.
        """
        rest = Counter(lease.slot for lease in self._counted - self._held.keys())
        found = self._counted & self._held.keys()
        for lease in self._held.keys() - found:
            if rest[lease.slot] > 0:
                rest[lease.slot] -= 1
                found.add(lease)
        return found

    def heard(
        self, held: set[Lease], owed: set[Lease], asked_at: float
    ) -> tuple[set[Lease], set[Lease]]:
        """Redis has heard a heartbeat; returns what other threads took and gave back meanwhile.

        The heartbeat must not have the last word on those: Redis is to be told of them.
        """
        with self._lock:
            for lease in owed - self._held.keys():
                self._owed.pop(lease, None)
            # What was lent without Redis meanwhile is counted by the place of what was given back.
            lent = self._held.keys() - held - self._counted
            retaken, released = owed & self._held.keys() | lent, held - self._held.keys()
            self._counted -= released
            self._counted |= (held | retaken) & self._held.keys()
            self.counted_until = asked_at + self.ttl_s
        return retaken, released

    def clear(self) -> set[Lease]:
        """Hold nothing any more; returns what was held."""
        with self._lock:
            held, self._held = set(self._held), {}
        return held


def taken_in_full(lease: Lease) -> tuple[Lease, Used]:
    """What a call has taken of which nobody will say it: all that it needed."""
    need = lease.need or Need()
    return lease, Used(tokens=need.tokens, usd=need.usd)
