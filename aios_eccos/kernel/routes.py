"""Our routes on the kernel's app, and who may call them.

The kernel answers every Origin, so a web page that the operator visits could read decisions.
Therefore: loopback only and no foreign Origin, unless `http_token` is set; then it is required.
"""

from __future__ import annotations

import importlib
import secrets
import sys
from typing import Any
from urllib.parse import urlsplit

from .adapter import EccosAdapter
from .scheduler import EccosScheduler
from .serving import Serving

LOOPBACK = ("127.0.0.1", "::1", "localhost", "testclient")


def add(app: Any, serving: Serving) -> None:
    """Add the routes under /eccos/."""
    fastapi = importlib.import_module("fastapi")

    def guard(request: Any) -> None:
        config = serving.config
        token = config.settings.http_token if config is not None else None
        reason = refusal(
            request.client.host if request.client else "",
            request.headers.get("host", ""),
            request.headers.get("origin"),
            request.headers.get("authorization"),
            None if token is None else token.get_secret_value(),
        )
        if reason is not None:
            raise fastapi.HTTPException(status_code=403, detail=reason)

    guard.__annotations__ = {"request": fastapi.Request}

    def kernel() -> dict[str, Any]:
        """The kernel's edge: mode, models in force, calls waiting and running."""
        return kernel_status(serving)

    def mode(body: dict[str, str]) -> dict[str, str]:
        """Set the mode, `route` or `observe`, until the next refresh."""
        wanted = body.get("mode")
        if wanted not in ("route", "observe"):
            raise fastapi.HTTPException(
                status_code=422, detail="mode: allowed are route and observe"
            )
        serving.mode = wanted
        return {"mode": wanted}

    guarded = [fastapi.Depends(guard)]
    mode.__annotations__ = {"body": dict[str, str]}
    app.add_api_route("/eccos/kernel", kernel, methods=["GET"], dependencies=guarded)
    app.add_api_route("/eccos/mode", mode, methods=["POST"], dependencies=guarded)


def refusal(
    client: str, host: str, origin: str | None, authorization: str | None, token: str | None
) -> str | None:
    """Why a request may not be answered; None if it may.

    Args:
        client: the peer's address.
        host, origin, authorization: headers.
        token: the setting `http_token`.
    """
    if token is not None:
        sent = (authorization or "").removeprefix("Bearer ")
        if secrets.compare_digest(sent.encode(), token.encode()):
            return None
        return "http_token is set: send it as `Authorization: Bearer TOKEN`"
    # The Host header too: a name that an attacker points at 127.0.0.1 would pass otherwise.
    if client not in LOOPBACK or _name(f"//{host}") not in (*LOOPBACK, ""):
        return "only from this machine, unless http_token is set"
    if origin is not None and _name(origin) not in LOOPBACK:
        return "not for foreign web pages, unless http_token is set"
    return None


def _name(url: str) -> str:
    return urlsplit(url).hostname or ""


def kernel_status(serving: Serving) -> dict[str, Any]:
    """What the edge knows of itself, as JSON."""
    engine, adapter, shadow = serving.engine, serving.adapter, serving.shadow
    waiting, running = engine.dispatcher.depth() if engine is not None else (0, 0)
    return {
        "mode": serving.mode,
        "models": list(adapter.available_llm_names) if adapter is not None else [],
        "waiting": waiting,
        "running": running,
        "settled": serving.settled,
        "failed": serving.failed,
        "seams": seams(serving),
        "undecided": engine.router.failures if engine is not None else 0,
        "observed": {
            "calls": shadow.calls,
            "same_choice": shadow.same,
            "forecast_cost_served_usd": shadow.cost_served,
            "forecast_cost_routed_usd": shadow.cost_routed,
            "forecast_successes_served": shadow.success_served,
            "forecast_successes_routed": shadow.success_routed,
        },
    }


def seams(serving: Serving) -> dict[str, bool]:
    """Whether the plugin sits at each place of this kernel where it should."""
    llm = sys.modules.get("aios.hooks.modules.llm")
    scheduler = sys.modules.get("aios.hooks.modules.scheduler")
    current = EccosScheduler.current()
    return {
        "adapter": issubclass(getattr(llm, "LLM", object), EccosAdapter),
        "FIFO scheduler": issubclass(getattr(scheduler, "FIFOScheduler", object), EccosScheduler),
        "RR scheduler": issubclass(getattr(scheduler, "RRScheduler", object), EccosScheduler),
        "active scheduler": current is not None and current.active,
        "adapter in force": current is not None and current.llm is serving.adapter,
    }
