"""Writes that are kept while Redis is away."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from aios_eccos.values import Lease, Used
from aios_eccos.workload.client import RefusedWrite
from aios_eccos.workload.periods import PeriodSums, together
from aios_eccos.workload.store import REMEMBERED_S, WorkloadStore

log = logging.getLogger("aios_eccos.workload.fallback")

#: Most writes kept, and most needs that are to be settled, about 50 MB; additions to sums do not
#: count, as they are added up.
WRITES_KEPT, SETTLES_KEPT = 10_000, 100_000
#: Needs that are settled in one request.
SETTLED_AT_ONCE = 500
#: Seconds for which a settled need may be lost again, by a replica that takes over.
LOST_S = 2.0
#: A store's method, and its arguments by place and by name.
Write = tuple[str, tuple[Any, ...], dict[str, Any]]


class Unsettled(NamedTuple):
    """What a request has taken; `tried`: when Redis was asked first to count it, None = not yet."""

    lease: Lease
    used: Used
    tried: float | None

    @property
    def late(self) -> bool:
        """Whether Redis, had it done it, may have forgotten that."""
        return self.tried is not None and time.monotonic() - self.tried > REMEMBERED_S / 2


class Backlog:
    """Keeps writes in their order, and repeats them under their names, so that none is done twice.

    Additions to sums that Redis was not asked for yet are added up, to be one write. What is to be
    settled is kept by itself: of all writes it goes last, as money would stay held without it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: deque[Write] = deque()
        self._unsettled: dict[str, Unsettled] = {}
        self._sums: list[PeriodSums] = []
        #: What Redis has counted last, and when.
        self._settled: deque[tuple[float, Sequence[tuple[Lease, Used]]]] = deque(
            maxlen=SETTLED_AT_ONCE
        )
        self._dropped = 0

    def keep(self, write: Write, *, tried: bool) -> None:
        """Keep a write; `tried`: Redis was asked for it, and may have done it."""
        name, args, _ = write
        with self._lock:
            if name == "settle":
                self._keep_settled(args[0], time.monotonic() if tried else None)
                return
            if name == "add_sums" and not tried:
                self._sums = together([*self._sums, *args[0]])
                return
            self._writes.append(write)
            if len(self._writes) > WRITES_KEPT:
                self._writes.popleft()
                self._dropped += 1

    def note_settled(self, used: Sequence[tuple[Lease, Used]]) -> None:
        """Redis has counted this."""
        self._settled.append((time.monotonic(), used))

    def doubt_settled(self) -> None:
        """Redis is lost: tell again what it counted last, which its replica may not know."""
        with self._lock:
            while self._settled:
                tried, used = self._settled.popleft()
                if tried > time.monotonic() - LOST_S:
                    self._keep_settled(used, tried)

    def _keep_settled(self, used: Sequence[tuple[Lease, Used]], tried: float | None) -> None:
        for lease, real in used:
            if lease.need is not None:
                self._unsettled.setdefault(lease.need.id, Unsettled(lease, real, tried))
        while len(self._unsettled) > SETTLES_KEPT:
            del self._unsettled[next(iter(self._unsettled))]
            self._dropped += 1

    def replay(self, store: WorkloadStore) -> None:
        """Do the writes on a store; what it cannot do now stays, what it refuses is dropped."""
        while (write := self._next()) is not None:
            name, args, kwargs = write
            try:
                getattr(store, name)(*args, **kwargs)
            except RefusedWrite as error:
                log.warning("dropped what Redis refuses for good: %s", error)
            except Exception:  # whatever it was: what is to be settled must not be lost
                self._put_back(write)
                raise
        if self._dropped:
            log.warning("%d writes were dropped while Redis was away", self._dropped)
            self._dropped = 0

    def _put_back(self, write: Write) -> None:
        name, args, kwargs = write
        with self._lock:
            if name != "settle":
                self._writes.appendleft(write)
                return
            now = time.monotonic()
            tried = now - REMEMBERED_S if kwargs["late"] else now
            self._keep_settled(args[0], tried)

    def _next(self) -> Write | None:
        with self._lock:
            if self._unsettled:
                return self._settling()
            if self._writes:
                return self._writes.popleft()
            if not self._sums:
                return None
            additions, self._sums = self._sums, []
            return "add_sums", (additions,), {"once": uuid.uuid4().hex}

    def _settling(self) -> Write:
        """The first needs, all late or none."""
        late = next(iter(self._unsettled.values())).late
        alike = (name for name, each in self._unsettled.items() if each.late == late)
        found = [self._unsettled.pop(name) for name in [*islice(alike, SETTLED_AT_ONCE)]]
        return "settle", ([(each.lease, each.used) for each in found],), {"late": late}
