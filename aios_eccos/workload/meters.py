"""Requests, tokens and money as one process counts them: without Redis, and for when it is lost."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from aios_eccos.values import Cap, Lease, Need, Rates, Spent, Used
from aios_eccos.values.need import NANO
from aios_eccos.workload.store import WINDOW_S, Load

#: Seconds for which kernels count that Redis no longer knows.
KERNELS_S = 60.0
#: Seconds before Redis was lost within which the most slots in use count.
USE_S = 2.0
#: Needs that are known to be settled.
SETTLED_KEPT = 100_000


class Minute:
    """Requests and tokens of one slot within the last `WINDOW_S` seconds, by the second."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[int, int]] = {}
        self.requests = self.tokens = 0

    def count(self, second: int, requests: int, tokens: int) -> None:
        """Add to a second."""
        asked, told = self._seconds.get(second, (0, 0))
        self._seconds[second] = asked + requests, told + tokens
        self.requests += requests
        self.tokens += tokens

    def drop(self, now: float) -> None:
        """Forget what is older than a minute."""
        for second in [each for each in self._seconds if each <= now - WINDOW_S]:
            asked, told = self._seconds.pop(second)
            self.requests -= asked
            self.tokens -= told

    def counts(self, second: int) -> bool:
        """Whether something of that second counts still."""
        return second in self._seconds

    def opens_s(self, now: float) -> float:
        """Seconds until the oldest comes back; 0 = there is nothing."""
        first = min((each for each, taken in self._seconds.items() if any(taken)), default=None)
        return 0.0 if first is None else first + WINDOW_S - now


class Meters:
    """What requests have taken of rates and caps; as acquire.lua and settle.lua count it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._minutes: dict[str, Minute] = {}
        #: Billionths of a dollar by cap: spent, held, beyond what was held.
        self._money: dict[str, list[int]] = {}
        self._charged: dict[str, int] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()

    def take(
        self, group: Sequence[Lease], rates: Mapping[str, Rates], left: Callable[[Cap], int]
    ) -> bool:
        """Reserve what all leases of a group need, if there is enough for them together.

        Args:
            left: billionths of a dollar that may be taken of a cap.
        """
        with self._lock:
            asked, told, paid = Counter[str](), Counter[str](), Counter[Cap]()
            for lease in group:
                need = lease.need or Need()
                asked[lease.slot] += 1
                told[lease.slot] += need.tokens
                paid.update(dict.fromkeys(need.caps, need.nano))
            fits = all(
                self._rate_fits(slot, rates.get(slot, Rates()), asked[slot], told[slot])
                for slot in asked
            ) and all(
                not nano or sum(self._money.get(cap.key, ())[:2]) + nano <= left(cap)
                for cap, nano in paid.items()
            )
            for lease in group if fits else ():
                self._charge(lease)
            return fits

    def _rate_fits(self, slot: str, rates: Rates, asked: int, told: int) -> bool:
        minute = self._minute(slot)
        requests = rates.rpm is None or minute.requests + asked <= rates.rpm
        return requests and (rates.tpm is None or not told or minute.tokens + told <= rates.tpm)

    def _charge(self, lease: Lease) -> None:
        need = lease.need
        if need is None or need.id in self._charged or need.id in self._settled:
            return
        second = self._charged[need.id] = int(time.time())
        self._minute(lease.slot).count(second, 1, need.tokens)
        for cap in need.caps:
            self._money.setdefault(cap.key, [0, 0, 0])[1] += need.nano

    def settle(self, used: Sequence[tuple[Lease, Used]]) -> None:
        """Count what requests have really taken instead of their needs; once for each need."""
        with self._lock:
            for lease, real in used:
                if lease.need is not None and lease.need.id not in self._settled:
                    self._settle(lease.slot, lease.need, real)
            while len(self._settled) > SETTLED_KEPT:
                self._settled.popitem(last=False)

    def _settle(self, slot: str, need: Need, real: Used) -> None:
        self._settled[need.id] = None
        minute, now = self._minute(slot), int(time.time())
        charged = self._charged.pop(need.id, None)
        if charged is None:
            minute.count(now, real.requests, real.tokens)
        else:
            if minute.counts(charged):
                minute.count(charged, real.requests - 1, -need.tokens)
            minute.count(now, 0, real.tokens)
        for cap in need.caps:
            money = self._money.setdefault(cap.key, [0, 0, 0])
            money[0] += real.nano
            money[2] += max(real.nano - need.nano, 0)
            if charged is not None:
                money[1] -= need.nano

    def _minute(self, slot: str) -> Minute:
        minute = self._minutes.setdefault(slot, Minute())
        minute.drop(time.time())
        return minute

    def measured(self, slot: str, load: Load) -> Load:
        """A slot's load with what is counted here, where its rates are limited."""
        with self._lock:
            if load.rates == Rates():
                return load
            minute = self._minute(slot)
            opens_s = minute.opens_s(time.time())
            return replace(load, requests=minute.requests, tokens=minute.tokens, opens_s=opens_s)

    def spent(self, caps: Sequence[Cap], left: Callable[[Cap], int]) -> list[Spent]:
        """What is spent under each cap; so is what may not be taken of it here, as in `take`."""
        with self._lock:
            return [self._spent(cap, cap.nano - left(cap)) for cap in caps]

    def _spent(self, cap: Cap, gone: int) -> Spent:
        spent, *others = self._money.get(cap.key, (0, 0, 0))
        return Spent(*(amount / NANO for amount in (gone + spent, *others)))

    def forget(self) -> None:
        """Count from nothing: another store has what was counted here."""
        with self._lock:
            self._minutes.clear()
            self._money.clear()
            self._charged.clear()


