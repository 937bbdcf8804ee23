"""What is done with settled calls, one job a class: decisions, sums, the history, events."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aios_eccos.errors import EccosError, WorkloadError
from aios_eccos.floor.alarm import Alarm
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.store import Embeddings, HistoryStore
from aios_eccos.observe.sums import minute_of_call, of_call
from aios_eccos.observe.trace import Trace, to_fields
from aios_eccos.records import Record
from aios_eccos.serve.events import note_alarms, note_in_force
from aios_eccos.serve.recorder import BATCH, Kept, NotKept
from aios_eccos.serve.to_history import live_record
from aios_eccos.workload.ledger import Ledger, PeriodSums
from aios_eccos.workload.periods import SINCE, TOTAL, period_sums, total_of
from aios_eccos.workload.store import Observed

log = logging.getLogger("aios_eccos.serve.observers")

#: Live records are embedded together: MiniLM takes 1.5 ms each in a batch, 7 ms alone.
LEARN_AFTER_S = 1.0
#: Live records that wait for the embedder at most.
LEARN_MOST = 2_000
LINE_MOST = 500


class _Prompt:
    """An observer that puts nothing off, and looks at nothing."""

    def look(self) -> None:
        """Nothing changes without calls."""

    def due_s(self) -> float | None:
        """Nothing waits."""
        return None

    def flush(self) -> None:
        """Nothing waits."""


class KeepsDecisions(_Prompt):
    """Appends each decision to the shared stream, and logs it as one structured line."""

    def __init__(self, ledger: Observed) -> None:
        self._ledger = ledger
        self._begun = False

    def take(self, calls: Sequence[Kept]) -> None:
        """Keep the decisions.

        Raises:
            NotKept: the store cannot be used.
        """
        for call in calls:
            log.debug("decision %s", line(call.trace))
        kept = 0
        try:
            self._begin()
            for call in calls:
                self._ledger.append_decision(to_fields(call.trace))
                kept += 1
        except WorkloadError as error:
            raise NotKept(str(error), len(calls) - kept) from error

    def _begin(self) -> None:
        """Note once when the first call was kept."""
        if not self._begun:
            if self._ledger.notes([SINCE]) == [None]:
                self._ledger.swap_note(SINCE, repr(time.time()))
            self._begun = True


class KeepsSums(_Prompt):
    """Adds calls to the sums of this minute, this hour and all time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take(self, calls: Sequence[Kept]) -> None:
        """Add the calls.

        Raises:
            WorkloadError: the store cannot be used.
        """
        self._ledger.add_sums(sums_of([call.trace for call in calls], time.time()))


class TeachesHistory(_Prompt):
    """Puts live calls into the history, a batch at a time.

    Args:
        stores: the history and the embedder, as far as they are there.

    Attributes:
        unlearnt: calls that did not reach the history (no text, no embedder, not its owner).
    """

    def __init__(
        self, stores: Callable[[], tuple[HistoryStore | None, BackgroundEmbedder | None]]
    ) -> None:
        self.unlearnt = 0
        self._stores = stores
        #: Records, with their text's embedding where deciding the call took one.
        self._waiting: deque[tuple[Record, Any]] = deque()
        self._at = 0.0

    def take(self, calls: Sequence[Kept]) -> None:
        """Queue what the history can learn from."""
        for call in calls:
            record = live_record(call.result)
            if record is None:
                continue
            if len(self._waiting) >= LEARN_MOST:
                self._waiting.popleft()
                self.unlearnt += 1
            if not self._waiting:
                self._at = time.monotonic() + LEARN_AFTER_S
            decision = call.result.decision
            vector = decision.candidate.embedding if decision is not None else None
            self._waiting.append((record, vector))

    def due_s(self) -> float | None:
        """Seconds until the waiting records are embedded."""
        return max(self._at - time.monotonic(), 0.0) if self._waiting else None

    def flush(self) -> None:
        """Embed waiting records and add them to the history, if it is ours.

        Raises:
            HistoryError: it cannot be written.
        """
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
        history, embedder = self._stores()
        try:
            vectors = _embedded(embedder, waiting) if embedder is not None else None
            if history is None or vectors is None:
                self.unlearnt += len(waiting)
                return
            history.add([record for record, _ in waiting], vectors)
        except EccosError:
            self.unlearnt += len(waiting)
            raise


class NotesEvents(_Prompt):
    """Keeps an event for every change of what is in force, of an alarm, and of who rests.

    Args:
        in_force: everything whose change is an event, as text by name.
        alarms: reads the alarms anew.
        resting: names of models that rest now.
    """

    def __init__(
        self,
        ledger: Ledger,
        in_force: Callable[[], dict[str, str]],
        alarms: Callable[[], list[Alarm]],
        resting: Callable[[], frozenset[str]],
    ) -> None:
        self._ledger = ledger
        self._in_force, self._alarms, self._resting_now = in_force, alarms, resting
        self._known: dict[str, str] | None = None
        self._resting: frozenset[str] = frozenset()

    def take(self, calls: Sequence[Kept]) -> None:
        """See who rests, where calls have failed."""
        if any(call.trace.attempts > 1 or call.trace.failure is not None for call in calls):
            self._look_for_rest()

    def look(self) -> None:
        """See what has changed.

        Raises:
            WorkloadError: the store cannot be used.
        """
        facts = self._in_force()
        if facts != self._known:
            note_in_force(self._ledger, facts)
            self._known = facts
        if self._resting:
            self._look_for_rest()
        note_alarms(self._ledger, self._alarms())

    def _look_for_rest(self) -> None:
        """One warning when a model starts to rest, one when it is asked again."""
        resting = self._resting_now()
        for name in sorted(resting - self._resting):
            log.warning("model %s rests after an error of its server", name)
        for name in sorted(self._resting - resting):
            log.warning("model %s may be asked again", name)
        self._resting = resting


def _embedded(embedder: BackgroundEmbedder, waiting: list[tuple[Record, Any]]) -> Embeddings | None:
    """The records' vectors, embedding only what has none; None while the model is loading."""
    import numpy as np

    texts = [record.text for record, vector in waiting if vector is None]
    fresh = embedder.try_embed(texts) if texts else ()
    if fresh is None:
        return None
    rest = iter(fresh)
    return np.stack([next(rest) if vector is None else vector for _, vector in waiting])


def sums_of(traces: list[Trace], now: float) -> list[PeriodSums]:
    """All that a batch of calls adds, to this minute, this hour and in all."""
    minute = total_of(minute_of_call(trace) for trace in traces)
    whole = total_of(of_call(trace) for trace in traces)
    return [
        period_sums("m", now, minute),
        period_sums("h", now, whole),
        PeriodSums(TOTAL, 0.0, whole),
    ]


def line(trace: Trace) -> str:
    """A decision as one structured line for the log."""
    chosen = trace.chosen
    facts = {
        "call": trace.call,
        "agent": trace.agent[:40],
        "model": trace.model,
        "status": trace.status,
        "floor": trace.floor,
        "success_price": trace.success_price_usd,
        "promised": trace.promised,
        "forecast_usd": chosen.cost_usd if chosen is not None else None,
        "cost_usd": trace.cost_usd,
        "waited_s": round(trace.waited_s, 4),
        "served_s": round(trace.served_s, 4),
        "decision_s": round(trace.decision_s, 5),
        "attempts": trace.attempts,
        "failure": trace.failure,
    }
    return json.dumps(facts, ensure_ascii=False)[:LINE_MOST]
