"""What is done with settled calls: decisions, sums, and what the history learns of them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aios_eccos.errors import EccosError, WorkloadError
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.history import History
from aios_eccos.history.store import Embeddings
from aios_eccos.observe.sums import minute_of_call, of_call
from aios_eccos.observe.trace import Trace, to_fields
from aios_eccos.records import Outcome, Record
from aios_eccos.values import CallResult, Float32Array
from aios_eccos.workload.periods import SINCE, TOTAL, PeriodSums, period_sums, together, total_of
from aios_eccos.workload.store import Observed

log = logging.getLogger("aios_eccos.serve.observers")

#: Settled calls kept together.
BATCH = 64
#: Seconds between two additions to the shared sums, at least.
SUMS_EVERY_S = 1.0
#: Live records are embedded together: MiniLM takes 1.5 ms each in a batch, 7 ms alone.
LEARN_AFTER_S = 1.0
#: Live records that wait for the embedder at most.
LEARN_MOST = 2_000
#: What the log says of a decision, and how long it may be.
LOGGED = (
    *("call", "model", "status", "floor", "success_price_usd", "promised", "cost_usd", "waited_s"),
    *("served_s", "decision_s", "attempts", "failure", "agent"),
)
LINE_MOST = 500


class Kept(NamedTuple):
    """A settled call, and what is kept of it."""

    result: CallResult
    trace: Trace


class NotKept(WorkloadError):
    """Raised when decisions could not be kept; `count` of them."""

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count


class KeepsDecisions:
    """Keeps decisions in the shared stream."""

    def __init__(self, ledger: Observed) -> None:
        self._ledger = ledger
        self._begun = False

    def take(self, calls: Sequence[Kept]) -> None:
        """Append each decision to the stream, and log it as one structured line.

        Raises:
            NotKept: the store cannot be used.
        """
        for call in calls:
            log.debug("decision %s", line(call.trace))
        kept = 0
        try:
            if not self._begun and self._ledger.notes([SINCE]) == [None]:
                self._ledger.swap_note(SINCE, repr(time.time()))
            self._begun = True
            for call in calls:
                self._ledger.append_decision(to_fields(call.trace))
                kept += 1
        except WorkloadError as error:
            raise NotKept(str(error), len(calls) - kept) from error


class KeepsSums:
    """Adds calls to the shared sums of their minute, their hour and all time.

    At once, but at most every `SUMS_EVERY_S`: one call adds to two hundred sums, and calls that
    follow each other add mostly to the same ones.
    """

    def __init__(self, ledger: Observed) -> None:
        self._ledger = ledger
        self._added: list[PeriodSums] = []
        self._at = -math.inf

    @property
    def waits(self) -> bool:
        """Whether there is something to add."""
        return bool(self._added)

    def due_s(self) -> float:
        """Seconds until it is to be added; inf where there is nothing."""
        return max(self._at - time.monotonic(), 0.0) if self._added else math.inf

    def take(self, calls: Sequence[Kept]) -> None:
        """Note what calls add."""
        now = time.time()
        minute = total_of(minute_of_call(call.trace) for call in calls)
        whole = total_of(of_call(call.trace) for call in calls)
        periods = period_sums("m", now, minute), period_sums("h", now, whole)
        self._added = together([*self._added, *periods, PeriodSums(TOTAL, 0.0, whole)])

    def flush(self) -> None:
        """Add what is noted.

        Raises:
            WorkloadError: the store cannot be used.
        """
        added, self._added = self._added, []
        self._at = time.monotonic() + SUMS_EVERY_S
        self._ledger.add_sums(added)


class TeachesHistory:
    """Puts live calls into the history, a batch at a time.

    Args:
        stores: the history and the embedder, as far as they are there.
        key: gives what is kept of an answer's value, if anything is.

    Attributes:
        unlearnt: calls that did not reach the history (no text, no embedder, not its owner).
    """

    def __init__(
        self,
        stores: Callable[[], tuple[History | None, BackgroundEmbedder | None]],
        key: Callable[[Any], str | None],
    ) -> None:
        self.unlearnt = 0
        #: Why the last calls could not be written.
        self._fault: EccosError | None = None
        self._stores, self._key = stores, key
        #: Records, with their text's embedding where deciding the call took one.
        self._waiting: deque[tuple[Record, Any]] = deque()
        self._at = 0.0

    @property
    def waits(self) -> bool:
        """Whether records wait to be put into the history."""
        return bool(self._waiting)

    def warnings(self) -> list[str]:
        """Why the last calls were not learned from, if so."""
        return [] if self._fault is None else [f"calls are not learned from: {self._fault}"]

    def due_s(self) -> float:
        """Seconds until the waiting records are embedded; inf where none waits."""
        return max(self._at - time.monotonic(), 0.0) if self._waiting else math.inf

    def take(self, calls: Sequence[Kept]) -> None:
        """Queue what the history can learn from."""
        for call in calls:
            record, decision = live_record(call.result, self._key), call.result.decision
            if record is not None and decision is not None:
                self.put(record, decision.candidate.embedding)

    def put(self, record: Record, vector: Float32Array | None) -> None:
        """Queue a record, with its text's embedding if there is one; from any thread."""
        if len(self._waiting) >= LEARN_MOST:
            self._waiting.popleft()
            self.unlearnt += 1
        if not self._waiting:
            self._at = time.monotonic() + LEARN_AFTER_S
        self._waiting.append((record, vector))

    def flush(self) -> None:
        """Embed waiting records and add them to the history, if it is ours.

        Raises:
            HistoryError: it cannot be written.
        """
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
        history, embedder = self._stores()
        try:
            vectors = _embedded(embedder, waiting) if waiting and embedder is not None else None
            if history is None or vectors is None:
                self.unlearnt += len(waiting)
                return
            history.add([record for record, _ in waiting], vectors)
        except EccosError as error:
            self.unlearnt += len(waiting)
            self._fault = error
            raise
        self._fault = None


