"""What kernels remember together beside their load: sums by period, events, and short notes."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aios_eccos.errors import WorkloadError

EVENTS_KEPT = 1_000
#: Periods and notes in memory above which those that have run out are looked for.
TIDY_ABOVE = 500


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """Amounts to add to the sums of one period.

    Attributes:
        period: its name; the caller's own scheme.
        keep_s: seconds after the last addition until the period's sums are dropped; 0 = never.
        amounts: finite numbers by name of the sum.
    """

    period: str
    keep_s: float
    amounts: Mapping[str, float]


class Ledger(Protocol):
    """Sums, events and notes; raises as a `WorkloadStore` does."""

    def add_sums(self, additions: Sequence[PeriodSums]) -> None:
        """Add to the sums of several periods, atomically and in one round trip.

        Raises:
            ValueError: an amount is not finite.
        """
        ...

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        """The sums of each period, empty where there are none, in one round trip."""
        ...

    def decision(self, identity: str) -> dict[str, str] | None:
        """One decision by its id; None if it is not, or no longer, kept."""
        ...

    def append_event(self, fields: Mapping[str, str]) -> str:
        """Add to the capped stream of events; returns its id."""
        ...

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` events with their ids, newest first."""
        ...

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        """Set a note for `keep_s` seconds (0 = for good) and return what stood there before."""
        ...

    def notes(self, names: Sequence[str]) -> list[str | None]:
        """The notes of these names, None where there is none."""
        ...

    def clock(self) -> float:
        """The ledger's own time, seconds since the epoch."""
        ...


def check_amounts(additions: Sequence[PeriodSums]) -> None:
    """Refuse amounts that would spoil a sum for ever."""
    for each in additions:
        for name, amount in each.amounts.items():
            if not math.isfinite(amount):
                raise ValueError(f"cannot add {amount} to {name!r}")


class MemoryLedger:
    """Sums, events and notes of one process."""

    _closed = False

    def __init__(self) -> None:
        self._ledger_lock = threading.Lock()
        self._sums: dict[str, tuple[float, float, dict[str, float]]] = {}
        self._events: deque[tuple[str, dict[str, str]]] = deque(maxlen=EVENTS_KEPT)
        self._notes: dict[str, tuple[float, float, str]] = {}
        self._event_count = 0

    def add_sums(self, additions: Sequence[PeriodSums]) -> None:
        check_amounts(additions)
        now = time.monotonic()
        with self._ledger:
            if len(self._sums) > TIDY_ABOVE:
                self._sums = {k: kept for k, kept in self._sums.items() if kept[0] > now}
            for each in additions:
                _, _, sums = self._kept(each.period, now)
                for name, amount in each.amounts.items():
                    sums[name] = sums.get(name, 0.0) + amount
                self._sums[each.period] = (_end(now, each.keep_s), each.keep_s, sums)

    @property
    def _ledger(self) -> threading.Lock:
        if self._closed:
            raise WorkloadError("the workload store is closed")
        return self._ledger_lock

    def _kept(self, period: str, now: float) -> tuple[float, float, dict[str, float]]:
        found = self._sums.get(period)
        return found if found is not None and found[0] > now else (now, 0.0, {})

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        now = time.monotonic()
        with self._ledger:
            return [dict(self._kept(period, now)[2]) for period in periods]

    def append_event(self, fields: Mapping[str, str]) -> str:
        with self._ledger:
            self._event_count += 1
            identity = f"{int(time.time() * 1000)}-{self._event_count}"
            self._events.append((identity, dict(fields)))
            return identity

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        with self._ledger:
            return [(i, dict(fields)) for i, fields in list(self._events)[::-1][: max(n, 0)]]

    def swap_note(self, name: str, value: str, keep_s: float = 0.0) -> str | None:
        now = time.monotonic()
        with self._ledger:
            if len(self._notes) > TIDY_ABOVE:
                self._notes = {k: kept for k, kept in self._notes.items() if kept[0] > now}
            before = self._notes.get(name)
            self._notes[name] = (_end(now, keep_s), keep_s, value)
        return before[2] if before is not None and before[0] > now else None

    def notes(self, names: Sequence[str]) -> list[str | None]:
        now = time.monotonic()
        with self._ledger:
            found = [self._notes.get(name) for name in names]
        return [kept[2] if kept is not None and kept[0] > now else None for kept in found]

    def clock(self) -> float:
        with self._ledger:
            return time.time()

    def hand_over(self, target: Ledger) -> None:
        """Move everything to another ledger; what it does not take stays here.

        Raises:
            WorkloadError: the other cannot be used just now.
        """
        with self._ledger:
            sums, self._sums = self._sums, {}
            notes, self._notes = self._notes, {}
            events = list(self._events)
            self._events.clear()
        additions = [PeriodSums(period, keep_s, s) for period, (_, keep_s, s) in sums.items()]
        try:
            if additions:
                target.add_sums(additions)
                additions = []
            while notes:
                name = next(iter(notes))
                target.swap_note(name, notes[name][2], notes[name][1])
                del notes[name]
            while events:
                target.append_event(events[0][1])
                del events[0]
        finally:
            self.add_sums(additions)
            with self._ledger:
                self._notes = {**notes, **self._notes}
                self._events.extendleft(reversed(events))


def _end(now: float, keep_s: float) -> float:
    return now + keep_s if keep_s > 0 else math.inf
