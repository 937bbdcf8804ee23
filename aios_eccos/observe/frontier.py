"""What success costs on the history, and where the calls of now stand on that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from aios_eccos.observe.shape import Usd, View
from aios_eccos.observe.views import StatusView

if TYPE_CHECKING:
    from aios_eccos.floor.curve import PriceBook

#: Verdicts on the history's records come from people and graders.
TOO_FEW = (
    "the history has too few verdicts to say what success costs: ingest graded records, run "
    "`aios-eccos collect`, or give verdicts with `aios-eccos feedback`"
)


class SpotView(View):
    """Mean success (0..1) and cost per call; of a model, where it is asked for every call."""

    success: float
    cost_usd: Usd
    model: str | None = None


class FrontierView(View):
    """`GET /eccos/frontier`: the price curve of the general floor, replayed on the history.

    Attributes:
        points: what each price of success realises and costs there, the cheapest first.
        models: one model for every record of the history.
        here: where the price of the last decisions stands; day: what the calls of the last 24 hours
            had and cost, whatever their verdicts say of them; null where there are none.
        floor: absolute success asked for at the last decisions of the general floor.
        note: why there are no points, and what to do; "" = there are.
    """

    schema_: Literal["aios-eccos/frontier/1"] = Field(
        default="aios-eccos/frontier/1", alias="schema"
    )
    at: float
    money: bool
    points: list[SpotView] = Field(default_factory=list)
    models: list[SpotView] = Field(default_factory=list)
    here: SpotView | None = None
    day: SpotView | None = None
    floor: float | None = None
    note: str = ""


def read_frontier(book: PriceBook | None, status: StatusView) -> FrontierView:
    """The frontier of the general floor, and where a status stands on it."""
    import numpy as np

    curve = None if book is None else book.curve()
    now = FrontierView(at=time.time(), money=status.money, day=_day(status))
    alarm = next((alarm for alarm in status.alarms if not alarm.policy), None)
    floor = None if alarm is None else alarm.floor
    if book is None or curve is None:
        return now.model_copy(update={"note": TOO_FEW, "floor": floor})
    spent = np.maximum.accumulate(curve.cost)
    points = dict(zip(spent.tolist(), curve.realised.tolist(), strict=True))
    here, price = None, status.success_price_usd
    if price is not None:
        cost = float(np.interp(price, curve.prices, spent))
        here = SpotView(success=curve.floor_for(price), cost_usd=cost)
    found = {
        "points": [SpotView(success=success, cost_usd=cost) for cost, success in points.items()],
        "models": [SpotView(model=n, success=s, cost_usd=c) for n, s, c in book.alone()],
        "here": here,
        "floor": floor,
    }
    return now.model_copy(update=found)


def _day(status: StatusView) -> SpotView | None:
    """What the calls of the last day had, by their verdicts, and what they cost each."""
    day = next((window for window in status.windows if window.name == "day"), None)
    if day is None or day.realised is None or not day.calls:
        return None
    return SpotView(success=day.realised.value, cost_usd=day.cost_usd / day.calls)
