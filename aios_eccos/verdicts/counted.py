"""Verdicts on answers: counted once each, and watched for a floor that does not hold."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aios_eccos import metrics
from aios_eccos.floor.alarm import BETS, DELTA, e_value
from aios_eccos.observe.events import keep
from aios_eccos.observe.sums import bets_of_verdict, of_verdict
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.views import AlarmView
from aios_eccos.workload.ledger import Ledger, PeriodSums
from aios_eccos.workload.periods import (
    DAY_S,
    KEPT_S,
    SINCE,
    TOTAL,
    add,
    names_of,
    number,
    period_sums,
    periods,
    total_of,
)

ALARM_AT = 1 / DELTA
#: Days of wagers that are kept.
DAYS = int(KEPT_S["d"] / DAY_S)


def note_of(identity: str) -> str:
    """The note that holds a decision's verdict."""
    return f"verdict:{identity}"


def read_verdicts(ledger: Ledger, identities: list[str]) -> list[float | None]:
    """The verdicts on decisions, None where there is none.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    found = ledger.notes([note_of(identity) for identity in identities])
    return [None if value is None else float(value) for value in found]


def count_verdict(ledger: Ledger, trace: Trace, correctness: float) -> float | None:
    """Add a verdict (0..1) to all sums, taking an earlier one back; returns that one.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    now = time.time()
    text = ledger.swap_note(note_of(trace.id), repr(float(correctness)), KEPT_S["d"])
    before = None if text is None else float(text)
    sums = of_verdict(trace, correctness)
    bets = bets_of_verdict(trace, correctness)
    if before is not None:
        add(sums, of_verdict(trace, before, -1.0))
        add(bets, bets_of_verdict(trace, before, -1.0))
    ledger.add_sums(
        [
            period_sums("h", trace.at, sums),
            period_sums("d", now, bets),
            PeriodSums(TOTAL, 0.0, sums),
        ]
    )
    _tell(ledger, trace.policy, now)
    return before


def _tell(ledger: Ledger, policy: str, now: float) -> None:
    """An event when a floor's alarm goes on or off."""
    alarm = next((a for a in read_alarms(ledger, now) if a.policy == policy), None)
    if alarm is None:
        return
    state = "broken" if alarm.broken else "kept"
    name = f"alarm:{policy}"
    (known,) = ledger.notes([name])
    if state != (known or "kept"):
        ledger.swap_note(name, state)
        of = f"floor of agents {policy}" if policy else "floor"
        keep(ledger, f"{of}: e-process {alarm.e_value:.3g}", known or "kept", state)


def read_alarms(ledger: Ledger, now: float) -> list[AlarmView]:
    """The e-process of every policy that has verdicts.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    today = number("d", now)
    (since,) = ledger.notes([SINCE])
    first = today if since is None else min(number("d", float(since)), today)
    found = ledger.sums(periods("d", now, DAYS))
    days = {today - DAYS + 1 + i: sums for i, sums in enumerate(found) if sums}
    first = min(first, *days) if days else first
    policies = {name for sums in days.values() for name in names_of("floors", sums)}
    return [alarm_of(policy, days, first, today) for policy in sorted(policies)]


def alarm_of(
    policy: str, days: Mapping[int, Mapping[str, float]], first: int, today: int
) -> AlarmView:
    """One policy's e-process from the sums of days by number."""
    bets = {
        day: [sums.get(f"bet{i}:{policy}", 0.0) for i in range(len(BETS))]
        for day, sums in days.items()
    }
    whole = total_of(days.values())
    verdicts = whole.get(f"floor_verdicts:{policy}", 0.0)
    wealth = e_value(bets, first, today)
    return AlarmView(
        policy=policy,
        verdicts=round(verdicts),
        floor=whole[f"floors:{policy}"] / verdicts if verdicts > 0 else None,
        realised=whole[f"floor_successes:{policy}"] / verdicts if verdicts > 0 else None,
        e_value=float(f"{wealth:.4g}"),
        alarm_at=ALARM_AT,
        broken=wealth >= ALARM_AT,
        at_end=metrics.mean(whole.get(f"ended:{policy}", 0.0), whole.get(f"moves:{policy}", 0.0)),
    )
