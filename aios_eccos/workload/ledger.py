"""What kernels remember together beside their load: decisions, sums by period, events, notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

#: About how many decisions and events are kept.
DECISIONS_KEPT, EVENTS_KEPT = 10_000, 1_000


@dataclass(frozen=True, slots=True)
class PeriodSums:
    """Amounts to add to the sums of one period.

    Attributes:
        period: its name; the caller's own scheme.
        keep_s: seconds after the last addition until the period's sums are dropped; 0 = never.
        amounts: finite numbers by name of the sum.
    """

    period: str
    keep_s: float
    amounts: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, amount in self.amounts.items():
            if not math.isfinite(amount):
                raise ValueError(f"cannot add {amount} to {name!r}")


class Decisions(Protocol):
    """The capped stream of all kernels' decisions."""

    def append_decision(self, fields: Mapping[str, str], *, once: str = "") -> str:
        """Add a decision; returns its id."""

    def decisions(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` decisions with their ids, newest first."""

    def decision(self, identity: str) -> dict[str, str] | None:
        """One decision by its id; None if it is not, or no longer, kept."""


class Ledger(Protocol):
    """Sums by period, the capped stream of events, and short notes."""

    def add_sums(self, additions: Sequence[PeriodSums], *, once: str = "") -> None:
        """Add to the sums of several periods, atomically and in one round trip."""

    def sums(self, periods: Sequence[str]) -> list[dict[str, float]]:
        """The sums of each period, empty where there are none."""

    def append_event(self, fields: Mapping[str, str], *, once: str = "") -> str:
        """Add an event; returns its id."""

    def events(self, n: int) -> list[tuple[str, dict[str, str]]]:
        """The last `n` events with their ids, newest first."""

    def swap_note(
        self, name: str, value: str, keep_s: float = 0.0, *, once: str = ""
    ) -> str | None:
        """Set a note for `keep_s` seconds (0 = for good) and return what stood there before."""

    def notes(self, names: Sequence[str]) -> list[str | None]:
        """The notes of these names, None where there is none."""
