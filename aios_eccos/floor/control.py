"""The controlled floor: every observed outcome moves the log of the price of success.

    ln(price) += eta x (floor - outcome)

Sum it over T calls: mean(floor - outcome) = ln(price_end / price_start) / (eta T), whatever the
calls and however wrong the forecasts, as long as the price does not stand at its end (adaptive
conformal inference, Gibbs and Candes 2021, on the price rather than the level). So the shortfall
is at most ln(price_max / price_start) / (eta T), plus (delay + 1) / T for outcomes that come late.
It needs no window, no reset and no clip but the ends; it is shared by all kernels and kept.

While the floor's alarm is raised (an e-process, `observe.alarm`) steps are `BOOST` times as large.
Summed up, an alarm over which the price rises only lowers the shortfall; one over which it falls
adds at most ln(price_max / price_min) (1 - 1 / BOOST) / (eta T).

Where an outcome is not seen, the success that was promised (history's optimism taken off) stands
in for it. What is unseen is then no worse off than without control, what is seen is corrected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aios_eccos.floor.curve import PriceCurve

#: Step of the log price in quiet times.
ETA = 0.1
#: How much larger the step is while the alarm is raised, chosen on the history of math10 (split 0):
#: with math taken out and streamed, 1, 2, 3 leave .041, .021, .007 of shortfall after 100 calls; in
#: quiet times, without an alarm, it costs nothing. A larger ETA would cost 8 to 9 % more there.
BOOST = 3.0
#: Share of the range of promised success below which a price counts as idle. Chosen on history as
#: well: without it, the same shift leaves twice as much; quiet streams are the same within .0002.
IDLE = 0.05
#: Verdicts from which on the floor is controlled rather than expected.
START_AT = 30


def log_step(floor: float, outcome: float | None, promised: float, eta: float = ETA) -> float:
    """What one call adds to ln(price).

    Args:
        floor: absolute, 0..1.
        outcome: correctness seen, None if nobody judged.
        promised: success forecast of the choice, optimism taken off.
    """
    return eta * (floor - (promised if outcome is None else outcome))


@dataclass(frozen=True, slots=True)
class ControlledPrice:
    """A price under control, as a value: `after` gives the next one.

    Attributes:
        price: now; least, greatest: its ends.
        calls: outcomes (or stand-ins) taken so far; at_end: those that found it at an end.
    """

    price: float
    least: float
    greatest: float
    calls: int = 0
    at_end: int = 0

    @classmethod
    def start(cls, curve: PriceCurve, floor: float) -> ControlledPrice:
        """At history's price for the floor, between the ends of the range where it matters.

        Below `least` hardly a choice changes: a price that waits down there would only have to
        come back when calls become harder.
        """
        reach = curve.promised[-1] - curve.promised[0]
        first = int(np.argmax(curve.promised >= curve.promised[0] + IDLE * reach))
        least, greatest = float(curve.prices[max(first, 1)]), float(curve.prices[-1])
        return cls(min(max(curve.price_for(floor), least), greatest), least, greatest)

    def after(self, step: float) -> ControlledPrice:
        """The price after one log step."""
        wanted = self.price * math.exp(step)
        moved = min(max(wanted, self.least), self.greatest)
        ended = self.at_end + (moved != wanted)
        return ControlledPrice(moved, self.least, self.greatest, self.calls + 1, ended)

    @property
    def share_at_end(self) -> float:
        """Share of steps that an end cut short; the bound does not hold while this grows."""
        return self.at_end / self.calls if self.calls else 0.0
