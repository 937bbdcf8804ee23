"""One request to a model: what came of it, what that tells of the model, and what follows."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aios_eccos.errors import raised
from aios_eccos.providers.usage import whole
from aios_eccos.serve.call import Call, Routes
from aios_eccos.serve.pace import Pace
from aios_eccos.serve.refusals import Refusals
from aios_eccos.values import Answer, Decision, Failure

log = logging.getLogger("aios_eccos.serve.attempt")

#: Tries of a call that has other models, refusals not counted.
TRIES_MOST = 2
#: Waits before the first and the second repetition on the same model, seconds (plus jitter).
PINNED_BACKOFF_S = (0.5, 2.0)
#: Share of `call_timeout_s` that a request must have had for its timeout to tell of the server.
FAIR_SHARE = 0.5
#: Share of its time that a request has used up when that time has cut it off.
CUT_OFF = 0.9


@dataclass(frozen=True, slots=True)
class Made:
    """A request that has been made: its answer, when that was there, and whether to try again."""

    answer: Answer
    ended: float
    again: bool = False


class Attempts:
    """Makes the requests of calls, and learns from them. Safe to use from any thread.

    Attributes:
        pace: how fast models write.
        refusals: what models' servers have refused lately.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.pace = Pace()
        self.refusals = Refusals()
        self._random = random.Random(seed)

    def make(
        self, call: Call, decision: Decision, model: str, router: Routes, timeout_s: float
    ) -> Made:
        """Ask the model, and give its slot back.

        Args:
            timeout_s: what calls get that have no deadline of their own.
        """
        begun = time.monotonic()
        given = call.expires - begun
        answer = _asked(call, model, given)
        made = Made(answer, time.monotonic())
        taken, failure = made.ended - begun, answer.failure
        # Before the call waits again: a second attempt on a model borrows under the same id.
        guarded(f"giving a slot of {model} back", lambda: router.release(decision))
        if failure is None:
            if answer.output_tokens and not answer.signals.truncated:
                self.pace.note(model, taken, answer.output_tokens)
            return made
        hasty = given < FAIR_SHARE * timeout_s and taken >= CUT_OFF * given
        ill = failure.rests and (failure.retryable or failure.elsewhere)
        if ill and not hasty:  # else it is the call's own time that has run out
            wait = failure.retry_after_s
            guarded(f"letting {model} rest", lambda: router.rest(model, wait))
        self.refusals.note(model, call.query, failure)
        return replace(made, again=self._tried_again(call, model, failure))

    def _tried_again(self, call: Call, model: str, failure: Failure) -> bool:
        """Whether to try once more: on another model, or on the only one up to twice."""
        if failure.refused is not None:
            call.refused_by(model, failure)
            return bool(call.able())
        if not (failure.retryable or failure.elsewhere):
            return False
        call.failed_on.add(model)
        call.failures += 1
        if call.usable() != [model]:
            return call.failures < TRIES_MOST
        if failure.elsewhere or call.failures > len(PINNED_BACKOFF_S):
            return False
        pause = failure.retry_after_s
        if pause is None:
            pause = PINNED_BACKOFF_S[call.failures - 1] * self._random.uniform(1.0, 1.25)
        call.not_before = time.monotonic() + pause
        return call.not_before < call.expires


def guarded(what: str, work: Callable[[], object]) -> bool:
    """Do what no other call may suffer from; whether it went."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, would end a thread of ours
        log.error("%s failed: %s", what, raised(error))
        return False
    return True


def _asked(call: Call, model: str, seconds: float) -> Answer:
    """The model's answer; whatever its client does, the call ends and its slot comes back."""
    try:
        answer = call.run(model, seconds)
        tokens = whole(answer.input_tokens), whole(answer.output_tokens)
        if tokens == (answer.input_tokens, answer.output_tokens):
            return answer
        return replace(answer, input_tokens=tokens[0], output_tokens=tokens[1])
    except BaseException as error:  # noqa: BLE001 - SystemExit, too: the thread ends anyway
        log.error("the model call to %s raised %s", model, raised(error))
        # What is no `Exception` was meant to end something: it is not tried again.
        again = isinstance(error, Exception)
        return Answer(failure=Failure(type(error).__name__, 500, again, rests=False))
