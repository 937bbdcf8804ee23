"""Values that run out."""

from __future__ import annotations

import math
import time
from typing import Generic, TypeVar

T = TypeVar("T")
#: Periods, notes and named writes above which those that have run out are looked for.
TIDY_ABOVE = 500


class Expiring(Generic[T]):
    """Values by name, each for a while."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, T]] = {}
        self._tidy_above = TIDY_ABOVE

    def get(self, name: str) -> T | None:
        """None where there is none any more."""
        end, value = self._values.get(name, (-math.inf, None))
        return value if end > time.monotonic() else None

    def put(self, name: str, value: T, keep_s: float) -> None:
        """Keep a value for `keep_s` seconds, 0 = for good."""
        now = time.monotonic()
        self._values[name] = (now + keep_s if keep_s > 0 else math.inf, value)
        if len(self._values) > self._tidy_above:
            self._values = {k: kept for k, kept in self._values.items() if kept[0] > now}
            self._tidy_above = max(TIDY_ABOVE, 2 * len(self._values))

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()


class Rests:
    """What rests, and until when; of two rests the longer holds, one of 0 seconds ends it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def rest(self, name: str, seconds: float) -> None:
        """Rest for so many seconds."""
        until = time.monotonic() + seconds
        self._until[name] = max(until, self._until.get(name, until)) if seconds > 0 else 0.0

    def left_s(self, name: str) -> float:
        """Seconds that are left; 0 where there is no rest."""
        return max(0.0, self._until.get(name, 0.0) - time.monotonic())

    def all(self) -> dict[str, float]:
        """Seconds that are left of every rest."""
        rests = {name: self.left_s(name) for name in self._until}
        return {name: seconds for name, seconds in rests.items() if seconds}
