"""The periods that sums are kept by: minutes, hours, days, and all time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
#: How long each kind of period is kept, seconds.
KEPT_S = {"m": 3 * HOUR_S, "h": 90 * DAY_S, "d": 90 * DAY_S}
LENGTH_S = {"m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
TOTAL = "total"
#: The note of when the first call was kept.
SINCE = "since"


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """Finite amounts to add, by name, to the sums of one period.

    They are dropped `keep_s` seconds after the last addition; 0 = never.
    """

    period: str
    keep_s: float
    amounts: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, amount in self.amounts.items():
            if not math.isfinite(amount):
                raise ValueError(f"cannot add {amount} to {name!r}")


def number(kind: str, at: float) -> int:
    """The number of the minute (`m`), hour (`h`) or day (`d`) that holds `at`."""
    return int(at // LENGTH_S[kind])


def periods(kind: str, at: float, count: int) -> list[str]:
    """The last `count` periods, the one that holds `at` last."""
    last = number(kind, at)
    return [f"{kind}{i}" for i in range(last - count + 1, last + 1)]


def period_sums(kind: str, at: float, amounts: Mapping[str, float]) -> PeriodSums:
    """Amounts for the period of a kind that holds `at`."""
    return PeriodSums(f"{kind}{number(kind, at)}", KEPT_S[kind], amounts)


def add(sums: dict[str, float], amounts: Mapping[str, float]) -> None:
    """Add amounts to sums, in place."""
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0.0) + amount


def total_of(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums over several periods."""
    sums: dict[str, float] = {}
    for part in parts:
        add(sums, part)
    return sums


def together(additions: Iterable[PeriodSums]) -> list[PeriodSums]:
    """The same additions, one for each period."""
    found: dict[str, PeriodSums] = {}
    for each in additions:
        known = found.get(each.period)
        amounts = total_of([known.amounts if known else {}, each.amounts])
        found[each.period] = PeriodSums(each.period, each.keep_s, amounts)
    return [*found.values()]


def window_of(kind: str, at: float, parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums over as many whole periods as come to `at`, from one part more, oldest first.

    The present period has only begun, so the oldest counts by the share that is still missing.
    """
    missing = 1 - at % LENGTH_S[kind] / LENGTH_S[kind]
    oldest = {name: amount * missing for name, amount in parts[0].items()}
    return total_of([oldest, *parts[1:]])


def names_of(kind: str, sums: Mapping[str, float]) -> list[str]:
    """The names (models or policies) that a kind of sum is kept for."""
    return sorted(name.split(":", 1)[1] for name in sums if name.startswith(f"{kind}:"))
