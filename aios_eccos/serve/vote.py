"""A plan under way: its members' answers, and whether they are the same.

Both members are asked at once. Where the final answers are equal, the first member's is given. Else
the call goes on to the escape; what the members said is kept for the case that it gives no answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aios_eccos.values import Answer, Decision, Plan, Query, Repeat, Said, Vote, VoteOutcome
from aios_eccos.verdicts.normal import normal_form

#: Seconds for which plans stay closed to a kind of calls whose answers have no normal form.
CLOSED_S = 3600.0
#: Kinds that are remembered.
KINDS_MOST = 1000
NO_FORM = "gave such calls no answers to compare, lately"


@dataclass(slots=True, eq=False)
class Planned:
    """What is known of a call's plan; the call's owner locks.

    Attributes:
        decision: the one that chose the plan.
        repeat: asks its members but the first, and reads answers; None once they were compared.
        closed: why columns were closed at that decision, in words that follow their names.
        outcome: of the comparison; None before.
    """

    plan: Plan
    decision: Decision
    repeat: Repeat | None
    closed: Mapping[str, str]
    outcome: VoteOutcome | None = None

    def compare(self, answers: Mapping[str, Answer]) -> VoteOutcome:
        """Compare the members' answers, by model; takes up to half a second."""
        repeat, self.repeat = self.repeat, None
        self.outcome = "failed"  # should comparing itself fail
        if repeat is not None:
            found = [answers.get(name, Answer()) for name in self.plan.members]
            self.outcome = compared(found, repeat.said)
        return self.outcome

    def vote(self, answered_by: str | None) -> Vote:
        """What is told of it once the call is over."""
        members, escape = self.plan.members, self.plan.escape
        return Vote(members, escape, self.outcome or "failed", answered_by)


def compared(answers: list[Answer], said: Said) -> VoteOutcome:
    """Whether answers are the same, as far as that can be told."""
    if any(each.value is None or each.failure is not None for each in answers):
        return "failed"
    if any(each.signals.truncated for each in answers):
        return "failed"  # a final answer that was cut off may look like another
    forms = [normal_form(*said(each.value)) for each in answers]
    if None in forms:
        return "no form"
    return "agreed" if len(set(forms)) == 1 else "differed"


class Kinds:
    """Kinds of calls by whether their answers could be compared. Safe to use from any thread.

    A kind is an agent with what its call needs and about how long it is; no text is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By kind: answers without a form less those with one, at least 0; and until when it holds.
        self._without: dict[tuple[object, ...], tuple[int, float]] = {}

    def note(self, query: Query, outcome: VoteOutcome) -> None:
        """A plan has served such a call."""
        if outcome == "failed":
            return
        kind = _kind(query)
        with self._lock:
            count, _ = self._without.pop(kind, (0, 0.0))
            count += 1 if outcome == "no form" else -1
            if count > 0:
                self._without[kind] = count, time.monotonic() + CLOSED_S
            while len(self._without) > KINDS_MOST:
                del self._without[next(iter(self._without))]

    def closed(self, query: Query) -> str:
        """Why plans are closed to a call, in words that follow their names; "" if they are not."""
        with self._lock:
            _, until = self._without.get(_kind(query), (0, 0.0))
        return NO_FORM if until > time.monotonic() else ""


def _kind(query: Query) -> tuple[object, ...]:
    bounded = query.max_output_tokens is not None
    return query.agent, tuple(sorted(query.needs)), bounded, query.input_tokens.bit_length()
