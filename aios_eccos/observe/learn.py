"""Verdicts into the history: directly by its owner, through the inbox by everyone else."""

from __future__ import annotations

from aios_eccos.engine import Engine
from aios_eccos.history.rows import encode_records
from aios_eccos.values import Outcome, Record

from .patient import Watched


def teach_verdict(
    engine: Engine | None, workload: Watched, call: str, model: str, correctness: float
) -> bool:
    """Store a verdict (0..1) on what `model` did with a call; False: handed over, or unknown.

    Raises:
        HistoryError, WorkloadError: it cannot be stored.
    """
    history = engine.history if engine is not None else None
    if history is not None and history.judge(call, model, correctness):
        return True
    if engine is not None and engine.config.settings.history != "embedded":
        return False  # nobody empties the inbox of a history that is a server
    # A record without text carries a verdict; the owner finds it, or not, in its inbox.
    verdict = Record(call, "", 0, (Outcome(model, correctness=correctness),), source="live")
    workload.push_inbox([encode_records([verdict])])
    return False
