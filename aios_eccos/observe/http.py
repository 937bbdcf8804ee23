"""The routes under /eccos/ as plain functions; the kernel's edge puts them on its app.

FastAPI reads the signatures and the shapes in `views`, so that OpenAPI describes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from importlib.resources import files
from typing import Any, Literal

from aios_eccos.errors import DataError, EccosError
from aios_eccos.observe.call_views import (
    DecisionsView,
    ExplainRequest,
    ExplainView,
    FeedbackRequest,
    FeedbackView,
    SavingsView,
)
from aios_eccos.observe.prometheus import metrics_text
from aios_eccos.observe.reader import Reader
from aios_eccos.observe.route import RouteRequest, RouteView
from aios_eccos.observe.views import EventsView, ModelsView, SeriesView, StatusView


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        answers: shape of the JSON answer; None for text.
        kind: `page` carries no data, so a browser may load it before it has the token.
    """

    path: str
    method: Literal["GET", "POST"]
    endpoint: Callable[..., Any]
    answers: type | None
    kind: Literal["json", "metrics", "page"] = "json"


def routes(reader: Callable[[], Reader], refuse: Callable[[int, str], Exception]) -> list[Route]:
    """The routes.

    Args:
        reader: the reader of now; raises an `EccosError` while there is none.
        refuse: makes the framework's exception from a status and a reason.
    """

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

    def status() -> StatusView:
        """Load, queue, calls, spending, success and whether the floor holds."""
        return reader().status()

    def models() -> ModelsView:
        """Prices, limits, load, forecast and real success of each model."""
        return reader().models()

    def decisions(n: int = 20) -> DecisionsView:
        """The last decisions, newest first."""
        return reader().decisions(n)

    def decision(id: str) -> ExplainView:
        """One decision (`last`, or its id): why, and what the others would have cost."""
        return reader().explain(id)

    def explain(body: ExplainRequest) -> ExplainView:
        """What would be decided for a text now: asks no model, takes no slot."""
        return reader().explain_text(body.text, body.agent)

    def route(body: RouteRequest) -> RouteView:
        """Which model would serve a text now: asks no model, takes no slot."""
        return reader().route(body.text, body.agent, body.asked)

    def savings(baseline: str | None = None) -> SavingsView:
        """Spending beside one model for every call, by forecast."""
        return reader().savings(baseline)

    def series() -> SeriesView:
        """The last hour by minute and the last day by hour."""
        return reader().series()

    def events(n: int = 20) -> EventsView:
        """Changes of floors, limits, prices and models, newest first."""
        return reader().events(n)

    def feedback(body: FeedbackRequest) -> FeedbackView:
        """A verdict on the answer of one decision."""
        return reader().feedback(body.id, body.correctness)

    def metrics() -> str:
        """Prometheus metrics."""
        now = reader()
        return metrics_text(now.status(), now.total())

    return [
        Route("/eccos/status", "GET", guarded(status), StatusView),
        Route("/eccos/models", "GET", guarded(models), ModelsView),
        Route("/eccos/decisions", "GET", guarded(decisions), DecisionsView),
        Route("/eccos/decisions/{id}", "GET", guarded(decision), ExplainView),
        Route("/eccos/explain", "POST", guarded(explain), ExplainView),
        Route("/eccos/route", "POST", guarded(route), RouteView),
        Route("/eccos/savings", "GET", guarded(savings), SavingsView),
        Route("/eccos/series", "GET", guarded(series), SeriesView),
        Route("/eccos/events", "GET", guarded(events), EventsView),
        Route("/eccos/feedback", "POST", guarded(feedback), FeedbackView),
        Route("/eccos/metrics", "GET", guarded(metrics), None, "metrics"),
        Route("/eccos/", "GET", page, None, "page"),
    ]


@cache
def page() -> str:
    """The page at /eccos/."""
    return files("aios_eccos.observe").joinpath("page/index.html").read_text(encoding="utf-8")
