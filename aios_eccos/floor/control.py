"""The controlled floor: every observed outcome moves the log of the price of success.

    ln(price) += eta x (floor - outcome)

Sum it over T calls: mean(floor - outcome) = ln(price_end / price_start) / (eta T), whatever the
calls and however wrong the forecasts, as long as the price does not stand at its end (adaptive
conformal inference, Gibbs and Candes 2021, on the price rather than the level). So the shortfall
is at most ln(price_max / price_start) / (eta T), plus (delay + 1) / T for outcomes that come late.
It needs no window, no reset and no clip but the ends; it is shared by all kernels and kept.

While the floor's alarm is raised (an e-process, `floor.alarm`) steps are `BOOST` times as large.
Summed up, an alarm over which the price rises only lowers the shortfall; one over which it falls
adds at most ln(price_max / price_min) (1 - 1 / BOOST) / (eta T).

Where an outcome is not seen, the success that was promised (history's optimism taken off) stands
in for it. What is unseen is then no worse off than without control, what is seen is corrected. So a
settled call adds eta (floor - promised), and its verdict eta (promised - outcome).

A budget is controlled by the same rule on money, ln(price) += eta x (1 - spent / budget): summed
up, mean(spent) = budget x (1 + ln(price_start / price_end) / (eta T)).
"""

from __future__ import annotations

#: Step of the log price in quiet times.
ETA = 0.1
#: How much larger the step is while the alarm is raised, chosen on the history of math10 (split 0):
#: with its math tasks left out of the history and then streamed, 1, 2, 3 leave a shortfall of .041,
#: .021, .007 after 100 calls. In quiet times, without an alarm, it costs nothing. A larger ETA
#: would cost 8 to 9 % more there.
BOOST = 3.0
#: Step of the log price for one budget's worth of dollars spent or saved.
SPEND_ETA = 0.2
#: Most budgets by which one call moves the price: what a single call costs has no bound.
SPEND_MOST = 20.0
#: Verdicts from which on the floor is controlled rather than expected.
START_AT = 30


def outcome_step(floor: float, success: float, eta: float = ETA) -> float:
    """What one call adds to ln(price): success asked for less success had, both 0..1."""
    return eta * (floor - success)


def spending_step(budget: float, spent: float, answered: bool = True) -> float:
    """What one call adds to ln(price) under a budget; both in dollars.

    A call without an answer earns no allowance, but what was spent on it counts.
    """
    return SPEND_ETA * max(float(answered) - spent / budget, -SPEND_MOST)
