"""Whether the floor holds: an e-process, valid however often one looks.

A bettor puts a share b of its wealth on each verdict's falling short of the floor f:
E *= 1 + b (f - y), with y in 0..1 and b < 1. While calls succeed on average at the floor or above,
given what came before, E cannot be expected to grow, and by Ville's inequality it ever reaches
1/delta with probability delta at most (Ramdas et al., arXiv 2210.01948). Several b share the
wealth, and so do several starts, one a day with weight 1/(k (k + 1)) for day k: a long good time
does not hide a later break. Logs of wealth add up, so kernels simply add to shared sums.

It speaks of the calls that got a verdict. Verdicts that are asked for where trouble is suspected
are no fair draw, and then the alarm is about those calls only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

#: Shares of the wealth that are bet, from a slight to a large shortfall.
BETS = (0.1, 0.2, 0.4, 0.8)
#: Chance of an alarm, ever, while the floor holds.
DELTA = 0.05


def wager(floor: float, outcome: float) -> list[float]:
    """What one verdict adds to the log of each bet's wealth.

    Args:
        floor: asked for, 0..1.
        outcome: 0..1.
    """
    return [math.log1p(bet * (floor - outcome)) for bet in BETS]


def e_value(days: Mapping[int, Sequence[float]], first: int, today: int) -> float:
    """The wealth now, 1 before the first verdict; alarm at `1 / DELTA`.

    Args:
        days: by day number, the day's sum of `wager` for each bet; days without verdicts, and
            days that are no longer kept, are left out (the latter can only lower the wealth).
        first: day number of the first start.
        today: day number.
    """
    wealth = 1.0 / max(today - first + 2, 2)  # what is kept for starts to come
    since = [0.0] * len(BETS)
    for day in range(today, first - 1, -1):
        logs = days.get(day)
        if logs is not None:
            since = [total + log for total, log in zip(since, logs, strict=True)]
        k = day - first + 1
        worth = sum(math.exp(min(log, 700.0)) for log in since) / len(BETS)
        wealth += worth / (k * (k + 1))
    return wealth
