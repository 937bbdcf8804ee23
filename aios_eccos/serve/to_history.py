"""What the history learns of live calls: who was asked and what came of it, and verdicts.

Verdicts go in directly by its owner, through the inbox by everyone else.
"""

from __future__ import annotations

from aios_eccos.history.rows import encode_records
from aios_eccos.records import Outcome, Record
from aios_eccos.values import CallResult
from aios_eccos.workload.store import Inbox


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


def hand_over(inbox: Inbox, call: str, model: str, correctness: float) -> None:
    """Hand a verdict to the owner of the embedded history.

    Raises:
        WorkloadError: it cannot be handed over.
    """
    # A record without text carries a verdict; the owner finds it, or not, in its inbox.
    verdict = Record(call, "", 0, (Outcome(model, correctness=correctness),), source="live")
    inbox.push_inbox([encode_records([verdict])])
