"""Decisions: as a round makes them, and for waiting calls, whatever happens to the router."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from aios_eccos.decide.assign import Assigned
from aios_eccos.decide.words import explored, held, reason
from aios_eccos.errors import raised
from aios_eccos.floor.explore import Trial
from aios_eccos.serve.call import Call
from aios_eccos.serve.routes import Routes
from aios_eccos.values import EXPLORED, HELD, Candidate, Decision, Gate, IntArray, Lease, Slots

log = logging.getLogger("aios_eccos.serve.decisions")

Found = TypeVar("Found")
#: A call with its decision; None = not even AIOS's own choice could be made.
Decided: TypeAlias = tuple[Call, Decision | None]

#: Seconds in which a lasting fault is logged once.
COMPLAINT_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What a batch's calls are to have, before slots are lent.

    Attributes:
        candidates: n rows. trials: what each explores. found: the assignment.
        gates: how far each could be routed, if that is limited.
        rule: (n,) columns that the rule chooses where every slot is free.
        free: (m,) slots that it counted on.
        share_s: seconds spent, divided by n.
    """

    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    gates: tuple[Gate | None, ...]
    found: Assigned
    rule: IntArray
    free: IntArray
    share_s: float

    def decision(self, row: int, leases: tuple[Lease, ...]) -> Decision:
        """The decision for a call that has its slots, or, without one, has to wait."""
        candidate, trial, solution = self.candidates[row], self.trials[row], self.found.solution
        column, batch, gate = int(solution.choice[row]), len(self.candidates), self.gates[row]
        status = solution.status.value if trial.column is None else EXPLORED
        lease = leases[0] if leases else None
        if lease is not None and trial.column is not None:
            why = explored(candidate.models[column], trial.chance)
        elif lease is not None and gate is not None and gate.instead:
            status, why = HELD, held(gate.shadow or "", gate.chance)
        else:
            whole, rule = batch if self.found.whole else 0, int(self.rule[row])
            why = reason(candidate, column, lease, self.free, whole, rule)
        return Decision(
            candidate=candidate,
            model=None if lease is None else candidate.models[column],
            leases=leases,
            free=self.free,
            slot_prices=solution.slot_prices,
            status=status,
            reason=why,
            batch=batch,
            whole=self.found.whole,
            decision_s=candidate.forecast_s + self.share_s,
            at=time.time(),
            chances=trial.chances,
            gate=gate,
        )


class Decisions:
    """Asks a router for decisions; remembers what it has complained of.

    Calls are decided together. Where that fails, each is decided alone, as one may have spoiled it
    for all; where that fails too, AIOS's own choice serves.
    """

    def __init__(self) -> None:
        self._complaint = "", 0.0

    def forecast(self, calls: list[Call], router: Routes) -> list[Call]:
        """Give calls their candidates; returns those of which none can be made."""

        def forecast(group: list[Call]) -> list[Candidate | None]:
            return [*router.forecast([call.query for call in group])]

        found = self._together(forecast, calls, lambda call: None)
        for call, candidate in zip(calls, found, strict=True):
            call.candidate = candidate
            call.router = None if candidate is None else router
        return [call for call in calls if call.candidate is None]

    def assign(self, calls: list[Call], slots: Slots, router: Routes) -> list[Decided]:
        """A decision for each call; what it lends is the caller's to give back."""

        def assign(group: list[Call]) -> list[Decided]:
            found = router.assign([call.closed(slots) for call in group], slots).decisions
            return [*zip(group, found, strict=True)]

        return self._together(assign, calls, lambda call: fallback(call, router))

    def complain(self, error: BaseException) -> None:
        """Say that nothing could be decided, but not with every look at the calls that wait."""
        fault, (before, until) = raised(error), self._complaint
        if fault != before or time.monotonic() > until:
            log.error("no decision (%s); waiting calls go to the first model they allow", fault)
            self._complaint = fault, time.monotonic() + COMPLAINT_S

    def _together(
        self,
        work: Callable[[list[Call]], list[Found]],
        calls: list[Call],
        instead: Callable[[Call], Found],
    ) -> list[Found]:
        """The work's results for all calls, or for each alone, or what stands in for one."""
        if not calls:
            return []
        try:
            return work(calls)
        except BaseException as error:  # noqa: BLE001 - the calls must be served all the same
            self.complain(error)
        if len(calls) == 1:
            return [instead(calls[0])]
        return [found for call in calls for found in self._together(work, [call], instead)]


def fallback(call: Call, router: Routes) -> Decided:
    """AIOS's own choice for a call that cannot be decided."""
    try:
        return call, router.fallback(call.query, {*call.failed_on, *call.refused})
    except BaseException as error:  # noqa: BLE001 - the other calls must be served
        log.error("the fallback failed too: %s", raised(error))
        return call, None
