"""Mode `observe`: AIOS's choice serves, and what the router would have done is summed up.

All sums are forecasts: the model that was not asked gave no answer to count.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import Any

from aios_eccos.kernel.ticket import Ticket
from aios_eccos.serve.engine import Engine
from aios_eccos.values import CallResult, Query

log = logging.getLogger("aios_eccos.kernel.observe_mode")


@dataclass(slots=True)
class Shadow:
    """Forecast sums over the calls observed.

    Attributes:
        calls: calls compared.
        same: of these, where the router would have chosen as AIOS did.
        cost_served, cost_routed: forecast dollars of AIOS's choices and of the router's.
        success_served, success_routed: forecast successes of both.
    """

    calls: int = 0
    same: int = 0
    cost_served: float = 0.0
    cost_routed: float = 0.0
    success_served: float = 0.0
    success_routed: float = 0.0

    def compare(self, router: Any, ticket: Ticket, settled: CallResult) -> None:
        """Decide a served call once more, as if every model had been free for it."""
        decision = settled.decision
        if decision is None or decision.model is None:
            return
        (candidate,) = router.forecast([ticket.asked])
        routed = router.preferred(candidate)
        if routed is None:
            return
        served_at, routed_at = (candidate.models.index(name) for name in (decision.model, routed))
        with _LOCK:
            self.calls += 1
            self.same += routed == decision.model
            self.cost_served += float(candidate.cost[served_at])
            self.cost_routed += float(candidate.cost[routed_at])
            self.success_served += float(candidate.success[served_at])
            self.success_routed += float(candidate.success[routed_at])
        log.debug("observed: served by %s, the router would take %s", decision.model, routed)


_LOCK = threading.Lock()


def for_model(query: Query, name: str, engine: Engine) -> Query:
    """The query, to be served by one model, whatever that can: AIOS lets its server refuse."""
    windows = {model.name: model.context_window for model in engine.router.models}
    window = windows.get(name)
    return replace(
        query,
        allowed=(name,),
        needs=frozenset(),
        input_tokens=query.input_tokens if window is None else min(query.input_tokens, window),
        max_output_tokens=None,
    )
