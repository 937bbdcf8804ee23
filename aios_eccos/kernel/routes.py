"""Our routes on the kernel's app, and who may call them.

The kernel answers every Origin, so a web page that the operator visits could read decisions.
Therefore: loopback only and no foreign Origin, unless `http_token` is set; then it is required.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Coroutine
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any, Literal

from fastapi import HTTPException, responses
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from aios_eccos.config.checks import LARGEST_SHARE
from aios_eccos.kernel.body_limit import OURS, limited
from aios_eccos.kernel.scheduler import Process
from aios_eccos.kernel.serving import Serving
from aios_eccos.kernel.status import kernel_status, reader
from aios_eccos.observe import http
from aios_eccos.observe.prometheus import CONTENT_TYPE

#: A name or an address, and perhaps a port (RFC 9110, section 7.2).
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{0,253}))(?::[0-9]{1,5})?")
#: Headers that proxies add: behind one, every request seems to come from this machine.
FORWARDED = {"forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host"}
#: No other page may frame what is shown, or have it read as what it is not.
UNFRAMED = {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff"}


def add(app: Any, process: Process) -> None:
    serving = process.serving
    classes = {
        "json": responses.JSONResponse,
        "metrics": type("Metrics", (responses.PlainTextResponse,), {"media_type": CONTENT_TYPE}),
        "page": responses.HTMLResponse,
    }

    def kernel() -> dict[str, Any]:
        """The kernel's edge: mode, models in force, calls waiting and running."""
        return kernel_status(process)

    def mode(body: ModeRequest) -> ModeRequest:
        """Set the mode, `route`, `observe` or `canary`, until the next refresh."""
        serving.switch(body.mode)
        process.broadcast.send("mode", body.mode)
        return body

    def audit(body: AuditRequest) -> AuditRequest:
        """Set the share of money that audits may spend, until the next refresh."""
        serving.set_audit(body.share)
        process.broadcast.send("audit", repr(body.share))
        return body

    for route in (
        http.Route("/eccos/kernel", "GET", kernel, dict[str, Any]),
        http.Route("/eccos/mode", "POST", mode, ModeRequest),
        http.Route("/eccos/audit", "POST", audit, AuditRequest),
        *http.routes(lambda: reader(serving), HTTPException),
    ):
        app.router.add_api_route(
            route.path,
            route.endpoint,
            methods=[route.method],
            response_model=route.answers,
            response_class=classes[route.kind],
            route_class_override=_guarded(serving, route.kind == "page"),
            tags=["eccos"],
        )


class ModeRequest(BaseModel):
    """`POST /eccos/mode`."""

    mode: Literal["route", "observe", "canary"]


class AuditRequest(BaseModel):
    """`POST /eccos/audit`; 0 = off."""

    share: Annotated[float, Field(ge=0, le=LARGEST_SHARE)]


def _guarded(serving: Serving, page: bool) -> type[APIRoute]:
    """FastAPI's route, which looks at who asks before it reads the body.

    A page carries no data: with a token set, anyone may load it.
    """

    class Guarded(limited(OURS)):  # type: ignore[misc]
        def get_route_handler(self) -> Callable[[Any], Coroutine[Any, Any, Any]]:
            handler = super().get_route_handler()

            async def answer(request: Any) -> Any:
                config = serving.config
                token = config.settings.http_token if config is not None else None
                sent = request.headers
                refused = refusal(
                    request.client.host if request.client else "",
                    ",".join(sent.getlist("host")),
                    sent.get("origin"),
                    sent.get("authorization"),
                    None if token is None else token.get_secret_value(),
                    forwarded=not FORWARDED.isdisjoint(sent),
                )
                if refused is not None and not (page and token is not None):
                    code, reason = refused
                    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
                    raise HTTPException(code, reason, headers)
                try:
                    given = await handler(request)
                    given.headers.update(UNFRAMED)
                    return given
                except RequestValidationError as error:
                    # FastAPI's own answer repeats the body, which JSON may not be able to hold.
                    first = error.errors()[0]
                    text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
                    plain = text.encode("utf-8", "replace").decode()
                    raise HTTPException(422, plain[:500]) from error

            return answer

    return Guarded


def refusal(
    client: str,
    host: str,
    origin: str | None,
    authorization: str | None,
    token: str | None,
    *,
    forwarded: bool = False,
) -> tuple[int, str] | None:
    """The status and the reason for which a request may not be answered; None if it may.

    `client` is the peer's address; `forwarded`: a proxy sent it on.
    """
    named = HOST.fullmatch(host)
    if named is None:
        return 400, "the Host header is malformed"
    if token is not None:
        scheme, _, sent = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and secrets.compare_digest(sent.encode(), token.encode()):
            return None
        return 401, "http_token is set: send it as `Authorization: Bearer TOKEN`"
    if forwarded:
        return 403, "not through a proxy, unless http_token is set"
    # The Host header too: a name that an attacker points at 127.0.0.1 would pass otherwise.
    if not is_here(client) or not (host == "" or is_here(named[1] or named[2])):
        return 403, "only from this machine, unless http_token is set"
    scheme, _, place = ("http://localhost" if origin is None else origin).partition("://")
    page = HOST.fullmatch(place) if scheme in ("http", "https") else None
    if page is None or not is_here(page[1] or page[2]):
        return 403, "not for foreign web pages, unless http_token is set"
    return None


def is_here(name: str) -> bool:
    try:
        address = ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (inner or address).is_loopback
