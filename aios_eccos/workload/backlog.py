"""Writes that are kept while Redis is away."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.client import RefusedWrite
from aios_eccos.workload.periods import PeriodSums, total_of
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.workload.fallback")

#: Most writes kept; additions to sums do not count, as they are added up.
WRITES_KEPT = 10_000
#: A store's method, and its arguments by place and by name.
Write = tuple[str, tuple[Any, ...], dict[str, Any]]


class Backlog:
    """Keeps writes in their order, and repeats them under their names, so that none is done twice.

    Additions to sums that Redis was not asked for yet are added up, to be one write.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: deque[Write] = deque()
        self._sums: dict[str, PeriodSums] = {}
        self._dropped = 0

    def keep(self, write: Write, *, tried: bool) -> None:
        """Keep a write; `tried`: Redis was asked for it, and may have done it."""
        name, args, _ = write
        with self._lock:
            if name == "add_sums" and not tried:
                self._add_up(args[0])
                return
            self._writes.append(write)
            if len(self._writes) > WRITES_KEPT:
                self._writes.popleft()
                self._dropped += 1

    def _add_up(self, additions: Sequence[PeriodSums]) -> None:
        for each in additions:
            known = self._sums.get(each.period)
            amounts = total_of([known.amounts if known else {}, each.amounts])
            self._sums[each.period] = PeriodSums(each.period, each.keep_s, amounts)

    def replay(self, store: WorkloadStore) -> None:
        """Do the writes on a store; what it cannot do now stays, what it refuses is dropped."""
        while (write := self._next()) is not None:
            name, args, kwargs = write
            try:
                getattr(store, name)(*args, **kwargs)
            except RefusedWrite as error:
                log.warning("dropped what Redis refuses for good: %s", error)
            except WorkloadError:
                with self._lock:
                    self._writes.appendleft(write)
                raise
        if self._dropped:
            log.warning("%d writes were dropped while Redis was away", self._dropped)
            self._dropped = 0

    def _next(self) -> Write | None:
        with self._lock:
            if self._writes:
                return self._writes.popleft()
            if not self._sums:
                return None
            additions, self._sums = [*self._sums.values()], {}
            return "add_sums", (additions,), {"once": uuid.uuid4().hex}
