"""Savings that need no labels: a policy is served by the reference until its price has earned more.

What is known of a policy is one note in the ledger, which all kernels change together.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from aios_eccos.errors import WorkloadError
from aios_eccos.floor.course import (
    BETS,
    EARNED_AT,
    HOLD,
    STAGES,
    Course,
    Turn,
    chosen,
    copied,
    judged,
    moved,
    of_text,
    stage_allows,
    to_text,
    wealth,
)
from aios_eccos.floor.watch import Watch
from aios_eccos.workload.store import Observed

#: Begins the names of the notes.
NOTE = "earn"
#: Seconds for which a note that was read is used: other kernels' audits show so late.
FRESH_S = 1.0
#: Times that a change is tried while other kernels change the same note.
TRIES = 20
#: Shadow choices below which nothing is said of how many more it takes.
TELLING = 10


@dataclass(frozen=True, slots=True)
class Audited:
    """What one call told of a policy: an audit, or that the price would choose the reference.

    Only calls that were held for the reference by lot are a fair sample, for proof and alarm. On
    others that it served, as the price chose it, copies teach about models all the same.

    Attributes:
        call: its id.
        asked: the floor that is earned, in words; allowed: the net loss that it allows, 0..1.
        reference: the model that served, and that the others were compared with.
        shadow: the model that the price would have chosen, the reference included; None where
            there was no price yet.
        relative: model -> verdict on its copy against the reference: 1 better, 0, -1 worse.
        chances: model -> chance that its copy was made.
        judged: the models on which a judge spoke; on the others, equal normal forms did.
        held: whether the call was held for the reference by lot (`Gate.held`).
        error: the judge's error rate, as far as it is known.
        at: seconds since the epoch.
    """

    call: str
    policy: str
    asked: str
    allowed: float
    reference: str
    shadow: str | None
    relative: Mapping[str, int] = field(default_factory=dict)
    chances: Mapping[str, float] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()
    held: bool = True
    error: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a policy stands.

    Attributes:
        state: `proving` (the reference serves all), `earned` (a share is routed), `served`.
        share: of calls that are routed; hold: of those that the reference serves for good.
        shadowed: choices seen since proving began; loss: their mean loss, None without any.
        allowed: net loss that the floor allows, None where it is not known.
        needs_calls: about how many more calls until it is served; None = cannot be told, or is.
        suspects: models that may have become worse; half of their calls go to the reference.
        shift: what audits have added to the log of the price.
        calls: calls that were audited.
        models: the watch on each model that was audited.
    """

    policy: str
    state: Literal["proving", "earned", "served"] = "proving"
    share: float = 0.0
    hold: float = HOLD
    shadowed: int = 0
    loss: float | None = None
    allowed: float | None = None
    needs_calls: int | None = None
    suspects: tuple[str, ...] = ()
    shift: float = 0.0
    calls: int = 0
    models: Mapping[str, Watch] = field(default_factory=dict)


def lot_of(call: str, purpose: str) -> float:
    """A call's own uniform number in 0..1 for a purpose: the same whenever it is decided."""
    digest = hashlib.blake2b(f"{purpose}\0{call}".encode("utf-8", "replace"), digest_size=7)
    return int.from_bytes(digest.digest(), "big") / 2**56


