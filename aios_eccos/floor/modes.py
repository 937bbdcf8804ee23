"""What a floor promises (`docs/promises.md`): expected, controlled, certified; and a budget.

A mode gives the range of a call's price of success, and what may move the price within it. No other
module asks which mode is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aios_eccos.config import Floor, Settings
from aios_eccos.floor.certify import Certificate, Certifier
from aios_eccos.floor.curve import PriceCurve


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one call.

    Attributes:
        policy: the agent pattern that asks it, "" for the general setting.
        floor: the quality floor; None under a budget.
        budget: dollars per call on average; None with a floor.
        own: whether the call brought the floor itself.
    """

    policy: str
    floor: Floor | None = None
    budget: float | None = None
    own: bool = False


class Span(NamedTuple):
    """A price of success on history, and the ends it can be moved to; dollars per success."""

    base: float
    least: float
    greatest: float


class Made(NamedTuple):
    """An absolute floor (NaN under a budget), and what certifies floors."""

    floor: float
    certifier: Certifier | None = None


class Expected:
    """History's estimate alone; what the other modes share.

    Attributes:
        whole_batches: whether a large batch may be solved under its floors.
        keeps_sessions: whether what a model has read of a conversation counts at its own price.
        calibrates: whether certificates are made, on records that are kept from every fit.
    """

    whole_batches = True
    keeps_sessions = True
    calibrates = False

    def models(self, names: Sequence[str], certifier: Certifier | None) -> Sequence[str]:
        """Those of the models that the price may choose."""
        return names

    def span(self, asked: Asked, curve: PriceCurve, names: Sequence[str], made: Made) -> Span:
        """The price on the history of `models(names)`, and its ends.

        Args:
            curve: of the models that the price may choose.
            names: the models that may serve.
            made: the absolute floor, and what certifies it.
        """
        ends = float(curve.prices[1]), float(curve.prices[-1])
        return _within(curve.price_for(made.floor), *ends)

    def key(self, asked: Asked) -> str:
        """Name of the stored factor that moves the price; "" = nothing does."""
        return ""


class Controlled(Expected):
    """Outcomes move the price, from `control.START_AT` verdicts on."""

    def span(self, asked: Asked, curve: PriceCurve, names: Sequence[str], made: Made) -> Span:
        return _within(curve.price_for(made.floor), *curve.ends)

    def key(self, asked: Asked) -> str:
        # It holds the floor: after a change, control begins anew.
        return f"shift:{asked.policy}:{asked.floor}"


class Certified(Expected):
    """A price that keeps the floor with a stated confidence; nothing moves it."""

    # A certificate speaks of choices at one price, by cost and success alone.
    whole_batches = False
    keeps_sessions = False
    calibrates = True

    def models(self, names: Sequence[str], certifier: Certifier | None) -> Sequence[str]:
        return names if certifier is None else certifier.open(names)

    def span(self, asked: Asked, curve: PriceCurve, names: Sequence[str], made: Made) -> Span:
        paper = None if made.certifier is None else made.certifier.at(made.floor, names)
        price = paper.price if isinstance(paper, Certificate) else float(curve.prices[-1])
        return Span(price, price, price)


class Budgeted(Expected):
    """A mean cost per call instead of a floor: what is spent moves the price."""

    whole_batches = False

    def span(self, asked: Asked, curve: PriceCurve, names: Sequence[str], made: Made) -> Span:
        base = curve.price_for_cost(asked.budget or 0.0)
        return _within(base, float(curve.prices[1]), curve.saturated)

    def key(self, asked: Asked) -> str:
        return f"spend:{asked.policy}:{asked.budget:g}"


def _within(base: float, least: float, greatest: float) -> Span:
    return Span(min(max(base, least), greatest), least, greatest)


EXPECTED = Expected()
BUDGETED = Budgeted()
_BY_NAME = {"expected": EXPECTED, "controlled": Controlled(), "certified": Certified()}


def mode_of(settings: Settings) -> Expected:
    """The mode that the settings ask for."""
    return _BY_NAME[settings.floor_mode]
