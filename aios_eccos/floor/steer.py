"""Moves the price of success by what calls came to: the controlled floor at work.

The rule is `predict.control`'s, ln(price) += eta (floor - outcome), where the promised success
stands in until a verdict is there. So a settled call adds eta (floor - promised), and its verdict
eta (promised - outcome). The sums lie in Redis, shared by all kernels and kept over restarts.
While the policy's alarm is raised, eta is `predict.control.BOOST` times as large.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from aios_eccos.config import Settings
from aios_eccos.floor.control import BOOST, START_AT, ControlledPrice, log_step
from aios_eccos.floor.worth import floor_of, shift_name
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.views import AlarmView
from aios_eccos.serve.router import Router
from aios_eccos.values import EXPLORED
from aios_eccos.workload.periods import period_sums
from aios_eccos.workload.store import PRICE_RANGE, WorkloadStore


def controlled(alarms: Iterable[AlarmView], settings: Settings) -> frozenset[str]:
    """The policies that have verdicts enough to be controlled, if the settings ask for it."""
    if settings.floor_mode != "controlled":
        return frozenset()
    return frozenset(alarm.policy for alarm in alarms if alarm.verdicts >= START_AT)


def steer_settled(traces: Iterable[Trace], router: Router, store: WorkloadStore) -> None:
    """Move the prices by what was promised of settled calls, one request a policy.

    Raises:
        WorkloadError: the store cannot be used.
    """
    steps: dict[str, list[float]] = {}
    floors: dict[str, float] = {}
    for trace in traces:
        if trace.failure is None and _steers(trace, router):
            step = log_step(trace.floor or 0.0, None, trace.promised or 0.0, _eta(trace, router))
            steps.setdefault(trace.policy, []).append(step)
            floors[trace.policy] = trace.floor or 0.0
    for policy, moves in steps.items():
        _move(policy, math.fsum(moves), floors[policy], len(moves), router, store)


def steer_judged(trace: Trace, outcome: float, router: Router, store: WorkloadStore) -> None:
    """Put a verdict (0..1) in the place of what was promised.

    Raises:
        WorkloadError: the store cannot be used.
    """
    if _steers(trace, router):
        step = _eta(trace, router) * ((trace.promised or 0.0) - outcome)
        _move(trace.policy, step, trace.floor or 0.0, 1, router, store)


def _move(
    policy: str, step: float, floor: float, moves: int, router: Router, store: WorkloadStore
) -> None:
    """Move the policy's factor, within what leads the price from one end of its range to the other.

    Beyond the ends nothing changes but the way back, which would grow without end. The moves, of
    calls and of verdicts, are counted, and those that leave the price at an end: the bound of
    `predict.control` does not hold of them.
    """
    book = router.learned.book
    curve = book.curve() if book is not None else None
    ends = PRICE_RANGE
    if curve is not None:
        start = ControlledPrice.start(curve, floor)
        ends = (start.least / start.price, start.greatest / start.price)
    at_end = store.move_price(shift_name(policy, router.settings), step, 1.0, *ends) in ends
    amounts = {f"moves:{policy}": float(moves), f"ended:{policy}": float(moves * at_end)}
    store.add_sums([period_sums("d", time.time(), amounts)])


def _eta(trace: Trace, router: Router) -> float:
    """The step, larger while the policy's floor is known not to be kept."""
    step = router.settings.floor_step
    return step * BOOST if trace.policy in router.alarmed else step


def _steers(trace: Trace, router: Router) -> bool:
    """Whether the policy's price chose: not for a pinned call, nor without history, nor for a call
    that brought a floor of its own, nor for one that explored.
    """
    if trace.policy not in router.controlled or trace.status == EXPLORED or not _priced(trace):
        return False
    floor = floor_of(trace.policy, router.settings)
    return floor.relative or trace.floor == floor.value


def _priced(trace: Trace) -> bool:
    """Whether a price of success chose: a pinned call, or one without history, moves nothing."""
    return None not in (trace.floor, trace.promised, trace.success_price_usd)
