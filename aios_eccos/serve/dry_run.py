"""A decision for a text that nobody asked: no model is called and no slot is taken."""

from __future__ import annotations

import time
from dataclasses import replace

from aios_eccos.decide.slot_prices import SharedPrices
from aios_eccos.observe.trace import Trace
from aios_eccos.observe.tracing import trace_of
from aios_eccos.serve.engine import Engine
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, CallResult, Query
from aios_eccos.workload.memory import MemoryWorkload

#: Characters a token, where no tokenizer of the model is at hand.
CHARACTERS_PER_TOKEN = 4


def decide_dry(engine: Engine, text: str, agent: str = "") -> Trace:
    """What the engine would decide for this text now, under the load of now."""
    living = engine.router
    query = Query(text=text, agent=agent, input_tokens=len(text) // CHARACTERS_PER_TOKEN + 1)
    (candidate,) = living.forecast([query])
    candidate = replace(candidate, draw=None)  # what chance would do is no explanation
    slots = living.slots()
    apart = MemoryWorkload()
    router = Router(living.models, living.settings, engine.prices, apart, living.learned)
    # A copy: what is learned from a call that nobody made stays here.
    router.shared = SharedPrices(living.models, apart, living.shared.slots)
    (decision,) = router.assign([candidate], slots).decisions
    apart.close()
    settled = CallResult(query, Answer(), decision, 0, 0.0, 0.0)
    trace = trace_of(settled, engine.prices, living.settings, living.models)
    return replace(trace, at=time.time())
