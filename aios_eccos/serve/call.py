"""A call on its way through the dispatcher, and what the dispatcher needs of a router."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from aios_eccos.values import (
    Answer,
    Assignment,
    Attempt,
    CallResult,
    Candidate,
    Decision,
    Failure,
    Query,
    Slots,
)

#: Calls a model: (model name, seconds left) -> answer. Must not raise; if it does, the call fails.
Run = Callable[[str, float], Answer]


class Routes(Protocol):
    """What the dispatcher needs of a router.

    Attributes:
        spills: whether a call takes another model when its best is at its limit. Then it is enough
            to offer about as many calls as there are slots. Else it waits for the one that
            `preferred` names.
    """

    @property
    def spills(self) -> bool: ...

    def forecast(self, queries: list[Query]) -> list[Candidate]: ...
    def slots(self) -> Slots: ...
    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment: ...
    def preferred(self, candidate: Candidate) -> str | None: ...
    def release(self, decision: Decision) -> None: ...
    def rest(self, model: str, seconds: float | None) -> None: ...
    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision: ...
    def on_release(self, callback: Callable[[], None]) -> None: ...


@dataclass(slots=True, eq=False)
class Call:
    """What is known of one call until it is settled; the dispatcher alone changes it.

    Attributes:
        expires: `time.monotonic()` at which it is given up.
        router: the one that its candidate is of.
        candidate: None before there is one, and where none can be made.
        answer: of the last request.
        failed_on: models that failed on it.
        refused: models that refused it, and what, in words that follow their names.
        avoided: the same of models that have refused calls like it.
        attempts, failures: requests made, and those of them that failed and were no refusals.
        not_before: `time.monotonic()` before which it is not tried again.
        asking_since: when the request under way began; None between requests.
        closed_by: why models were closed at the last decision, in words that follow their names.
    """

    query: Query
    run: Run
    future: Future[CallResult]
    order: tuple[int, float, int]
    expires: float
    router: Routes | None = None
    candidate: Candidate | None = None
    decision: Decision | None = None
    answer: Answer | None = None
    failed_on: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    avoided: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    started: float | None = None
    not_before: float = 0.0
    tries: list[Attempt] = field(default_factory=list)
    asking_since: float | None = None
    closed_by: dict[str, str] = field(default_factory=dict)
    _best: tuple[Candidate, list[str], list[str]] | None = None

    def tried(self, answer: Answer, ended: float) -> None:
        """Note what the request under way came to, if there is one."""
        begun, self.asking_since = self.asking_since, None
        model = self.decision.model if self.decision is not None else None
        if begun is None or model is None:
            return
        self.answer = answer
        self.tries.append(
            Attempt(
                model=model,
                seconds=max(ended - begun, 0.0),
                output_tokens=answer.output_tokens,
                failure=answer.failure.reason if answer.failure is not None else None,
                signals=answer.signals,
                input_tokens=answer.input_tokens,
            )
        )

    def result(self, answer: Answer) -> CallResult:
        """What is told of the call once it is over."""
        now = time.monotonic()
        self.tried(answer, now)
        return CallResult(
            query=self.query,
            answer=answer,
            decision=self.decision,
            attempts=self.attempts,
            waited_s=(self.started or now) - self.query.arrived,
            served_s=now - self.started if self.started is not None else 0.0,
            tries=tuple(self.tries),
            closed=self.closed_by,
        )

    def refused_by(self, model: str, failure: Failure) -> None:
        """Its server refuses it; if for its length, that is now known to be more than forecast."""
        self.refused[model] = f"refused it: {failure.reason}"
        if failure.refused == "context" and failure.window is not None:
            least = failure.window + 1 - (self.query.max_output_tokens or 0)
            if least > self.query.input_tokens:
                self.query = replace(self.query, input_tokens=least)
                self.router = None  # it is forecast anew

    def able(self) -> list[str]:
        """Models that may serve it and have not refused it."""
        candidate = self.candidate
        if candidate is None:
            return []
        allowed = zip(candidate.models, candidate.allowed, strict=True)
        return [name for name, ok in allowed if ok and name not in self.refused]

    def usable(self, slots: Slots | None = None) -> list[str]:
        """Models that may serve it now.

        Those that have refused calls like it, that have failed on it, or that rest are left out
        while there are others; of models that all rest, the one that has rested most remains.
        """
        able = self.able()
        keen = [name for name in able if name not in self.avoided] or able
        fresh = [name for name in keen if name not in self.failed_on] or keen
        if slots is None or not fresh:
            return fresh
        awake = [name for name in fresh if name not in slots.cooling]
        free = [name for name in fresh if slots.free[name] > 0] or fresh
        return awake or [min(free, key=slots.cooling.__getitem__)]

    def best(self, slots: Slots, router: Routes) -> list[str]:
        """The model that it waits for under `router`, if any may serve it now."""
        usable, known = self.usable(slots), self._best
        if self.candidate is not None and (
            known is None or known[0] is not self.candidate or known[1] != usable
        ):
            name = router.preferred(self.closed(slots)) if usable else None
            known = self._best = (self.candidate, usable, [] if name is None else [name])
        return known[2] if known is not None else []

    def closed(self, slots: Slots) -> Candidate:
        """Its candidate, closed to models that are left out now; notes why."""
        candidate = self.candidate
        if candidate is None:
            raise RuntimeError("a call reached assignment without a forecast")
        usable = set(self.usable(slots))
        why = dict.fromkeys(slots.cooling, "rests after an error")
        why |= dict.fromkeys(self.failed_on, "has just failed on it") | self.avoided | self.refused
        self.closed_by = {name: words for name, words in why.items() if name not in usable}
        explorable = candidate.allowed if candidate.explorable is None else candidate.explorable
        willing = np.array([name not in self.closed_by for name in candidate.models])
        return replace(
            candidate,
            allowed=np.array([name in usable for name in candidate.models]),
            explorable=explorable & willing,
            # A call whose first try has failed is no place to try more.
            lot=None if self.attempts else candidate.lot,
        )
