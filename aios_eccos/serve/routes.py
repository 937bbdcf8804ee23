"""What the dispatcher needs of a router, and a request that it has made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from aios_eccos.values import (
    Answer,
    Assignment,
    Attempt,
    Bar,
    Candidate,
    Decision,
    Query,
    Slots,
)

#: Calls a model: (model name, seconds left) -> answer. Must not raise; if it does, the call fails.
Run = Callable[[str, float], Answer]


class Routes(Protocol):
    """What the dispatcher needs of a router."""

    @property
    def spills(self) -> bool:
        """Whether a call takes another model when its best is at its limit.

        Then it is enough to offer about as many calls as there are slots. Else a call waits for
        the model that `preferred` names.
        """

    def forecast(self, queries: list[Query]) -> list[Candidate]: ...
    def slots(self, calls: int | None = None) -> Slots: ...
    def assign(self, candidates: list[Candidate], slots: Slots) -> Assignment: ...
    def preferred(self, candidate: Candidate) -> str | None: ...
    def release(self, decision: Decision, answers: Mapping[str, Answer] = ...) -> None: ...
    def bars(self, candidate: Candidate, slots: Slots) -> Mapping[str, Bar]: ...
    def rest(self, model: str, seconds: float | None) -> None: ...
    def fallback(self, query: Query, failed_on: Collection[str] = ()) -> Decision: ...
    def on_release(self, callback: Callable[[], None]) -> None: ...


class Made(NamedTuple):
    """A request to a model that is over; begun and ended by `time.monotonic()`."""

    model: str
    begun: float
    ended: float
    answer: Answer

    def attempt(self) -> Attempt:
        """The request, without what was said."""
        failure = self.answer.failure
        return Attempt(
            model=self.model,
            seconds=max(self.ended - self.begun, 0.0),
            output_tokens=self.answer.output_tokens,
            failure=failure.reason if failure is not None else None,
            signals=self.answer.signals,
            input_tokens=self.answer.input_tokens,
            cached_tokens=self.answer.cached_tokens,
        )
