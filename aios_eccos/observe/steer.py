"""Moves the price of success by what calls came to: the controlled floor at work.

The rule is `predict.control`'s, ln(price) += eta (floor - outcome), where the promised success
stands in until a verdict is there. So a settled call adds eta (floor - promised), and its verdict
eta (promised - outcome). The sums lie in Redis, shared by all kernels and kept over restarts.
"""

from __future__ import annotations

from collections.abc import Iterable

from aios_eccos.config import Settings
from aios_eccos.policy import shift_name
from aios_eccos.predict.control import START_AT
from aios_eccos.workload.store import WorkloadStore

from .trace import Trace
from .views import AlarmView


def controlled(alarms: Iterable[AlarmView], settings: Settings) -> frozenset[str]:
    """The policies that have verdicts enough to be controlled, if the settings ask for it."""
    if settings.floor_mode != "controlled":
        return frozenset()
    return frozenset(alarm.policy for alarm in alarms if alarm.verdicts >= START_AT)


def steer_settled(
    traces: Iterable[Trace], policies: frozenset[str], eta: float, store: WorkloadStore
) -> None:
    """Move the prices by what was promised of settled calls, one request a policy.

    Raises:
        WorkloadError: the store cannot be used.
    """
    steps: dict[str, float] = {}
    for trace in traces:
        if trace.policy in policies and trace.failure is None and _priced(trace):
            step = eta * ((trace.floor or 0.0) - (trace.promised or 0.0))
            steps[trace.policy] = steps.get(trace.policy, 0.0) + step
    for policy, step in steps.items():
        store.move_price(shift_name(policy), step, 1.0)


def steer_judged(
    trace: Trace, outcome: float, policies: frozenset[str], eta: float, store: WorkloadStore
) -> None:
    """Put a verdict (0..1) in the place of what was promised.

    Raises:
        WorkloadError: the store cannot be used.
    """
    if trace.policy in policies and _priced(trace):
        step = eta * ((trace.promised or 0.0) - outcome)
        store.move_price(shift_name(trace.policy), step, 1.0)


def _priced(trace: Trace) -> bool:
    """Whether a price of success chose: a pinned call, or one without history, moves nothing."""
    return None not in (trace.floor, trace.promised, trace.success_price_usd)
