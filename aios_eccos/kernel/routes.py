"""Our routes on the kernel's app, and who may call them.

The kernel answers every Origin, so a web page that the operator visits could read decisions.
Therefore: loopback only and no foreign Origin, unless `http_token` is set; then it is required.
"""

from __future__ import annotations

import importlib
import secrets
from typing import Any
from urllib.parse import urlsplit

from aios_eccos.kernel.process import Process
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.status import kernel_status, reader
from aios_eccos.observe import http
from aios_eccos.observe.prometheus import CONTENT_TYPE

LOOPBACK = ("127.0.0.1", "::1", "localhost", "testclient")


def add(app: Any, process: Process) -> None:
    """Add the routes under /eccos/."""
    serving = process.serving
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
            code, headers = (403, {}) if token is None else (401, {"WWW-Authenticate": "Bearer"})
            raise fastapi.HTTPException(status_code=code, detail=reason, headers=headers)

    guard.__annotations__ = {"request": fastapi.Request}

    def kernel() -> dict[str, Any]:
        """The kernel's edge: mode, models in force, calls waiting and running."""
        return kernel_status(process)

    def mode(body: dict[str, str]) -> dict[str, str]:
        """Set the mode, `route` or `observe`, until the next refresh."""
        wanted = body.get("mode")
        if wanted not in ("route", "observe"):
            raise fastapi.HTTPException(
                status_code=422, detail="mode: allowed are route and observe"
            )
        serving.switch(wanted)
        process.broadcast.send("mode", wanted)
        return {"mode": wanted}

    guarded = [fastapi.Depends(guard)]
    mode.__annotations__ = {"body": dict[str, str]}
    app.add_api_route("/eccos/kernel", kernel, methods=["GET"], dependencies=guarded)
    app.add_api_route("/eccos/mode", mode, methods=["POST"], dependencies=guarded)
    _add_observe(app, serving, fastapi, guarded)


def _add_observe(app: Any, serving: Serving, fastapi: Any, guarded: list[Any]) -> None:
    """What `observe` shows. Its page carries no data: with a token set, anyone may load it."""

    def public(request: Any) -> None:
        config = serving.config
        if config is None or config.settings.http_token is None:
            guarded[0].dependency(request)

    public.__annotations__ = {"request": fastapi.Request}
    text = fastapi.responses.PlainTextResponse
    classes = {
        "json": fastapi.responses.JSONResponse,
        "metrics": type("MetricsResponse", (text,), {"media_type": CONTENT_TYPE}),
        "page": fastapi.responses.HTMLResponse,
    }
    for route in http.routes(
        lambda: reader(serving), lambda code, why: fastapi.HTTPException(code, detail=why)
    ):
        app.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            response_model=route.answers,
            response_class=classes[route.kind],
            dependencies=[fastapi.Depends(public)] if route.kind == "page" else guarded,
            tags=["eccos"],
        )


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
