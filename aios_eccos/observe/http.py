"""The routes under /eccos/ as plain functions; the kernel's edge puts them on its app.

FastAPI reads the signatures and the shapes in `views`, so that OpenAPI describes them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib.resources import files
from typing import Any, Literal

from aios_eccos.errors import DataError, EccosError
from aios_eccos.observe import call_views, views
from aios_eccos.observe.frontier import FrontierView
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.reader import Reader

#: The page's script, in this order.
SCRIPTS = ("parts", "charts", "main")


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `answers` is the shape of its JSON, None for text.

    A `page` carries no data, so a browser may load it before it has the token.
    """

    path: str
    method: Literal["GET", "POST"]
    endpoint: Callable[..., Any]
    answers: type | None
    kind: Literal["json", "metrics", "page"] = "json"


class Endpoints:
    """What the routes do; `reader` raises an `EccosError` while there is none."""

    def __init__(self, reader: Callable[[], Reader]) -> None:
        self._reader = reader

    def status(self) -> views.StatusView:
        """Load, queue, calls, spending, success and whether the floor holds."""
        return self._reader().status()

    def models(self) -> views.ModelsView:
        """Prices, limits, load, forecast and real success of each model."""
        return self._reader().models()

    def decisions(self, n: int = 20) -> call_views.DecisionsView:
        """The last decisions, newest first."""
        return self._reader().decisions(n)

    def decision(self, id: str) -> call_views.ExplainView:
        """One decision (`last`, or its id): why, and what the others would have cost."""
        return self._reader().explain(id)

    def explain(self, body: call_views.ExplainRequest) -> call_views.ExplainView:
        """What would be decided for a text now: asks no model, takes no slot."""
        return self._reader().explain_text(body.text, body.agent)

    def route(self, body: call_views.RouteRequest) -> call_views.RouteView:
        """Which model would serve a text now: asks no model, takes no slot."""
        return self._reader().route(body.text, body.agent, body.asked)

    def savings(self, baseline: str | None = None) -> call_views.SavingsView:
        """Spending beside one model for every call, by forecast."""
        return self._reader().savings(baseline)

    def series(self) -> views.SeriesView:
        """The last hour by minute and the last day by hour."""
        return self._reader().series()

    def frontier(self) -> FrontierView:
        """What success costs on the history, and where the calls of now stand on that."""
        return self._reader().frontier()

    def events(self, n: int = 20) -> views.EventsView:
        """Changes of floors, limits, prices and models, newest first."""
        return self._reader().events(n)

    def feedback(self, body: call_views.FeedbackRequest) -> call_views.FeedbackView:
        """A verdict on the answer of one decision."""
        return self._reader().feedback(body.id, body.correctness)

    def metrics(self) -> str:
        """Prometheus metrics."""
        now = self._reader()
        return metrics_text(now.status(), now.total())


def routes(reader: Callable[[], Reader], refuse: Callable[[int, str], Exception]) -> list[Route]:
    """The routes; `refuse` makes the framework's exception from a status and a reason."""

    def guarded(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(endpoint)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return endpoint(*args, **kwargs)
            except DataError as error:
                raise refuse(404, str(error)) from error
            except EccosError as error:
                raise refuse(503, str(error)) from error

        return wrapped

    found = Endpoints(reader)
    return [
        Route("/eccos/status", "GET", guarded(found.status), views.StatusView),
        Route("/eccos/models", "GET", guarded(found.models), views.ModelsView),
        Route("/eccos/decisions", "GET", guarded(found.decisions), call_views.DecisionsView),
        Route("/eccos/decisions/{id}", "GET", guarded(found.decision), call_views.ExplainView),
        Route("/eccos/explain", "POST", guarded(found.explain), call_views.ExplainView),
        Route("/eccos/route", "POST", guarded(found.route), call_views.RouteView),
        Route("/eccos/savings", "GET", guarded(found.savings), call_views.SavingsView),
        Route("/eccos/series", "GET", guarded(found.series), views.SeriesView),
        Route("/eccos/frontier", "GET", guarded(found.frontier), FrontierView),
        Route("/eccos/events", "GET", guarded(found.events), views.EventsView),
        Route("/eccos/feedback", "POST", guarded(found.feedback), call_views.FeedbackView),
        Route("/eccos/metrics", "GET", guarded(found.metrics), None, "metrics"),
        Route("/eccos/", "GET", page, None, "page"),
    ]


@cache
def page() -> str:
    """The page with its style and script in it; no other may run, by their hashes."""
    folder = files("aios_eccos.observe").joinpath("page")
    parts = [folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    found = {"style": folder.joinpath("style.css").read_text(encoding="utf-8")}
    found["script"] = "".join(parts)
    text = folder.joinpath("index.html").read_text(encoding="utf-8")
    for name, content in found.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = text.replace(f"{{{name}-hash}}", f"sha256-{digest}")
        text = text.replace(f"{{{name}}}", content)
    return text
