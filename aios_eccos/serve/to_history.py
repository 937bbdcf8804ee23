"""What the history learns of live calls: who was asked and what came of it, and verdicts.

Verdicts go in directly by its owner, through the inbox by everyone else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aios_eccos.history.rows import encode_records
from aios_eccos.observe.observer_store import Watched
from aios_eccos.records import Outcome, Record
from aios_eccos.values import CallResult

if TYPE_CHECKING:
    from aios_eccos.serve.observed_engine import ObservedEngine

#: Longest wait for the record of a call that has just been served, seconds.
FLUSH_S = 3.0


def live_record(settled: CallResult) -> Record | None:
    """What the history learns of a call: an outcome for each model that was asked.

    Correctness stays missing. The text is embedded; whether it is kept, the history's setting
    decides.
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
    return Record(
        id=query.id,
        text=query.text,
        input_tokens=query.input_tokens if answer.input_tokens is None else answer.input_tokens,
        outcomes=tuple(outcomes.values()),
        source="live",
        agent=query.agent,
        created=decision.at,
    )


def teach_verdict(
    engine: ObservedEngine | None, workload: Watched, call: str, model: str, correctness: float
) -> bool:
    """Store a verdict (0..1) on what `model` did with a call; False: handed over, or unknown.

    Raises:
        HistoryError, WorkloadError: it cannot be stored.
    """
    history = engine.history if engine is not None else None
    if history is not None and history.judge(call, model, correctness):
        return True
    if engine is not None and engine.config.settings.history != "embedded":
        # Nobody empties the inbox of a history that is a server: its record may be on its way.
        known = history is not None and engine.recorder.flush(FLUSH_S)
        return known and history is not None and history.judge(call, model, correctness)
    # A record without text carries a verdict; the owner finds it, or not, in its inbox.
    verdict = Record(call, "", 0, (Outcome(model, correctness=correctness),), source="live")
    workload.push_inbox([encode_records([verdict])])
    return False
