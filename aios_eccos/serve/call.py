"""A call on its way through the dispatcher: what it asks, and what came of that."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from aios_eccos.serve.choices import Choices
from aios_eccos.serve.routes import Made, Run
from aios_eccos.values import (
    Answer,
    CallResult,
    Decision,
    Failure,
)

#: Tries of a call that has other models, refusals not counted.
TRIES_MOST = 2
#: Waits before the first and the second repetition on the same model, seconds (plus jitter).
PINNED_BACKOFF_S = (0.5, 2.0)


@dataclass(slots=True, eq=False, kw_only=True)
class Call(Choices):
    """What is known of one call until it is settled; the dispatcher alone changes it.

    Attributes:
        asking: when each request under way began, by model.
        not_before: `time.monotonic()` before which it is not tried again.
        dropped: whether nobody waits for its answer any more, so that no other model is asked.
    """

    run: Run
    future: Future[CallResult]
    decision: Decision | None = None
    asking: dict[str, float] = field(default_factory=dict)
    not_before: float = 0.0
    dropped: bool = False

    def tried(self, model: str, answer: Answer, ended: float) -> None:
        """Note what a request under way came to, if it is still under way."""
        begun = self.asking.pop(model, None)
        if begun is not None:
            self.made.append(Made(model, begun, ended, answer))

    def ask(self, model: str, seconds: float) -> Answer:
        """Ask a model; a plan's members each in a request of its own."""
        planned = self.planned
        repeat = None if planned is None or model == planned.plan.members[0] else planned.repeat
        return (self.run if repeat is None else repeat.ask)(model, seconds)

    @property
    def votes(self) -> bool:
        """Whether a plan's members have been asked, and their answers are to be compared."""
        return self.planned is not None and self.planned.outcome is None

    @property
    def said(self) -> dict[str, Answer]:
        """By model, the good answers so far; those of a plan's members in its order."""
        good = {made.model: made.answer for made in self.made if made.answer.failure is None}
        first = () if self.planned is None else self.planned.plan.members
        return {name: good[name] for name in (*first, *good) if name in good}

    def tries_again(self) -> bool:
        """Whether the last request is followed by another: elsewhere, or twice on the only model.

        A plan's are followed by its escape's, unless they agreed. To be asked once: notes a
        refusal, and in `not_before` until when the call has to wait.
        """
        planned, before = self.planned, 0
        if self.dropped:
            return False
        if planned is not None:
            members = self.made[: len(planned.plan.members)]
            if len(self.made) == len(members):
                return planned.outcome != "agreed" and self._escapes(members)
            if self.said:
                return False
            before = sum(made.model in self.failed_on for made in members)
        model, _, _, answer = self.made[-1]
        failure, failures = answer.failure, len(self.failed_on) - before
        if failure is None:
            return False
        if failure.refused is not None:
            self._refused_by(model, failure)
            return bool(self.able())
        if not (failure.retryable or failure.elsewhere):
            return False
        if self.usable() != [model]:
            return failures < TRIES_MOST
        if failure.elsewhere or failures > len(PINNED_BACKOFF_S):
            return False
        pause = failure.retry_after_s
        if pause is None:
            pause = PINNED_BACKOFF_S[failures - 1] * random.uniform(1.0, 1.25)
        self.not_before = time.monotonic() + pause
        return self.not_before < self.expires

    def _escapes(self, members: list[Made]) -> bool:
        """Whether another model may do better than a plan's members did."""
        failures = [(made.model, made.answer.failure) for made in members]
        for model, failure in failures:
            if failure is not None and failure.refused is not None:
                self._refused_by(model, failure)
        hopeless = all(f and not (f.retryable or f.elsewhere or f.refused) for _, f in failures)
        return not hopeless and bool(self.able())

    def _given(self, answer: Answer) -> Answer:
        """The answer that goes on: the last, or where that is none what a plan's member said."""
        agreed = self.planned is not None and self.planned.outcome == "agreed"
        if self.planned is None or (answer.failure is None and not agreed):
            return answer
        return next(iter(self.said.values()), answer)

    def result(self, answer: Answer) -> CallResult:
        """What is told of the call once it is over."""
        now, planned, decision = time.monotonic(), self.planned, self.decision
        for model in [*self.asking]:
            self.tried(model, answer, now)
        answer, vote, said = self._given(answer), None, self.said
        started = min((made.begun for made in self.made), default=now)
        if planned is not None:
            decision = planned.decision
            vote = planned.vote(next((m for m, each in said.items() if each is answer), None))
            answer = replace(answer, metered=all(m.answer.metered for m in self.made))
        return CallResult(
            query=self.query,
            answer=answer,
            decision=decision,
            attempts=len(self.made),
            waited_s=started - self.query.arrived,
            served_s=now - started,
            tries=tuple(made.attempt() for made in self.made),
            closed=self.closed_by if planned is None else planned.closed,
            repeat=self.repeat,
            vote=vote,
            said={} if planned is None else said,
        )

    def _refused_by(self, model: str, failure: Failure) -> None:
        """Its server refuses it; if for its length, that is now known to be more than forecast."""
        self.refused[model] = f"refused it: {failure.reason}"
        if failure.refused == "context" and failure.window is not None:
            least = failure.window + 1 - (self.query.max_output_tokens or 0)
            if least > self.query.input_tokens:
                self.query = replace(self.query, input_tokens=least)
                self.router = None  # it is forecast anew
