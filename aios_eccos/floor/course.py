"""How far a policy has come in earning that its calls are routed: pure steps, an audit each.

A loss is how much worse than the reference's a model's answer is: 1, 0 or -1. Of each stage,
bettors put shares b of their wealth on the loss of the shadow choice being lower than allowed:
E *= 1 + b (L - loss). While the loss is L or more on average, E cannot be expected to grow, so by
Ville's inequality it ever reaches 1/delta with chance delta at most, however often one looks
(Ramdas et al., arXiv 2210.01948). Bettors of other shares hand on some wealth to each other
(Herbster and Warmuth 1998): what the first choices lost does not bind those that learned from it.
A stage that routes a share s of calls allows its shadow choices a loss of L = allowed / s, as s
times that is what the policy loses. Bettors for the contrary are the alarm.

Of a call that is routed no loss is known. So a loss counts 1 / (1 - s), by the chance that it was
seen with; where the reference is chosen, none can occur, so all those calls count.

Whether a model has become worse is watched by a CUSUM (Page 1954) of how often it is, when chosen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any, Literal

from aios_eccos.floor.watch import CHANGED, Watch

#: Share of calls that the reference serves even when all may be routed: the sample that control,
#: alarm and CUSUM rest on; and that of calls whose choice is a suspected model.
HOLD, HOLD_SUSPECT = 0.1, 0.5
#: Shares of calls routed, by stage that was reached; of the last one on, a policy is served.
STAGES = (0.1, 0.3, 1 - HOLD)
#: Wealth at which a stage is reached (90 % confidence), and at which the alarm rings (95 %).
EARNED_AT, ALARM_AT = 10.0, 20.0
#: Shares of the wealth that are bet, in the largest that a bettor survives, and the alarm's.
BETS, ALARM_BETS = (0.3, 0.9), (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
#: Share of its wealth that a stage's bettor hands on at each call, in equal parts to all; and the
#: cap of a bettor's wealth.
HANDED_ON, LOG_MOST = 0.02, math.log(1e9)
NO_BETS, NO_ALARM = (0.0,) * len(BETS), (0.0,) * len(ALARM_BETS)
#: Most that a stage may allow: above, any loss would pass.
ALLOWED_MOST = 0.9
#: What an audited choice adds to the log of the price while served, per loss; and the log's ends.
STEP, SHIFT_LEAST, SHIFT_MOST = 0.1, -2.0, 4.0

TurnKind = Literal["raised", "served", "changed", "alarm"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What an audit has changed: a stage reached, a model found changed, the alarm."""

    kind: TurnKind
    share: float
    model: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """How far one policy has come.

    Attributes:
        asked: the floor that is earned, in words. allowed: the net loss that it allowed at the
            last audit; None before. reference: the model that losses are measured by.
        stage: stages reached, 0 to 3; with all of them the policy is served.
        tests: for each stage, the logs of its bettors' wealth.
        alarm: those of the alarm; starts: audits that it has seen.
        shift: what audited choices have added to the log of the price while served.
        calls: calls of which copies were made.
        shadowed, losses: choices seen since the tests began, and the sum of their losses.
        models: the watch on each model that was audited.
    """

    asked: str = ""
    allowed: float | None = None
    reference: str = ""
    stage: int = 0
    tests: tuple[tuple[float, ...], ...] = (NO_BETS,) * len(STAGES)
    alarm: tuple[float, ...] = NO_ALARM
    shift: float = 0.0
    calls: int = 0
    shadowed: int = 0
    losses: float = 0.0
    models: dict[str, Watch] = field(default_factory=dict)

    @property
    def served(self) -> bool:
        return self.stage == len(STAGES)

    @property
    def share(self) -> float:
        """Share of calls that may be routed."""
        return STAGES[self.stage - 1] if self.stage else 0.0

    def under(self, asked: str, reference: str) -> Course:
        """This course, or a new one: another floor is earned anew, and by another reference.

        What is known of the models stays under another floor alone. "" = whichever it is.
        """
        if reference not in ("", self.reference) and self.reference:
            return Course(asked, reference=reference)
        if asked not in ("", self.asked):
            return replace(self, asked=asked).restarted(0)
        return self

    def restarted(self, stage: int) -> Course:
        """Proving anew from a stage on; what is known of the models stays."""
        return replace(
            Course(self.asked, self.allowed, self.reference, stage),
            calls=self.calls,
            models=self.models,
        )


def bet(
    logs: tuple[float, ...], allowed: float, loss: float, bound: float = 1.0, *, low: bool
) -> tuple[float, ...]:
    """The logs of wealth after one more loss; `low`: bet on less than is allowed.

    Args:
        bound: the loss lies between this and its negative, and is `allowed` at most.
    """
    sign, shares = (1, BETS) if low else (-1, ALARM_BETS)
    gain = sign * (allowed - loss) / (bound - sign * allowed)
    grown = [log + math.log1p(b * gain) for log, b in zip(logs, shares, strict=True)]
    if low:
        equal = HANDED_ON * wealth(tuple(grown))
        grown = [math.log((1 - HANDED_ON) * math.exp(log) + equal) for log in grown]
    return tuple(min(log, LOG_MOST) for log in grown)


