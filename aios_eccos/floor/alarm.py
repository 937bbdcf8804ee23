"""Whether the floor holds: an e-process, valid however often one looks, and for all time.

A bettor puts a share b of its wealth on each verdict's falling short of the floor f:
E *= 1 + b (f - y), with y in 0..1 and b < 1. While calls succeed on average at the floor or above,
given what came before, E cannot be expected to grow, and by Ville's inequality it ever reaches
1/delta with probability delta at most (Ramdas et al., arXiv 2210.01948). Several b share the
wealth, and so do several starts, one a day with weight 1/(k (k + 1)) for day k: a long good time
does not hide a later break. Logs of wealth add up, so kernels simply add to shared sums of days.
Before days go, all starts up to one are folded into four numbers; a start whose days are gone
unfolded is given up, which only lowers the wealth.

It speaks of the calls that got a verdict: where trouble is suspected, they are no fair draw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from aios_eccos import metrics
from aios_eccos.observe.trace import Trace
from aios_eccos.values import EXPLORED, HELD
from aios_eccos.workload.notes import moment_of, read_note
from aios_eccos.workload.periods import DAY_S, KEPT_S, SINCE, names_of, number, periods, total_of
from aios_eccos.workload.store import Ledger

#: Shares of the wealth that are bet, from a slight to a large shortfall.
BETS = (0.1, 0.2, 0.4, 0.8)
#: A note's shape: a day, that of the first start, and a log for each bet.
_FOLDED = TypeAdapter(Annotated[list[Annotated[float, Field(le=1e6)]], Field(min_length=2)])
#: Chance of an alarm, ever, while the floor holds.
DELTA = 0.05
ALARM_AT = 1 / DELTA
#: Days whose sums are kept.
DAYS = int(KEPT_S["d"] / DAY_S)
#: Days after which a day is folded: no kernel adds to it any more.
FOLD_AFTER = 30
#: Begins the notes of what was folded, by policy.
WEALTH = "alarm-wealth"


@dataclass(frozen=True, slots=True)
class Alarm:
    """The e-process of one policy's floor.

    Attributes:
        policy: agent pattern, "" for the general floor.
        verdicts: those of the days kept; floor, realised: their means, None without any.
        e_value: wealth now, 1 at the start; broken: whether it has reached `alarm_at`.
        at_end: share of the price's moves that left it at an end, None without any.
    """

    policy: str
    verdicts: int
    floor: float | None
    realised: float | None
    e_value: float
    alarm_at: float
    broken: bool
    at_end: float | None


@dataclass(frozen=True, slots=True)
class Wealth:
    """What all starts up to a day have come to.

    Attributes:
        day: its number; first: that of the first start.
        logs: for each bet, the log of the weighted sum over the starts.
    """

    day: int
    first: int
    logs: tuple[float, ...]


def wager(floor: float, outcome: float) -> list[float]:
    """What one verdict adds to the log of each bet's wealth; floor and outcome in 0..1."""
    return [math.log1p(bet * (floor - outcome)) for bet in BETS]


def grown(wealth: Wealth, days: Mapping[int, Sequence[float]], to: int) -> Wealth:
    """The wealth at the end of day `to`, from the sums of `wager` of the days since."""
    logs = wealth.logs
    for day in range(wealth.day + 1, to + 1):
        k = day - wealth.first + 1
        start = -math.log(k * (k + 1))
        gains = days.get(day, (0.0,) * len(BETS))
        logs = tuple(_log_sum(log, start) + gain for log, gain in zip(logs, gains, strict=True))
    return Wealth(max(to, wealth.day), wealth.first, logs)


def begin(first: int, oldest: int) -> Wealth:
    """No wealth yet, before the first start of which all days are kept."""
    return Wealth(max(first, oldest) - 1, first, (-math.inf,) * len(BETS))


