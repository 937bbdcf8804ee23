"""Keeps what became of every call: its decision, the hour's sums, and a record in the history.

A call only puts what it has into a bounded queue; one background thread does the rest, so no agent
waits for Redis, the embedder or Chroma. What does not fit in the queue is counted as lost.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aios_eccos.config import Settings
from aios_eccos.errors import EccosError, WorkloadError, raised
from aios_eccos.floor.steer import controlled, steer_settled
from aios_eccos.forecast.pricing import Prices
from aios_eccos.observe.events import in_force, note_in_force
from aios_eccos.observe.sums import minute_of_call, of_call
from aios_eccos.observe.trace import Trace, to_fields
from aios_eccos.observe.tracing import trace_of
from aios_eccos.records import Record
from aios_eccos.serve.to_history import live_record
from aios_eccos.values import CallResult, Model
from aios_eccos.verdicts.counted import read_alarms
from aios_eccos.workload.ledger import PeriodSums
from aios_eccos.workload.periods import SINCE, TOTAL, period_sums, total_of

if TYPE_CHECKING:
    from aios_eccos.history.embed.embedding import BackgroundEmbedder
    from aios_eccos.history.store import Embeddings
    from aios_eccos.serve.observed_engine import ObservedEngine

log = logging.getLogger("aios_eccos.serve.recorder")

#: Settled calls that may wait to be kept: two minutes at a hundred calls a second.
QUEUE_MOST = 12_000
#: Settled calls kept together.
BATCH = 64
#: Live records are embedded together: MiniLM takes 1.5 ms each in a batch, 7 ms alone.
LEARN_AFTER_S = 1.0
#: Live records that wait for the embedder at most.
LEARN_MOST = 2_000
#: Seconds between two looks for changes of what is in force.
LOOK_S = 5.0
LINE_MOST = 500

#: A settled call, and what was in force when it settled.
Kept = tuple[CallResult, Prices, Settings, Sequence[Model]]


class Recorder:
    """`Engine`'s `on_settled`. Records from `start` on; `close` keeps what is still queued.

    Attributes:
        lost: settled calls that could not be kept.
        unlearnt: served calls that did not reach the history (no text, no embedder, not its owner).
    """

    def __init__(self, queue_most: int = QUEUE_MOST) -> None:
        self.lost = 0
        self.unlearnt = 0
        self._most = queue_most
        self._queue: deque[Kept] = deque()
        #: With its text's embedding, where deciding the call took one.
        self._learn: deque[tuple[Record, Any]] = deque()
        self._learn_at = 0.0
        self._changed = threading.Condition()
        self._closing = False
        self._busy = False
        self._hurry = False
        self._engine: ObservedEngine | None = None
        self._thread: threading.Thread | None = None
        self._known: dict[str, str] | None = None
        self._resting: frozenset[str] = frozenset()
        self._begun = False

    def __call__(self, settled: CallResult) -> None:
        """Queue a settled call; takes microseconds."""
        engine = self._engine
        if engine is None:
            return
        with self._changed:
            if len(self._queue) >= self._most:
                self.lost += 1
                return
            settings, models = engine.config.settings, engine.router.models
            self._queue.append((settled, engine.prices, settings, models))
            self._changed.notify()

    def start(self, engine: ObservedEngine) -> None:
        """Record the engine's calls."""
        self._engine = engine
        self._thread = threading.Thread(target=self._loop, name="eccos-recorder", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything queued is kept (the history's part too); False on timeout."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: not (self._queue or self._learn or self._busy), timeout_s
            )
            self._hurry = False
            return done

    def close(self, timeout_s: float = 10.0) -> None:
        """Keep what is queued, then end the thread; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    # The recorder's thread.

    def _loop(self) -> None:
        look_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(self._due, self._patience(look_at))
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
                closing = self._closing and not self._queue
                self._busy = True
            self._guarded(lambda taken=batch: self._keep(taken))  # type: ignore[misc]
            if closing or self._learning():
                self._guarded(self._teach)
            if time.monotonic() >= look_at and not closing:
                look_at = time.monotonic() + LOOK_S
                self._guarded(self._look)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if closing and not self._learn:
                    return

    def _due(self) -> bool:
        return bool(self._queue) or self._closing or self._learning()

    def _learning(self) -> bool:
        return bool(self._learn) and (self._hurry or time.monotonic() >= self._learn_at)

    def _patience(self, look_at: float) -> float:
        ends = [look_at, *([self._learn_at] if self._learn else [])]
        return max(min(ends) - time.monotonic(), 0.0)

    def _guarded(self, work: Callable[[], None]) -> None:
        """An observer's fault is logged and forgotten: calls go on."""
        try:
            work()
        except EccosError as error:
            log.debug("not recorded: %s", error)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever is raised
            log.error("recording failed: %s", raised(error))

    def _keep(self, batch: list[Kept]) -> None:
        engine = self._engine
        if not batch or engine is None:
            return
        traces = [trace_of(*item) for item in batch]
        for trace in traces:
            log.debug("decision %s", line(trace))
        self._remember([settled for settled, *_ in batch])
        kept = 0
        try:
            self._begin(engine)
            for trace in traces:
                engine.ledger.append_decision(to_fields(trace))
                kept += 1
            engine.ledger.add_sums(sums_of(traces, time.time()))
            steer_settled(traces, engine.router, engine.workload)
        except WorkloadError:
            self.lost += len(traces) - kept
            raise
        if any(trace.attempts > 1 or trace.failure is not None for trace in traces):
            self._look_for_rest(engine)

    def _begin(self, engine: ObservedEngine) -> None:
        """Note once when the first call was kept."""
        if not self._begun:
            if engine.ledger.notes([SINCE]) == [None]:
                engine.ledger.swap_note(SINCE, repr(time.time()))
            self._begun = True

    def _remember(self, batch: list[CallResult]) -> None:
        """Queue what the history can learn from."""
        for settled in batch:
            record = live_record(settled)
            if record is None:
                continue
            if len(self._learn) >= LEARN_MOST:
                self._learn.popleft()
                self.unlearnt += 1
            if not self._learn:
                self._learn_at = time.monotonic() + LEARN_AFTER_S
            candidate = settled.decision.candidate if settled.decision is not None else None
            self._learn.append((record, candidate.embedding if candidate is not None else None))

    def _teach(self) -> None:
        """Embed the waiting records and add them to the history, if it is ours."""
        waiting = [self._learn.popleft() for _ in range(min(len(self._learn), BATCH))]
        if not waiting:
            return
        records = [record for record, _ in waiting]
        engine = self._engine
        history, embedder = (engine.history, engine.embedder) if engine else (None, None)
        try:
            vectors = _embedded(embedder, waiting) if embedder is not None else None
            if history is None or vectors is None:
                self.unlearnt += len(records)
                return
            history.add(records, vectors)
        except EccosError:
            self.unlearnt += len(records)
            raise

    def _look(self) -> None:
        """Keep an event for every change of what is in force; notice models that rest no more."""
        engine = self._engine
        if engine is None:
            return
        facts = in_force(engine.config.settings, engine.router.models, predictor_name(engine))
        if facts != self._known:
            note_in_force(engine.ledger, facts)
            self._known = facts
        if self._resting:
            self._look_for_rest(engine)
        alarms = read_alarms(engine.ledger, time.time())
        engine.router.controlled = controlled(alarms, engine.config.settings)
        engine.router.alarmed = frozenset(alarm.policy for alarm in alarms if alarm.broken)
        # Asking a model that nobody will judge teaches nothing.
        engine.router.explores = any(alarm.verdicts for alarm in alarms)

    def _look_for_rest(self, engine: ObservedEngine) -> None:
        """One warning when a model starts to rest, one when it is asked again."""
        resting = engine.router.slots().cooling
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


def predictor_name(engine: ObservedEngine) -> str:
    """The predictor in force, with the identity of its trained head if it has one."""
    predictor = engine.router.learned.predictor
    head = getattr(predictor, "version", None)
    return f"{predictor.name} {head}" if head else predictor.name


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