class Peak:
    """The largest number noted within some seconds before the last note."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: Moments and numbers, each larger than all after it.
        self._notes: deque[tuple[float, int]] = deque()
        self.noted_at = -math.inf

    def note(self, number: int) -> None:
        """It is so many now."""
        with suppress(IndexError):  # other threads note, too
            while self._notes and self._notes[-1][1] <= number:
                self._notes.pop()
            self.noted_at = now = time.monotonic()
            self._notes.append((now, number))
            while self._notes[0][0] < now - self._seconds:
                self._notes.popleft()

    @property
    def most(self) -> int:
        """The largest; 0 where none was noted."""
        notes = self._notes
        return notes[0][1] if notes else 0


class Taken:
    """What all kernels had taken at Redis' last answers, and the rates that held then.

    Attributes:
        kernels: the most known of late. One that Redis has not heard of for a lifetime of leases
            may be held up and go on: it still counts.
        ranks: the last place of this kernel among them of late, so that it is not that of another.
    """

    def __init__(self) -> None:
        self.kernels, self.ranks = Peak(KERNELS_S), Peak(KERNELS_S)
        self._use: dict[str, Peak] = {}
        self._minutes: dict[str, tuple[Rates, int, int, float]] = {}
        self._money: dict[str, int] = {}

    def note_use(self, in_use: Mapping[str, int]) -> None:
        """Redis says how many slots are lent, by all."""
        for slot, number in in_use.items():
            self._use.setdefault(slot, Peak(USE_S)).note(number)

    def free(self, slot: str, limit: int, at: float) -> int:
        """Slots that nobody had at a moment; 0 where that is not known."""
        use = self._use.get(slot)
        if use is None or use.noted_at < at - USE_S:
            return 0
        return max(limit - use.most, 0)

    def note_minute(self, slot: str, rates: Rates, requests: int, tokens: int) -> None:
        """Redis says what holds for a slot, and what the last minute has taken."""
        self._minutes[slot] = rates, requests, tokens, time.monotonic()

    def note_money(self, gone: Mapping[Cap, int]) -> None:
        """Redis says what is gone of caps, in billionths of a dollar."""
        self._money.update((cap.key, nano) for cap, nano in gone.items())

    def share(self, slot: str, rates: Rates, kernels: int, rank: int) -> Rates:
        """One kernel's share of a slot's rates while Redis is away."""
        known, requests, tokens, since = self._minutes.get(slot, (rates, 0, 0, 0.0))
        if time.monotonic() - since > WINDOW_S:
            requests = tokens = 0
        rpm, tpm = _smaller(rates.rpm, known.rpm), _smaller(rates.tpm, known.tpm)
        return Rates(
            None if rpm is None else part(rpm - requests, kernels, rank),
            None if tpm is None else part(tpm - tokens, kernels, rank),
        )

    def left(self, cap: Cap, kernels: int, rank: int) -> int:
        """One kernel's share, in billionths, of what was left of a cap when Redis was lost."""
        return part(cap.nano - self._money.get(cap.key, 0), kernels, rank)


def part(whole: int, kernels: int, rank: int) -> int:
    """The share of the kernel at a place among others; all shares make up the whole."""
    whole = max(whole, 0)
    return whole // kernels + (rank < whole % kernels)


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)
