"""What many kernels need, computed and simulated from what single operations were measured to cost.

Nothing here was run: a Redis master is a queue with one server and the measured time of a call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Seconds of processor that embedding a short question and the trained head take (docs/speed.md).
EMBEDDING_S = 0.002
#: Share of its time that anything may be busy: beyond it waits grow fast.
BUSY = 0.6
#: Calls a second, and kernels.
SIZES = ((100, 1), (1_000, 50), (10_000, 500), (100_000, 5_000))
ARRIVALS = 200_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of processor: of a kernel for a call, of Redis for a call and for a kernel's second
    without calls, and of a Chroma server for a search. `traffic`: bytes of Redis for a call.
    """

    call: float
    redis: float
    idle: float
    search: float
    traffic: float

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Costs | None:
        """From measured rows; None where a part was not measured."""
        found = {(row["part"], row["size"]): row for row in rows}
        alone, searched = found.get(("kernels", 1)), found.get(("chroma", 4))
        if alone is None or searched is None:
            return None
        return cls(
            call=alone["call_cpu_ms"] / 1e3,
            redis=alone["redis_cpu_ms"] / 1e3,
            idle=alone["idle_redis_cpu_ms_per_s"] / 1e3,
            search=searched["search_s"],
            traffic=alone["redis_bytes"],
        )


@dataclass(frozen=True, slots=True)
class Step:
    """So many calls a second over so many kernels.

    Attributes:
        kernel: share of one processor that a kernel's calls take.
        redis: share of one Redis thread that all of it takes; masters: what keeps each below
            `BUSY`; as many namespaces are needed, since one lies on one master.
        wait: 99th percentile of a request's wait at the busiest master, milliseconds.
        chroma: processors of Chroma servers, if they are asked at every call.
        first: what is too small first, if nothing is divided.
    """

    rate: int
    kernels: int
    kernel: float
    redis: float
    masters: int
    wait: float
    chroma: float
    traffic: float
    first: str

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"{self.rate:,} calls/s, {self.kernels:,} kernels: a kernel {self.kernel:.0%} busy, "
            f"Redis {self.redis:.2f} threads on {self.masters} masters (wait p99 {self.wait:.2f} "
            f"ms), Chroma {self.chroma:.0f} processors, {self.traffic:.1f} MB/s; "
            f"first: {self.first}"
        )


def outlook(costs: Costs, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Step]:
    """Each size in turn."""
    return [_step(costs, rate, kernels) for rate, kernels in sizes]


def _step(costs: Costs, rate: int, kernels: int) -> Step:
    kernel = rate / kernels * (costs.call + EMBEDDING_S)
    redis = rate * costs.redis + kernels * costs.idle
    masters, chroma = max(math.ceil(redis / BUSY), 1), rate * costs.search
    shares = {
        "a kernel's interpreter": kernel,
        "the one Redis": redis,
        "one Chroma server of 8 processors": chroma / 8,
    }
    first = max(shares, key=lambda name: shares[name])
    return Step(
        rate, kernels, kernel, redis, masters, wait_ms(rate / masters, redis / rate), chroma,
        rate * costs.traffic / 1e6, first if shares[first] > BUSY else "nothing",
    )  # fmt: skip


def wait_ms(rate: float, service_s: float, seed: int = 0) -> float:
    """99th percentile of waits for one server, arrivals at random (Lindley's recursion)."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, ARRIVALS)
    ahead = np.cumsum(service_s - gaps)
    return float(np.percentile(ahead - np.minimum.accumulate(ahead), 99)) * 1e3
