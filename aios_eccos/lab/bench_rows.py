"""What a benchmark says: a row each, against a budget and a peer measured in the same run."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        name: the part, as the command's word. kind: what of it; n: of what size.
        value: the median; p99: that one in a hundred exceeds; both in `unit`, which ends in "/s"
            where more is better.
        budget, p99_budget: that they are to stay within, on a quiet machine.
        peer, peer_value: who does the same in the same run, and its median.
        times_cheaper: how many times less processor time than the peer's it took, where that was
            measured: unlike the clock's, others on the machine do not change it.
        least: how many times better (or cheaper) than the peer it must be, on any machine.
    """

    name: str
    kind: str
    n: int
    value: float
    unit: str = "ms"
    p99: float | None = None
    budget: float | None = None
    p99_budget: float | None = None
    peer: str | None = None
    peer_value: float | None = None
    times_cheaper: float | None = None
    least: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer."""
        if self.peer_value is None or self.times_cheaper is not None:
            return self.times_cheaper
        rate = self.unit.endswith("/s")
        return self.value / self.peer_value if rate else self.peer_value / self.value

    @property
    def kept(self) -> bool:
        """Whether the ratio is what it must be."""
        return self.least is None or (self.ratio or 0.0) >= self.least

    @property
    def ok(self) -> bool:
        """Whether budgets are kept, too."""
        if not self.kept or self.budget is None:
            return self.kept
        if self.unit.endswith("/s"):
            return self.value >= self.budget
        return self.value <= self.budget and (self.p99 or 0.0) <= (self.p99_budget or math.inf)

    def json(self) -> dict[str, Any]:
        """Its entry in the command's JSON."""
        return asdict(self) | {"ratio": self.ratio, "kept": self.kept, "ok": self.ok}


class Took(NamedTuple):
    """Milliseconds by the clock, and of processors."""

    clock: float
    processors: float


def timed(work: Callable[[], object], processors: Callable[[], float] = time.process_time) -> Took:
    """What it took; `processors` says what the process, or its children, used until now."""
    begun, used = time.perf_counter(), processors()
    work()
    return Took((time.perf_counter() - begun) * 1e3, (processors() - used) * 1e3)


def times_cheaper(ours: Sequence[Took], peer: Sequence[Took]) -> float:
    """How many times less processor time than the peer's it took."""
    return percentile([each.processors for each in peer], 50) / percentile(
        [each.processors for each in ours], 50
    )


def compared(
    times: int, ours: Callable[[int], Took], peer: Callable[[int], Took], *, warm: int = 2
) -> tuple[list[Took], list[Took]]:
    """Both measured so many times, in turns, so that what else the machine does meets both.

    Each is given its turn's number and returns what it measured; the first turns do not count.
    """
    found: tuple[list[Took], list[Took]] = [], []
    for turn in range(times + warm):
        for at in (0, 1) if turn % 2 else (1, 0):
            value = (ours, peer)[at](turn)
            if turn >= warm:
                found[at].append(value)
    return found


def percentile(values: Sequence[float | Took], share: float) -> float:
    """The value that a share (0..100) of the values do not exceed; of times by the clock."""
    return float(
        np.percentile([each.clock if isinstance(each, Took) else each for each in values], share)
    )


def machine() -> dict[str, float]:
    """Processors, and how many processes have wanted one over the last minute."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {"processors": os.cpu_count() or 1, "load": round(load, 2)}
