"""A decision for a text that nobody asked: no model is called and no slot is taken."""

from __future__ import annotations

import time
from dataclasses import replace

from aios_eccos.observe.trace import Trace
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.tracing import trace_of
from aios_eccos.values import Answer, CallResult, Decision, Lease, Query, Slots

#: Characters a token, where no tokenizer of the model is at hand.
CHARACTERS_PER_TOKEN = 4


def decide_dry(
    engine: Engine, text: str, agent: str = "", floor: float | None = None
) -> tuple[Decision, Slots]:
    """What the engine would decide for this text now, and the load of now, under which it would.

    Args:
        floor: absolute success asked for, instead of the configured floor.
    """
    living = engine.router
    tokens = len(text) // CHARACTERS_PER_TOKEN + 1
    query = Query(text=text, agent=agent, input_tokens=tokens, floor=floor)
    (candidate,) = living.forecast([query])
    candidate = replace(candidate, lot=None)  # what chance would do is no explanation
    slots = living.slots()
    plan = living.decide([candidate], slots)
    served = plan.found.solution.choice[0] >= 0
    (decision,) = plan.decisions({query.id: Lease(query.id, "")} if served else {})
    return decision, slots


def trace_dry(engine: Engine, text: str, agent: str = "") -> Trace:
    """That decision as it would be kept, had the call been made."""
    decision, _ = decide_dry(engine, text, agent)
    settled = CallResult(decision.candidate.query, Answer(), decision, 0, 0.0, 0.0)
    router = engine.router
    return replace(trace_of(settled, engine.prices, router.settings, router.models), at=time.time())