def wealth(logs: tuple[float, ...]) -> float:
    """The wealth of all bettors, 1 at the start."""
    return math.fsum(math.exp(log) for log in logs) / len(logs)


def stage_allows(stage: int, allowed: float) -> float:
    """The loss that a stage allows its shadow choices, when the policy is allowed so much."""
    return min(allowed / STAGES[stage], ALLOWED_MOST)


def copied(
    course: Course,
    losses: dict[str, float],
    chances: Mapping[str, float],
    shadow: str | None,
    at: float,
) -> Course:
    """With the losses of models whose copies were compared on one call, each drawn by chance."""
    models = dict(course.models)
    for model, loss in losses.items():
        watch = models.get(model, Watch())
        models[model] = watch.audited(loss, at, chances[model], chosen=model == shadow)
    return replace(course, calls=course.calls + bool(losses), models=models)


def chosen(course: Course, loss: float, allowed: float, seen: float, *, held: bool) -> Course:
    """With the loss of the shadow choice on one call, 0 where that is the reference itself.

    Args:
        seen: what a loss of 1 comes to on average by a judge that errs.
        held: whether the call was held by lot: the alarm goes by these alone, as it may not count
            calls without loss where it does not count the others.
    """
    tests, alarm = course.tests, course.alarm
    if not course.served:
        weight = 1 / (seen * (1 - course.share))
        tests = tuple(
            bet(logs, stage_allows(stage, allowed), loss * weight, weight, low=True)
            for stage, logs in enumerate(tests)
        )
    if not held:
        return replace(course, tests=tests)
    if course.stage:
        alarm = bet(alarm, allowed, loss / seen, 1 / seen, low=False)
    return replace(
        course,
        tests=tests,
        alarm=alarm,
        shadowed=course.shadowed + 1,
        losses=course.losses + loss / seen,
    )


def moved(course: Course, loss: float, allowed: float) -> Course:
    """With the price moved by the loss of a shadow choice, while the policy is served.

    Every call on which the price chooses the reference moves it down a little, of the others only
    those that are held: so a price that is often dearer than it need be, as one from few audits
    is, comes down until held calls lose more than is allowed (the alarm's bets gain); from then on
    held calls alone move it. What that may cost is measured in
    `lab.onboarding`; proof and alarm go by the fair sample alone.
    """
    if not course.served:
        return course
    shift = course.shift + STEP * (loss - stage_allows(len(STAGES) - 1, allowed))
    return replace(course, shift=min(max(shift, SHIFT_LEAST), SHIFT_MOST))


def judged(course: Course, shadow: str | None) -> tuple[Course, list[Turn]]:
    """What follows from the evidence: back where a model changed or the floor broke, else on."""
    turns = []
    watch = course.models.get(shadow or "", Watch())
    if shadow is not None and watch.drift > CHANGED:
        course = replace(course, models={**course.models, shadow: watch.forgotten()})
        if course.stage > 1:
            course = course.restarted(1)
        turns.append(Turn("changed", course.share, shadow))
    while not course.served:
        if wealth(course.tests[course.stage]) < EARNED_AT:
            break
        course = replace(course, stage=course.stage + 1)
        if course.served:
            course = replace(course, alarm=NO_ALARM, shift=0.0)
        turns.append(Turn("served" if course.served else "raised", course.share))
    if course.stage and wealth(course.alarm) >= ALARM_AT:
        course = course.restarted(0)
        turns.append(Turn("alarm", 0.0))
    return course, turns


def to_text(course: Course) -> str:
    return json.dumps(asdict(course), separators=(",", ":"))


def of_text(text: str | None) -> Course:
    """Inverse of `to_text`; a new course where there is none, or one of another version."""
    if text is None:
        return Course()
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["tests"] = tuple(tuple(logs) for logs in raw["tests"])
        raw["alarm"] = tuple(raw["alarm"])
        raw["models"] = {name: _watch(watch) for name, watch in raw["models"].items()}
        course = Course(**raw)
        return course if _sound(course) else Course()
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
        return Course()


def _sound(course: Course) -> bool:
    """Whether a course can be gone on with: calls are decided by it.

    Raises:
        TypeError: something in it is no number.
    """
    bets = [*course.tests, course.alarm]
    sizes = [len(logs) for logs in bets]
    watches = [astuple(watch) for watch in course.models.values()]
    numbers = [course.allowed or 0.0, course.shift, course.calls, course.shadowed, course.losses]
    numbers += [log for logs in bets for log in logs]
    numbers += [each for watch in watches for each in _numbers(watch)]
    known = sizes == [len(BETS)] * len(STAGES) + [len(ALARM_BETS)]
    return known and course.stage in range(len(STAGES) + 1) and all(map(math.isfinite, numbers))


def _numbers(value: Any) -> list[Any]:
    """What stands in nested tuples."""
    return [n for each in value for n in _numbers(each)] if isinstance(value, tuple) else [value]


def _watch(raw: dict[str, Any]) -> Watch:
    return Watch(**{**raw, "recent": tuple((at, loss) for at, loss in raw["recent"])})
