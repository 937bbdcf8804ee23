"""What keeps the decisions of a living engine from resting on all of its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aios_eccos.serve.engine import Engine


def state_of(engine: Engine) -> str:
    """What the reader of its decisions should know, in words; "" = nothing."""
    history, embedder, fault = engine.history, engine.embedder, engine.history_error
    if history is None or embedder is None:
        return f"forecast on priors: {fault or 'the history is still being opened'}"
    count = history.count()
    if not count:
        return "forecast on priors: no history yet"
    if not embedder.ready:
        loads = "is still loading" if embedder.error is None else f"failed: {embedder.error}"
        return f"forecast on priors: the embedder {loads}"
    if fault is not None:
        return str(fault)
    book = engine.router.learned.book
    if book is not None and book.curve() is not None:
        return ""
    serves = "the strongest model serves"
    if engine.learning:
        return f"{count:,} records are still being learned from; until then {serves}"
    return f"the history has too few verdicts to say what a success costs: {serves}"
