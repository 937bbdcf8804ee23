"""Which models and plans may serve a call that waits, and which of them now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aios_eccos.serve.routes import Made, Routes
from aios_eccos.serve.vote import Planned
from aios_eccos.values import Bar, Candidate, Query, Repeat, Slots

#: How often to look for slots that another kernel freed without our hearing of it, seconds; and for
#: requests, tokens and money that others gave back.
POLL_S, LONG_POLL_S = 0.05, 1.0


@dataclass(slots=True, eq=False, kw_only=True)
class Choices:
    """What is known of where a call may go; the dispatcher alone changes it.

    Attributes:
        expires: `time.monotonic()` at which it is given up.
        router: the one that its candidate is of.
        candidate: None before there is one, and where none can be made.
        made: the requests that are over, in order.
        refused: models that refused it, and what, in words that follow their names.
        avoided: the same of models that have refused calls like it.
        barred: what limits beside slots keep it from models now.
        unplanned: why plans are closed to it, in words that follow their names; "": they are not.
        planned: its plan, once that was chosen.
        closed_by: why models were closed at the last decision, in words that follow their names.
        repeat: as in `CallResult`.
    """

    query: Query
    expires: float
    router: Routes | None = None
    candidate: Candidate | None = None
    made: list[Made] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    avoided: dict[str, str] = field(default_factory=dict)
    barred: Mapping[str, Bar] = field(default_factory=dict)
    unplanned: str = ""
    planned: Planned | None = None
    closed_by: dict[str, str] = field(default_factory=dict)
    repeat: Callable[[], Repeat] | None = None
    _best: tuple[Candidate, list[str], list[str]] | None = None

    @property
    def failed_on(self) -> list[str]:
        """The model of each request that failed and was no refusal."""
        failures = [(made.model, made.answer.failure) for made in self.made]
        return [model for model, failure in failures if failure and failure.refused is None]

    def willing(self) -> Candidate | None:
        """Its candidate, closed to what has refused it: the cheapest that is left may pass caps."""
        candidate = self.candidate
        if candidate is None or not self.refused:
            return candidate
        open_to = np.array([name not in self.refused for name in candidate.models])
        explorable = candidate.allowed if candidate.explorable is None else candidate.explorable
        return replace(
            candidate, allowed=candidate.allowed & open_to, explorable=explorable & open_to
        )

    def able(self) -> list[str]:
        """Models and plans that may serve it and have not refused it; a plan's escape after it."""
        candidate = self.candidate
        if candidate is None:
            return []
        if self.planned is not None:
            escape = self.planned.plan.escape
            tried = escape in self.refused or escape in self.failed_on
            if escape in candidate.models and not tried:
                return [escape]
        allowed = zip(candidate.models, candidate.allowed, strict=True)
        open_to = [name for name, ok in allowed if ok and name not in self.refused]
        return self._models(open_to) if self._no_plan else open_to

    @property
    def _no_plan(self) -> str:
        """Why no plan may serve it, in words that follow its name; "" if one may."""
        if self.made:
            return "is for calls of which no model was asked before"
        return self.unplanned if self.repeat is not None else "cannot compare answers to it"

    def _models(self, columns: list[str]) -> list[str]:
        """The models among some columns."""
        candidate = self.candidate
        if candidate is None or not candidate.plans:
            return columns
        return [name for name in columns if candidate.plan(name) is None]

    def _without(self, columns: list[str], models: Collection[str]) -> list[str]:
        """The columns that ask none of some models."""
        candidate = self.candidate
        if candidate is None or not models:
            return columns
        return [name for name in columns if not candidate.asks(name, models)]

    def usable(self, slots: Slots | None = None) -> list[str]:
        """Models that may serve it now.

        Those that have refused calls like it, that have failed on it, or that rest are left out
        while there are others; of models that all rest, the one that has rested most remains.
        """
        able = [name for name in self.able() if not self._kept_from(name)]
        keen = self._without(able, self.avoided) or self._models(able)
        fresh = self._without(keen, self.failed_on) or self._models(keen)
        if slots is None or not fresh:
            return self._loyal(fresh)
        awake = self._without(fresh, slots.cooling)
        if awake:
            return self._loyal(awake)
        asleep = self._models(fresh) or self._models(able)
        free = [name for name in asleep if slots.free[name] > 0] or asleep
        return [min(free, key=slots.cooling.__getitem__)] if free else []

    def models_of(self, columns: Sequence[str]) -> list[str]:
        """The models of which columns take a slot when they start."""
        candidate = self.candidate
        if candidate is None or not candidate.plans:
            return [*columns]
        plans = {name: candidate.plan(name) for name in columns}
        models = [(name,) if plan is None else plan.members for name, plan in plans.items()]
        return [*dict.fromkeys(name for some in models for name in some)]

    def _loyal(self, names: list[str]) -> list[str]:
        """Of models that may serve it now, those that its session leaves to it.

        A tool loop's own, while it can; once a stronger one, where the loop asks for that.
        """
        session, candidate = self.query.session, self.candidate
        if session is None or candidate is None or session.stay not in names:
            return names
        if session.escalates:
            success = dict(zip(candidate.models, candidate.success, strict=True))
            stronger = [name for name in names if success[name] > success[session.stay]]
            return stronger or [session.stay]
        return [session.stay]

    def _kept_from(self, name: str) -> bool:
        """Whether limits close a model to it.

        Not if they refill in its time, and it waits for its best, or its tool loop stays with it.
        """
        bar, session = self.barred.get(name), self.query.session
        if bar is None:
            return False
        stays = session is not None and session.stay == name
        spills = self.router is None or self.router.spills
        return not bar.waits or (spills and not stays) or bar.lifts >= self.expires

    def room(self, name: str, slots: Slots) -> bool:
        """Whether a model may serve it at once."""
        plan = None if self.candidate is None else self.candidate.plan(name)
        free = slots.free[name] if plan is None else slots.room(plan)
        return free > 0 and name not in self.barred

    def look_s(self, now: float) -> float:
        """Seconds until it may have a slot without our hearing of it.

        Where limits keep it from every model, until the first of them refills.
        """
        if not self.barred or any(name not in self.barred for name in self.able()):
            return POLL_S
        lifts = min(bar.lifts for bar in self.barred.values())
        return min(max(lifts - now, POLL_S), LONG_POLL_S)

    def best(self, slots: Slots, router: Routes) -> list[str]:
        """The column that it waits for under `router`, if any may serve it now."""
        usable, known = self.usable(slots), self._best
        if self.candidate is None:
            return []
        if known is None or known[0] is not self.candidate or known[1] != usable:
            name = router.preferred(self.closed(slots)) if usable else None
            known = self._best = (self.candidate, usable, [] if name is None else [name])
        return known[2]

    def closed(self, slots: Slots) -> Candidate:
        """Its candidate, closed to models that are left out now; notes why."""
        candidate = self.candidate
        if candidate is None:
            raise RuntimeError("a call reached assignment without a forecast")
        usable = set(self.usable(slots))
        why = dict.fromkeys(self.able(), "is not its session's model")
        why |= dict.fromkeys(slots.cooling, "rests after an error")
        why |= dict.fromkeys(self.failed_on, "has just failed on it")
        why |= {name: bar.words for name, bar in self.barred.items()} | self.avoided | self.refused
        for plan in candidate.plans:
            shut = [name for name in plan.models if name in why and name not in usable]
            asked = (f"would ask {name}, which {why[name]}" for name in shut)
            why[plan.name] = self._no_plan or next(asked, "is not open to it")
        self.closed_by = {name: words for name, words in why.items() if name not in usable}
        explorable = candidate.allowed if candidate.explorable is None else candidate.explorable
        willing = np.array([name not in self.closed_by for name in candidate.models])
        return replace(
            candidate,
            allowed=np.array([name in usable for name in candidate.models]),
            explorable=explorable & willing,
            # A call whose first try has failed is no place to try more, and nor is a tool loop.
            lot=None if self.made or self.query.in_tool_loop else candidate.lot,
        )
