"""What decided a kept call: the constraint that bound."""

from __future__ import annotations

import math

import numpy as np

from aios_eccos.decide import words
from aios_eccos.observe.trace import Trace


def case_of(trace: Trace) -> words.Case:
    """The decision as its words see it."""
    options = trace.options
    price = trace.success_price_usd
    names = tuple(option.model for option in options)
    return words.Case(
        models=names,
        cost=np.array([option.cost_usd for option in options]),
        total_cost=np.array([option.cost_usd + option.switch_usd for option in options]),
        success=np.array([option.success for option in options]),
        support=np.array([option.support for option in options]),
        allowed=np.array([option.allowed for option in options], dtype=bool),
        free=np.array([option.free for option in options], dtype=np.int64),
        price=math.inf if price is None else price,
        column=names.index(trace.model) if trace.model in names else None,
        status=trace.status,
        whole=trace.batch if trace.whole else 0,
    )


def bound_by(trace: Trace) -> str:
    return words.bound_by(case_of(trace), observed=trace.mode == "observe")
