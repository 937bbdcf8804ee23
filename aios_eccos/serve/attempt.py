"""One request to a model, and what it tells of the model: its pace, and what its server refuses."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from aios_eccos.errors import raised
from aios_eccos.providers.usage import whole
from aios_eccos.serve.call import Call
from aios_eccos.serve.model_health import ModelHealth
from aios_eccos.serve.routes import Routes
from aios_eccos.values import Answer, Candidate, Decision, Failure, Model, Query, Refused
from aios_eccos.workload.store import Ledger

log = logging.getLogger("aios_eccos.serve.attempt")

LATE = Failure("timeout", 504, retryable=False)
#: Share of `call_timeout_s` that a request must have had for its timeout to tell of the server.
FAIR_SHARE = 0.5
#: Share of its time that a request has used up when that time has cut it off.
CUT_OFF = 0.9
#: Times what a model usually takes for such an answer, after which none is to be expected any more.
PATIENCE = 10.0
#: Share of a call's own time that is left to another model.
LEFT_SHARE = 0.5
#: Seconds per output token where no model's pace is known yet.
USUAL_S = 0.02
#: Share of a new answer in a model's usual seconds and tokens.
GAIN = 0.1
#: Seconds for which a refusal is believed: a server may be started anew with a larger window.
BELIEVED_S = 3600.0
#: Shortest prompt whose refusal tells of its length where the server names no window, tokens: no
#: model's window is smaller, so that a shorter one was refused for something else.
LONG_TOKENS = 2048
_LENGTHS = {"context": "more than {} tokens", "output": "answers of {} tokens"}


class Pace:
    """Seconds per output token by model: forecasts how long a call holds a slot.

    Of smoothed sums: a short answer takes mostly the time in which its prompt is read, and counts
    as little as it is short.
    """

    def __init__(self) -> None:
        #: Seconds and output tokens of an answer, smoothed.
        self._usual: dict[str, tuple[float, float]] = {}

    def note(self, model: str, seconds: float, output_tokens: int) -> None:
        """A whole answer of that many tokens (> 0) took so long."""
        before_s, before = self._usual.get(model, (seconds, float(output_tokens)))
        self._usual[model] = (
            before_s * (1 - GAIN) + seconds * GAIN,
            before * (1 - GAIN) + output_tokens * GAIN,
        )

    def usual_s(self) -> dict[str, float]:
        """By model, seconds that an answer takes, as far as that is known."""
        return {name: seconds for name, (seconds, _) in [*self._usual.items()]}

    def answer_s(self, decision: Decision, model: str) -> float:
        """Forecast seconds of a model's answer; infinite where its pace is not known."""
        candidate = decision.candidate
        if model not in self._usual or model not in candidate.models:
            return math.inf
        seconds, tokens = self._usual[model]
        forecast = float(candidate.output_tokens[candidate.models.index(model)])
        return max(seconds, seconds * forecast / tokens)

    def slot_seconds(self, candidate: Candidate | None, models: Sequence[str]) -> float:
        """Forecast seconds that the call holds a slot, averaged over the models named."""
        if candidate is None or not models:
            return 1.0
        usuals = [*self._usual.items()]  # requests on other threads note models meanwhile
        known = {name: seconds / tokens for name, (seconds, tokens) in usuals}
        usual = sum(known.values()) / len(known) if known else USUAL_S
        times = [
            float(candidate.output_tokens[candidate.models.index(name)]) * known.get(name, usual)
            for name in models
        ]
        return max(sum(times) / len(times), 1e-6)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that one model refuses.

    Attributes:
        tokens: for `context` the most that it takes, prompt and answer together; for `output` the
            answer's length that it refuses.
        since: seconds since the epoch.
    """

    model: str
    kind: Refused
    tokens: int = 0
    since: float = field(default_factory=time.time)

    @property
    def words(self) -> str:
        """What is refused, in words that follow the model's name."""
        return f"has refused {_LENGTHS.get(self.kind, self.kind).format(self.tokens)}"

    def concerns(self, query: Query) -> bool:
        """Whether the model would refuse this call, too."""
        answer = query.max_output_tokens or 0
        if self.kind == "context":
            return query.input_tokens + answer > self.tokens
        return answer >= self.tokens if self.kind == "output" else self.kind in query.needs


