"""A call on its way through the dispatcher, and what the dispatcher needs of a router."""

from __future__ import annotations

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
    """What is known of one call until it is settled; the dispatcher alone changes it."""

    query: Query
    run: Run
    future: Future[CallResult]
    order: tuple[int, float, int]
    expires: float
    router: Routes | None = None
    candidate: Candidate | None = None
    decision: Decision | None = None
    failed_on: set[str] = field(default_factory=set)
    attempts: int = 0
    started: float | None = None
    not_before: float = 0.0
    tries: list[Attempt] = field(default_factory=list)
    #: When the request under way began; None between requests.
    asking_since: float | None = None
    _best: tuple[Candidate, list[str], list[str]] | None = None

    def tried(self, answer: Answer, ended: float) -> None:
        """Note what the request under way came to, if there is one."""
        begun, self.asking_since = self.asking_since, None
        model = self.decision.model if self.decision is not None else None
        if begun is None or model is None:
            return
        reason = answer.failure.reason if answer.failure is not None else None
        self.tries.append(
            Attempt(
                model=model,
                seconds=max(ended - begun, 0.0),
                output_tokens=answer.output_tokens,
                failure=reason,
                signals=answer.signals,
                input_tokens=answer.input_tokens,
            )
        )

    def allowed(self) -> list[str]:
        """Models that may serve it at all, by its candidate."""
        candidate = self.candidate
        if candidate is None:
            return []
        return [name for name, ok in zip(candidate.models, candidate.allowed, strict=True) if ok]

    def usable(self, cooling: frozenset[str] = frozenset()) -> list[str]:
        """Models that may serve it now; those it failed on, or that rest, if there is no other."""
        names = self.allowed()
        fresh = [name for name in names if name not in self.failed_on] or names
        return [name for name in fresh if name not in cooling] or fresh

    def best(self, cooling: frozenset[str], router: Routes) -> list[str]:
        """The model that it waits for under `router`, if any may serve it now."""
        usable, known = self.usable(cooling), self._best
        if self.candidate is not None and (
            known is None or known[0] is not self.candidate or known[1] != usable
        ):
            name = router.preferred(self.closed(cooling)) if usable else None
            known = self._best = (self.candidate, usable, [] if name is None else [name])
        return known[2] if known is not None else []

    def closed(self, cooling: frozenset[str]) -> Candidate:
        """Its candidate, closed to models that it has failed on or that rest."""
        candidate = self.candidate
        if candidate is None:
            raise RuntimeError("a call reached assignment without a forecast")
        usable = set(self.usable(cooling))
        explorable = candidate.allowed if candidate.explorable is None else candidate.explorable
        awake = np.array([name not in cooling for name in candidate.models])
        return replace(
            candidate,
            allowed=np.array([name in usable for name in candidate.models]),
            explorable=explorable & awake,
            # A call whose first try has failed is no place to try more.
            lot=None if self.attempts else candidate.lot,
        )
