"""Mode `observe`, and the rest of `canary`: AIOS's choice serves, the router's is summed up.

All sums are forecasts: the model that was not asked gave no answer to count.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aios_eccos.kernel.calls import Ticket
from aios_eccos.observe.views import ObservedView
from aios_eccos.serve.engine import Engine
from aios_eccos.values import CallResult, Query

log = logging.getLogger("aios_eccos.kernel.observe_mode")


class Observed:
    def __init__(self) -> None:
        self.sums = ObservedView()
        self._lock = threading.Lock()

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
        cost, success = candidate.cost.tolist(), candidate.success.tolist()
        more = {
            "calls": 1,
            "same_choice": routed == decision.model,
            "forecast_cost_served_usd": cost[served_at],
            "forecast_cost_routed_usd": cost[routed_at],
            "forecast_successes_served": success[served_at],
            "forecast_successes_routed": success[routed_at],
        }
        with self._lock:
            seen = self.sums.model_dump()
            self.sums = ObservedView(**{key: seen[key] + more[key] for key in seen})
        log.debug("observed: served by %s, the router would take %s", decision.model, routed)


def observed(
    query: Query, own_choice: Callable[[Query], str], engine: Engine, *, stays: bool = False
) -> Query:
    """The query, to be served by AIOS's own choice, whatever that can: its server may refuse.

    AIOS chooses for a private call among local models: what has left cannot be called back. Without
    any, the query stays as it is, and is refused.

    Args:
        stays: a tool loop stays with its model; AIOS's own choice serves where that fails.
    """
    models = {model.name: model for model in engine.router.models}
    if query.private:
        names = [name for name, model in models.items() if model.local]
        may = [name for name in query.allowed or names if name in names]
        if not may:
            return query
        query = replace(query, allowed=tuple(may))
    name = own_choice(query)
    stay = query.session.stay if stays and query.session is not None else None
    may_stay = stay in (query.allowed or models) and stay != name
    windows = {name: model.context_window for name, model in models.items()}
    most = windows.get(name) or query.input_tokens
    return replace(
        query,
        observed=True,
        allowed=(stay, name) if stay is not None and may_stay else (name,),
        needs=frozenset(),
        input_tokens=min(query.input_tokens, most),
        max_output_tokens=None,
    )
