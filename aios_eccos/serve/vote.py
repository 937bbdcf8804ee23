"""A plan under way: its members' answers, and whether they are the same.

Both members are asked at once. Where the final answers are equal, the first member's is given. Else
the call goes on to the escape; what the members said is kept for the case that it gives no answer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from aios_eccos.values import Answer, Decision, Plan, Query, Repeat, Said, Vote, VoteOutcome
from aios_eccos.verdicts.normal import normal_form
from aios_eccos.workload.notes import Finite, read_note
from aios_eccos.workload.store import Ledger

#: Seconds for which plans stay closed to a kind of calls whose answers have no normal form.
CLOSED_S = 3600.0
#: Kinds that are remembered, and the note that tells all kernels of them.
KINDS_MOST, KINDS_NOTE = 300, "plans:no form"
_KNOWN = TypeAdapter(dict[str, tuple[int, Finite]])
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

    A kind is an agent with what its call needs and about how long it is; no text is kept. All
    kernels know it, by one note in the workload store.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By kind: answers without a form less those with one, at least 0; and since when.
        self._known: dict[str, tuple[int, float]] = {}

    def note(self, query: Query, outcome: VoteOutcome) -> None:
        """A plan has served such a call."""
        kind = _kind(query)
        with self._lock:
            if outcome == "no form":
                self._known[kind] = self._known.get(kind, (0, 0.0))[0] + 1, time.time()
            elif outcome != "failed" and kind in self._known:
                # One at 0 is kept as well: other kernels are to hear that it is open again.
                self._known[kind] = max(self._known[kind][0] - 1, 0), time.time()
            self._known = _newest(self._known)

    def closed(self, query: Query) -> str:
        """Why plans are closed to a call, in words that follow their names; "" if they are not."""
        with self._lock:
            count, since = self._known.get(_kind(query), (0, 0.0))
        return NO_FORM if count and since > time.time() - CLOSED_S else ""

    def share(self, ledger: Ledger) -> None:
        """Tell other kernels what is known here, and learn what they know; the newer counts.

        Raises:
            WorkloadError: the store cannot be used.
        """
        (text,) = ledger.notes([KINDS_NOTE])
        told = _newest(read_note(_KNOWN, text) or {})
        with self._lock:
            self._known = known = _newest(_newer(self._known, told))
        if known != told:  # where another has changed the note since, the next time will do
            ledger.change_note(KINDS_NOTE, text, json.dumps(known, separators=(",", ":")))


def _newest(known: dict[str, tuple[int, float]]) -> dict[str, tuple[int, float]]:
    """The newest kinds, the oldest first; without those that hold no longer, or not yet."""
    now = time.time()
    held = [item for item in known.items() if abs(item[1][1] - now) < CLOSED_S]
    held.sort(key=lambda item: item[1][1])
    return dict(held[-KINDS_MOST:])


def _newer(
    one: dict[str, tuple[int, float]], other: dict[str, tuple[int, float]]
) -> dict[str, tuple[int, float]]:
    both = [*one.items(), *other.items()]
    return dict(sorted(both, key=lambda item: item[1][1]))


def _kind(query: Query) -> str:
    bounded = query.max_output_tokens is not None
    facts = query.agent, sorted(query.needs), bounded, query.input_tokens.bit_length()
    return hashlib.blake2b(repr(facts).encode("utf-8", "replace"), digest_size=8).hexdigest()