class Refusals:
    """What was refused lately: calls like it are sent there only where no other model may serve.

    All kernels that declare the model alike know it, by a note in the workload store. Once it is
    declared another way, which may be the remedy, it is asked again. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, Refused], Refusal] = {}
        #: The notes' names, by model and what it refuses.
        self._names: dict[tuple[str, Refused], str] = {}

    def use(self, models: Sequence[Model]) -> None:
        """Forget what models refuse that are no longer declared as they were."""
        names = {(m.name, kind): _name(m, kind) for m in models for kind in get_args(Refused)}
        with self._lock:
            same = {key for key in self._known if self._names.get(key) == names.get(key)}
            self._known = {key: self._known[key] for key in same}
            self._names = names

    def share(self, ledger: Ledger) -> None:
        """Tell other kernels what is known here, and learn what they know; the newer counts.

        Raises:
            WorkloadError: the store cannot be used.
        """
        names, mine = self._names, {(each.model, each.kind): each for each in self.known()}
        for key, note in zip(names, ledger.notes([*names.values()]), strict=True):
            known = mine.get(key)
            told = _read(*key, note)
            if told is not None and (known is None or known.since < told.since):
                with self._lock:
                    if self._names is names:  # else models have been declared another way meanwhile
                        self._known[key] = told
            elif known is not None and known != told:
                ledger.swap_note(names[key], f"{known.tokens} {known.since!r}", BELIEVED_S)

    def note(self, model: str, query: Query, failure: Failure) -> None:
        """A model's server has refused a call; keep it if other calls may be like it."""
        kind, tokens = failure.refused, 0
        if kind == "context":
            wanted = query.input_tokens + (query.max_output_tokens or 0)
            tokens = failure.window or (wanted - 1 if query.input_tokens >= LONG_TOKENS else 0)
        elif kind == "output":
            tokens = query.max_output_tokens or 0
        if kind is not None and (tokens or kind in query.needs):
            with self._lock:
                self._known[model, kind] = Refusal(model, kind, tokens)

    def of(self, query: Query) -> dict[str, str]:
        """Models that would refuse a call, and what, in words that follow their names."""
        return {each.model: each.words for each in self.known() if each.concerns(query)}

    def known(self) -> list[Refusal]:
        """All that is believed now."""
        oldest = time.time() - BELIEVED_S
        with self._lock:
            return [each for each in self._known.values() if each.since > oldest]


def _read(model: str, kind: Refused, note: str | None) -> Refusal | None:
    with contextlib.suppress(ValueError):
        tokens, since = (note or "").split()
        told = Refusal(model, kind, int(tokens), float(since))
        # One of a time to come, as only others write it, would be the newest for ever.
        return told if told.since < time.time() + BELIEVED_S else None
    return None


def _name(model: Model, kind: Refused) -> str:
    declared = f"{model.context_window} {sorted(model.abilities or ())}"
    return f"refused:{model.slot} {declared} {kind}"


class Attempts:
    """Makes the requests of calls, and learns from them. Safe to use from any thread.

    Attributes:
        pace: how fast models write.
        refusals: what models' servers have refused lately.
        health: what models' servers do just now.
    """

    def __init__(self) -> None:
        self.pace = Pace()
        self.refusals = Refusals()
        self.health = ModelHealth()

    def warnings(self) -> list[str]:
        """What is wrong with models' servers now."""
        return self.health.warnings(self.pace.usual_s())

    def make(
        self, call: Call, decision: Decision, model: str, router: Routes, timeout_s: float
    ) -> tuple[Answer, float]:
        """Ask the model, and give its slot back; returns its answer, and when that came.

        Args:
            timeout_s: what calls get that have no deadline of their own.
        """
        begun = time.monotonic()
        given = self._given(call, decision, model, call.expires - begun, timeout_s)
        self.health.begun(model, begun)
        answer = _asked(call, model, given)
        ended, failure = time.monotonic(), answer.failure
        # Before the call waits again: a second attempt on a model borrows under the same id.
        guarded(f"giving a slot of {model} back", lambda: router.release(decision, {model: answer}))
        usual = self.pace.answer_s(decision, model)
        cut = failure is not None and ended - begun >= CUT_OFF * given
        # It is the call's own time that has run out.
        hasty = cut and given < FAIR_SHARE * timeout_s and given < PATIENCE * usual
        servers = failure is not None and (failure.retryable or failure.elsewhere) and not hasty
        self.health.ended(model, begun, failure, own=not servers)
        if failure is None:
            if answer.output_tokens and not answer.signals.truncated:
                self.pace.note(model, ended - begun, answer.output_tokens)
            return answer, ended
        if failure.rests and servers:
            wait = failure.retry_after_s
            guarded(f"letting {model} rest", lambda: router.rest(model, wait))
        self.refusals.note(model, call.query, failure)
        return answer, ended

    def _given(
        self, call: Call, decision: Decision, model: str, left_s: float, timeout_s: float
    ) -> float:
        """Seconds for a request: not all of a call's own time, where another model may answer.

        A model that has not answered in many times what it usually takes will hardly do so at all,
        and another can, if there is time left for it.
        """
        share = (1 - LEFT_SHARE) * left_s
        patient = left_s >= FAIR_SHARE * timeout_s or call.made or call.planned is not None
        if patient or share < PATIENCE * self.pace.answer_s(decision, model):
            return left_s
        return share if any(name != model for name in call.usable()) else left_s


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
    if seconds <= 0:  # its time has passed while it was being started
        return Answer(failure=LATE)
    try:
        answer = call.ask(model, seconds)
        asked, said = whole(answer.input_tokens), whole(answer.output_tokens)
        return replace(answer, input_tokens=asked, output_tokens=said)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too: the thread ends anyway
        log.error("the model call to %s raised %s", model, raised(error))
        # What is no `Exception` was meant to end something: it is not tried again.
        again = isinstance(error, Exception)
        return Answer(failure=Failure(type(error).__name__, 500, again, rests=False))
