"""Caps on spending: what is left of each, and what they keep calls from."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from aios_eccos.config import Settings
from aios_eccos.observe.shape import View
from aios_eccos.observe.sums import CAPPED, KEPT
from aios_eccos.observe.trace import Trace
from aios_eccos.workload.store import Loads


class CapView(View):
    """One `max_cost`, over all kernels.

    Attributes:
        name: of whom, and how often.
        held_usd: reserved by calls in flight, at the 90th percentile of their forecasts.
        beyond_usd: by how much calls have cost more than they reserved: the most that it can be
            passed by.
        over_usd: by how much it is passed.
        kept: calls of the last 24 hours that it kept from a model.
        worth: dollars of success that one dollar more would have bought at the last decisions.
    """

    name: str
    usd: float
    spent_usd: float
    held_usd: float
    left_usd: float
    beyond_usd: float
    over_usd: float
    resets_at: float
    at_cap: str
    kept: int
    worth: float | None


def read_caps(
    workload: Loads, settings: Settings, day: dict[str, float], recent: Sequence[Trace]
) -> list[CapView]:
    """The caps that hold now; raises as `read_status`.

    Args:
        day: sums of the last 24 hours. recent: the last decisions.
    """
    caps = [cap for _, cap in settings.all_caps(time.time())]
    return [
        CapView(
            name=cap.name,
            usd=cap.usd,
            spent_usd=spent.usd,
            held_usd=spent.held_usd,
            left_usd=max(cap.usd - spent.usd - spent.held_usd, 0.0),
            beyond_usd=spent.beyond_usd,
            over_usd=max(spent.usd - cap.usd, 0.0),
            resets_at=cap.ends,
            at_cap="cheapest" if cap.may_pass else "refuse",
            kept=round(day.get(f"{CAPPED}:{cap.name}", 0.0)),
            worth=max((w for t in recent if (w := _worth(t, cap.name)) is not None), default=None),
        )
        for cap, spent in zip(caps, workload.spent(caps), strict=True)
    ]


def _worth(trace: Trace, cap: str) -> float | None:
    """Dollars of success lost for each dollar that a cap kept a call from; None: it kept none.

    By the price of success at that decision: the dual price of the cap, for this call alone.
    """
    chosen, price = trace.chosen, trace.success_price_usd
    if price is None or not math.isfinite(price):
        return None
    cost, success = (0.0, 0.0) if chosen is None else (chosen.cost_usd, chosen.success)
    found = [
        (price * (option.success - success) - (option.cost_usd - cost)) / (option.cost_usd - cost)
        for option in trace.options
        if cap in KEPT.findall(option.closed) and option.cost_usd > cost
    ]
    return max(0.0, *found) if found else None
