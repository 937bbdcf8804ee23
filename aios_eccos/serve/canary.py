"""Mode `canary`: a share of the conversations is routed, the rest is served as without the plugin.

It ends by itself: all are routed once enough calls have shown that routing fails no more often, and
none is once it does, or a floor's alarm goes on. All kernels on one Redis share how it stands.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import TypeAdapter

from aios_eccos.config import Settings
from aios_eccos.errors import WorkloadError
from aios_eccos.floor.alarm import Alarm
from aios_eccos.metrics import success_rate
from aios_eccos.serve.events import note_canary
from aios_eccos.serve.observers import Kept
from aios_eccos.workload.notes import Finite, read_note
from aios_eccos.workload.periods import KEPT_S, PeriodSums
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.canary")

Stands = Literal["trial", "promoted", "rolled back"]
NOTE = "canary"
ARMS = ("routed", "routed_failed", "control", "control_failed")
#: Calls of each arm before it is promoted, and the share of failures that is no matter then.
CALLS_LEAST, NO_MATTER = 200, 0.02
#: Times the control's share of failures that is too many.
TOO_MANY = 2.0
#: Failures of routed calls before it is rolled back for them, and the evidence wanted: chance
#: reaches it with probability 1 / EVIDENCE at most, however often one looks (Ville's inequality).
FAILURES_LEAST, EVIDENCE = 5, 20.0
#: Failures that are the agent's own: its call is private, names no model, or has been given up.
OWN = (403, 404, 499)
GRID = 400


_Plain = tuple[Finite, Stands, str]
_STATE = TypeAdapter(_Plain | tuple[Finite, Stands, str, dict[str, Finite]])


@dataclass(frozen=True, slots=True)
class State:
    """How the canary stands.

    Attributes:
        run: when it began, seconds since the epoch.
        known: the evidence of alarms that were on then, by policy: what comes after counts.
    """

    run: float
    stands: Stands = "trial"
    why: str = ""
    known: Mapping[str, float] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps([self.run, self.stands, self.why, *filter(None, [self.known])])

    def is_broken_by(self, alarm: Alarm) -> bool:
        """Whether an alarm has gone on since it began.

        The wealth over that of any day before is a test martingale, too.
        """
        known = self.known.get(alarm.policy)
        return alarm.broken and (known is None or alarm.e_value >= known * alarm.alarm_at)

    @classmethod
    def of(cls, note: str | None) -> State | None:
        """The inverse; None for what is none."""
        known = read_note(_STATE, note)
        return None if known is None else cls(*known)


class Canary:
    """Says which conversations are routed, and judges how that goes.

    Args:
        ledger: holds the counts and how it stands.
        alarms: reads the floors' alarms. settings: those in force.
    """

    def __init__(
        self, ledger: Ledger, alarms: Callable[[], list[Alarm]], settings: Callable[[], Settings]
    ) -> None:
        self._ledger, self._alarms, self._settings = ledger, alarms, settings
        self._state: State | None = None

    def routes(self, lot: float) -> bool:
        """Whether a conversation of this lot, 0..1, is routed; none while nothing is known."""
        state = self._state
        if state is None or state.stands == "rolled back":
            return False
        return state.stands == "promoted" or lot < self._settings().canary_share

    def begin(self) -> None:
        """Begin anew, whatever has come of it before."""
        state = State(time.time())
        try:
            on = {alarm.policy: alarm.e_value for alarm in self._alarms() if alarm.broken}
            state = replace(state, known=on)
            before = State.of(self._ledger.swap_note(NOTE, state.text()))
            note_canary(self._ledger, before.stands if before else None, "trial", "begun")
        except WorkloadError as error:
            log.warning("the canary begins in this kernel alone: %s", error)
        self._state = state

    def take(self, calls: Sequence[Kept]) -> None:
        """Count settled calls, by arm.

        Raises:
            WorkloadError: the ledger cannot be used.
        """
        state, counts = self._state, Counter[str]()
        if self._settings().mode != "canary" or state is None:
            return
        for call in calls:
            trace = call.trace
            if trace.failure is None or trace.status_code not in OWN:
                arm = "control" if trace.mode == "observe" else "routed"
                counts.update({arm: 1, f"{arm}_failed": int(trace.failure is not None)})
        if counts:
            amounts = {name: float(count) for name, count in counts.items()}
            self._ledger.add_sums([PeriodSums(_period(state), KEPT_S["d"], amounts)])

    def look(self) -> None:
        """See how it stands, and whether that is to change; nothing is known anew without Redis."""
        try:
            if self._settings().mode == "canary":
                self._look()
        except WorkloadError as error:
            log.debug("how the canary stands is not known: %s", error)

    def _look(self) -> None:
        (note,) = self._ledger.notes([NOTE])
        if State.of(note) is None:
            if self._ledger.change_note(NOTE, note, State(time.time()).text()):
                note_canary(self._ledger, None, "trial", "begun")
            (note,) = self._ledger.notes([NOTE])  # another kernel may have begun it
        self._state = state = State.of(note)
        if state is not None and state.stands != "rolled back":
            after = self._judged(state)
            if after != state and self._ledger.change_note(NOTE, note, after.text()):
                self._state = after
                note_canary(self._ledger, state.stands, after.stands, after.why)

    def figures(self) -> dict[str, Any] | None:
        """What `status` shows; None in other modes, and while nothing is known."""
        state, settings = self._state, self._settings()
        if settings.mode != "canary" or state is None:
            return None
        found = {"stands": state.stands, "why": state.why, "since": state.run}
        return {**found, "share": settings.canary_share, **self._counts(state)}

    def _counts(self, state: State) -> dict[str, int]:
        """Calls and failures of both arms; of none where the ledger cannot be used."""
        try:
            (sums,) = self._ledger.sums([_period(state)])
        except WorkloadError:
            sums = {}
        return {name: round(sums.get(name, 0.0)) for name in ARMS}

    def _judged(self, state: State) -> State:
        """How it stands by what is known now."""
        broken = [alarm for alarm in self._alarms() if state.is_broken_by(alarm)]
        if broken:
            whose = broken[0].policy
            why = f"the floor of agents {whose} is not kept" if whose else "the floor is not kept"
            return replace(state, stands="rolled back", why=why)
        calls, failed, others, their = self._counts(state).values()
        if state.stands != "trial":
            return state
        figures = f"{failed} of {calls} routed calls failed, {their} of {others} others"
        if fails_more(calls, failed, others, their):
            return replace(state, stands="rolled back", why=figures)
        rate = success_rate(failed, calls)
        if rate is None or rate.high is None or min(calls, others) < CALLS_LEAST:
            return state
        fine = rate.high <= max(TOO_MANY * their / others, NO_MATTER)
        return replace(state, stands="promoted", why=figures) if fine else state


def fails_more(calls: float, failed: float, others: float, their: float) -> bool:
    """Whether so many failures of routed calls show more than `TOO_MANY` times the control's share.

    Given a failure, it is a routed call's with probability p <= p0 while they do not. The evidence
    is the likelihood ratio against p0, mixed evenly over larger p (a test martingale).
    """
    if failed < FAILURES_LEAST or others <= 0:
        return False
    p0 = TOO_MANY * calls / (TOO_MANY * calls + others)
    step = (1 - p0) / GRID
    total = 0.0
    for i in range(GRID):
        p = p0 + (i + 0.5) * step
        ratio = failed * math.log(p / p0) + their * math.log((1 - p) / (1 - p0))
        total += math.exp(min(ratio, 700.0)) / GRID
    return total >= EVIDENCE


def _period(state: State) -> str:
    return f"canary{state.run!r}"