def live_record(settled: CallResult, key: Callable[[Any], str | None]) -> Record | None:
    """What the history learns of a call: an outcome for each model that was asked.

    Correctness stays missing. The text is embedded; whether it is kept, the history's setting
    decides. Of what was answered, the key is kept.
    """
    query, answer, decision = settled.query, settled.answer, settled.decision
    if decision is None or not settled.tries or not query.text.strip():
        return None
    # Of several requests to one model, the last stands.
    outcomes = {
        tried.model: Outcome(
            model=tried.model,
            output_tokens=tried.output_tokens if tried.failure is None else None,
            latency_s=tried.seconds,
            error=tried.failure,
            signals=tried.signals,
        )
        for tried in settled.tries
    }
    given = settled.said if settled.vote is not None else {settled.model: answer}
    for model, each in given.items():
        if model in outcomes and each.failure is None and not each.signals.truncated:
            outcomes[model] = replace(outcomes[model], answer=key(each.value))
    return Record(
        id=query.id,
        text=query.text,
        input_tokens=query.input_tokens if answer.input_tokens is None else answer.input_tokens,
        outcomes=tuple(outcomes.values()),
        source="live",
        agent=query.agent,
        created=decision.at,
    )


def _embedded(embedder: BackgroundEmbedder, waiting: list[tuple[Record, Any]]) -> Embeddings | None:
    """The records' vectors, embedding only what has none; None while the model is loading."""
    import numpy as np

    texts = [record.text for record, vector in waiting if vector is None]
    fresh = embedder.try_embed(texts) if texts else ()
    if fresh is None:
        return None
    rest = iter(fresh)
    return np.stack([next(rest) if vector is None else vector for _, vector in waiting])


def line(trace: Trace) -> str:
    """A decision as one structured line for the log."""
    facts = {name: getattr(trace, name) for name in LOGGED}
    facts["forecast_usd"] = trace.chosen.cost_usd if trace.chosen is not None else None
    return json.dumps(facts, ensure_ascii=False)[:LINE_MOST]
