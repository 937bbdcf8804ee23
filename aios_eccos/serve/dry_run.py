"""A decision for a text that nobody asked: no model is called and no slot is taken."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from aios_eccos.forecast.pricing import Prices
from aios_eccos.observe.trace import Trace
from aios_eccos.providers.tokens import estimated
from aios_eccos.serve.router import Router
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import Answer, CallResult, Lease, Query, Slots


def decide_dry(
    router: Router,
    prices: Prices,
    slots: Slots,
    text: str,
    agent: str = "",
    floor: float | None = None,
) -> Trace:
    """What the router would decide for this text under such a load, as it would be kept.

    Args:
        floor: absolute success asked for, instead of the configured floor.
    """
    query = Query(text=text, agent=agent, input_tokens=estimated(text), floor=floor)
    (candidate,) = router.forecast([query])
    awake = candidate.allowed & ~np.isin(candidate.models, [*slots.cooling])
    # What chance would do is no explanation, so it has no lot.
    open_to = awake if awake.any() else candidate.allowed
    plan = router.decide([replace(candidate, allowed=open_to, lot=None)], slots)
    served = plan.found.solution.choice[0] >= 0
    (decision,) = plan.decisions({query.id: Lease(query.id, "")} if served else {})
    made = CallResult(query, Answer(), decision, 0, 0.0, 0.0)
    return replace(trace_of(made, prices, router.settings, router.models), at=time.time())
