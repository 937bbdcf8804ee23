"""A price under control as a value, until the studies drive `floor.floors.Floors` itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aios_eccos.floor.control import ETA
from aios_eccos.floor.curve import PriceCurve


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
        least, greatest = curve.ends
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
