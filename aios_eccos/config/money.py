"""Caps on what agents spend in a day and in a month, UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import Field, model_validator

from aios_eccos.config.checks import Checked
from aios_eccos.values import Cap

#: The name of the cap on all agents together.
ALL = "all agents"

Dollars = Annotated[float, Field(gt=0, le=1e6)]


class MaxCost(Checked, extra="forbid"):
    """Dollars; at least one of the two."""

    day: Dollars | None = None
    month: Dollars | None = None

    @model_validator(mode="before")
    @classmethod
    def _some(cls, raw: object) -> object:
        if raw == {} or isinstance(raw, int | float | str):
            raise ValueError("allowed: dollars a day and a month, such as {day: 5, month: 50}")
        return raw

    def caps(self, pattern: str, at: float, *, may_pass: bool) -> Iterator[Cap]:
        """The caps on agents of a pattern ("" = on all) that hold at `at`, s since the epoch."""
        now = datetime.fromtimestamp(at, timezone.utc)
        day = datetime(now.year, now.month, now.day, tzinfo=timezone.utc)
        month = day.replace(day=1)
        for usd, kind, begins, ends in (
            (self.day, "day", f"{day:%Y-%m-%d}", day + timedelta(days=1)),
            (self.month, "month", f"{day:%Y-%m}", (month + timedelta(days=32)).replace(day=1)),
        ):
            if usd is not None:
                name = f"{pattern or ALL} a {kind}"
                yield Cap(name, f"{pattern}:{kind}:{begins}", usd, ends.timestamp(), may_pass)