def e_value(days: Mapping[int, Sequence[float]], wealth: Wealth, today: int) -> float:
    """The wealth now, 1 before the first verdict; alarm at `ALARM_AT`.

    Args:
        days: by day number, the day's sum of `wager` for each bet; a day left out had none.
        wealth: at the end of a day before those.
    """
    now = grown(wealth, days, today)
    held = 1.0 / max(today - now.first + 2, 2)  # what is kept for starts to come
    return held + math.fsum(math.exp(min(log, 700.0)) for log in now.logs) / len(BETS)


def _log_sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high)) if high > -math.inf else high


def of_verdict(trace: Trace, outcome: float, sign: float = 1.0) -> dict[str, float]:
    """What a verdict adds to the day's wagers on its policy's floor; -1 takes one back.

    Nothing where no floor of the policy's chose: the agent named the model or brought a floor of
    its own, chance explored, or the reference was held.
    """
    own = trace.control is not None and trace.control.own
    if trace.floor is None or trace.status in (EXPLORED, HELD) or own:
        return {}
    policy = trace.policy
    amounts = {
        f"floors:{policy}": trace.floor,
        f"floor_verdicts:{policy}": 1.0,
        f"floor_successes:{policy}": outcome,
    }
    for i, log in enumerate(wager(trace.floor, outcome)):
        amounts[f"bet{i}:{policy}"] = log
    return {name: sign * amount for name, amount in amounts.items()}


def read_alarms(ledger: Ledger, now: float) -> list[Alarm]:
    """The e-process of every policy that has verdicts; folds days before they go.

    Raises:
        WorkloadError: the ledger cannot be used.
    """
    today = number("d", now)
    (since,) = ledger.notes([SINCE])
    at = moment_of(since)
    first = today if at is None else min(number("d", at), today)
    found = ledger.sums(periods("d", now, DAYS))
    days = {today - DAYS + 1 + i: sums for i, sums in enumerate(found) if sums}
    first = min(first, *days) if days else first
    policies = sorted({name for sums in days.values() for name in names_of("floors", sums)})
    folds = ledger.notes([f"{WEALTH}:{policy}" for policy in policies]) if policies else []
    return [
        _alarm(ledger, policy, days, _unfolded(text, first, today), today)
        for policy, text in zip(policies, folds, strict=True)
    ]


def _alarm(
    ledger: Ledger,
    policy: str,
    days: Mapping[int, Mapping[str, float]],
    wealth: Wealth,
    today: int,
) -> Alarm:
    """One policy's alarm from the sums of days by number."""
    bets = {
        day: [sums.get(f"bet{i}:{policy}", 0.0) for i in range(len(BETS))]
        for day, sums in days.items()
    }
    if today - wealth.day > 2 * FOLD_AFTER:
        wealth = grown(wealth, bets, today - FOLD_AFTER)
        ledger.swap_note(f"{WEALTH}:{policy}", json.dumps([wealth.day, wealth.first, *wealth.logs]))
    whole = total_of(days.values())
    verdicts = whole.get(f"floor_verdicts:{policy}", 0.0)
    value = e_value(bets, wealth, today)
    return Alarm(
        policy=policy,
        verdicts=round(verdicts),
        floor=metrics.mean(whole.get(f"floors:{policy}", 0.0), verdicts),
        realised=metrics.mean(whole.get(f"floor_successes:{policy}", 0.0), verdicts),
        e_value=float(f"{value:.4g}"),
        alarm_at=ALARM_AT,
        broken=value >= ALARM_AT,
        at_end=metrics.mean(whole.get(f"ended:{policy}", 0.0), whole.get(f"moves:{policy}", 0.0)),
    )


def _unfolded(text: str | None, first: int, today: int) -> Wealth:
    """The wealth that was folded, or none; none either where days after it are gone."""
    oldest = today - DAYS + 1
    day, began, *logs = read_note(_FOLDED, text) or [math.nan, math.nan]
    if 0 <= began <= day + 1 <= today + 1 and len(logs) == len(BETS):
        if day + 1 >= oldest:
            return Wealth(int(day), int(began), tuple(logs))
        first = int(began)
    return begin(first, oldest)
