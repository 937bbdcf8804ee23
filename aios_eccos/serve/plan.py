"""What a batch's calls are to have, before slots are lent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from aios_eccos.decide.assign import Assigned
from aios_eccos.decide.words import explored, reason
from aios_eccos.floor.explore import Trial
from aios_eccos.values import EXPLORED, Candidate, Decision, IntArray, Lease


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a batch's calls are to have, before slots are lent.

    Attributes:
        candidates: n rows. trials: what each explores. found: the assignment.
        free: (m,) slots that it counted on.
        share_s: seconds spent, divided by n.
    """

    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    found: Assigned
    free: IntArray
    share_s: float

    def decisions(self, held: Mapping[str, Lease]) -> tuple[Decision, ...]:
        """The decisions, where the calls in `held` (by id) have their slot; the others wait."""
        solution, now = self.found.solution, time.time()
        whole = len(self.candidates) if self.found.whole else 0
        return tuple(
            Decision(
                candidate=candidate,
                model=None if lease is None else candidate.models[column],
                lease=lease,
                free=self.free,
                slot_prices=solution.slot_prices,
                status=EXPLORED if trial.column is not None else solution.status.value,
                reason=reason(candidate, int(column), lease, self.free, whole)
                if lease is None or trial.column is None
                else explored(candidate.models[trial.column], trial.chance),
                batch=len(self.candidates),
                whole=self.found.whole,
                decision_s=candidate.forecast_s + self.share_s,
                at=now,
                chances=trial.chances,
            )
            for candidate, trial, column in zip(
                self.candidates, self.trials, solution.choice, strict=True
            )
            for lease in [held.get(candidate.query.id)]
        )