class Earning:
    """Keeps the course of each policy; safe to use from several threads and kernels.

    Args:
        ledger: keeps the notes. clock: seconds since the epoch.
    """

    def __init__(self, ledger: Observed, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        #: One thread of this process changes notes at a time: else most would read and reckon in
        #: vain, and give up where as many of them come at once as there are tries.
        self._changing = threading.Lock()
        self._known: dict[str, tuple[float, Course]] = {}

    def standing(
        self, policy: str, asked: str = "", allowed: float | None = None, reference: str = ""
    ) -> Standing:
        """Where a policy stands; without its ledger, where it stood when that was last read.

        Args:
            asked: the floor in force, in words: what was earned for another one is void.
            allowed: the net loss that it allows; None: what the last audit went by.
            reference: the model that losses are measured by; what was earned by another is void.
        """
        course = self._course(policy).under(asked, reference)
        return standing_of(policy, course, course.allowed if allowed is None else allowed)

    def forgotten(self, policies: Iterable[str]) -> dict[str, float]:
        """Since when audits of a model count that a policy has found changed, by model."""
        since: dict[str, float] = {}
        for policy in policies:
            for model, watch in self.standing(policy).models.items():
                if watch.since:
                    since[model] = max(watch.since, since.get(model, 0.0))
        return since

    def taken(self, audit: Audited) -> list[Turn]:
        """Take what a call told into its policy's course; returns what has changed by it.

        Raises:
            WorkloadError: the ledger cannot be used, or others change the note all the time.
        """
        name = f"{NOTE}:{audit.policy}"
        with self._changing:
            for _ in range(TRIES):
                (text,) = self._ledger.notes([name])
                course, turns = after(of_text(text), audit)
                if self._ledger.change_note(name, text, to_text(course)):
                    with self._lock:
                        self._known[audit.policy] = self._clock(), course
                    return turns
        raise WorkloadError(f"the note {name} is changed by others all the time")

    def _course(self, policy: str) -> Course:
        with self._lock:
            read, course = self._known.get(policy, (-math.inf, Course()))
        if self._clock() - read < FRESH_S:
            return course
        try:
            (text,) = self._ledger.notes([f"{NOTE}:{policy}"])
        except WorkloadError:
            return course
        if self._ledger.degraded:  # what stands in for it knows of no policy
            return course
        course = of_text(text)
        with self._lock:
            self._known[policy] = self._clock(), course
        return course


def after(course: Course, audit: Audited) -> tuple[Course, list[Turn]]:
    """A policy's course after one more call, and what has changed by it."""
    if audit.shadow is None and course.reference not in ("", audit.reference):
        # The policy's price goes by another reference: a call of its own few models, or a price
        # that is still to come.
        return course, []
    course = course.under(audit.asked, audit.reference)
    course = replace(course, allowed=audit.allowed, reference=audit.reference)
    # A wrong verdict is on average minus half the right one.
    seen = 1 - 1.5 * audit.error
    losses = {model: -float(verdict) for model, verdict in audit.relative.items()}
    # Another choice than the reference shows only on calls that are held.
    seen_by = 1.0 if audit.shadow in (None, audit.reference) else 1 - course.share
    chances = {model: seen_by * audit.chances.get(model, 1.0) for model in losses}
    course = copied(course, losses, chances, audit.shadow, audit.at)
    shadow = audit.shadow
    if shadow == audit.reference:
        # Those that no lot has held are more than their share: where held calls lose more than is
        # allowed, they would hold the price down until the alarm rings.
        if audit.held or wealth(course.alarm) <= 1:
            course = moved(course, 0.0, audit.allowed)
        course = chosen(course, 0.0, audit.allowed, seen, held=audit.held)
    elif audit.held and shadow is not None and shadow in losses:
        course = moved(course, losses[shadow] / seen, audit.allowed)
        course = chosen(course, losses[shadow], audit.allowed, seen, held=True)
    else:
        return course, []
    return judged(course, shadow)


def standing_of(policy: str, course: Course, allowed: float | None = None) -> Standing:
    """What a course says of its policy."""
    proving: Literal["proving", "earned"] = "earned" if course.stage else "proving"
    return Standing(
        policy=policy,
        state="served" if course.served else proving,
        share=course.share,
        shadowed=course.shadowed,
        loss=course.losses / course.shadowed if course.shadowed else None,
        allowed=allowed,
        needs_calls=needed(course, allowed),
        suspects=tuple(name for name, watch in course.models.items() if watch.suspected),
        shift=course.shift,
        calls=course.calls,
        models=course.models,
    )


def needed(course: Course, allowed: float | None) -> int | None:
    """About how many more calls until a policy is served, if its choices go on as they did.

    None where that cannot be told: too few are seen, they lose too much, or it is served.
    """
    if allowed is None or course.served or course.shadowed < TELLING:
        return None
    worst = 0.0
    loss = course.losses / course.shadowed
    for stage in range(course.stage, len(STAGES)):
        limit = stage_allows(stage, allowed)
        sizes = [share / (1 - limit) for share in BETS]
        # A loss is 1 with the chance of its mean, else 0.
        rates = [
            max(loss, 0.0) * math.log1p(size * (limit - 1))
            + (1 - min(max(loss, 0.0), 1.0)) * math.log1p(size * limit)
            for size in sizes
        ]
        rate = max(rates)
        if rate <= 0:
            return None
        # One of the bettors has to earn for all.
        missing = math.log(EARNED_AT * len(BETS)) - math.log(wealth(course.tests[stage]))
        worst = max(worst, missing / rate)
    return math.ceil(worst / (1 - course.share))
