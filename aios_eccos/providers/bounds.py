"""Bounds of what a model's server may take: a request's time, memory, and the host that was asked.

Httpx has none of them. It limits each read alone, so that a server that drips a header, or says for
ever that it goes on, would hold a call for good; it holds whatever an answer or a redirect unpacks
to; and it sends a prompt wherever a server points.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import httpcore
import httpx

from aios_eccos.providers.failures import INVALID, Broken

#: Longest body of an answer, unpacked; a million tokens are less.
MOST_BYTES = 64_000_000
#: Most values in an answer's JSON: as Python's objects each takes many times its length.
MOST_VALUES = 2_000_000
#: Encodings in which a body may come though none was asked for.
_PACKED = ("gzip", "x-gzip", "deflate")
#: Headers that say how a body was sent, not what it is.
_SENDING = (b"content-encoding", b"content-length", b"transfer-encoding")
_Handle = Callable[[httpx.HTTPTransport, httpx.Request], httpx.Response]


class _Now(threading.local):
    """The bounds of this thread's requests: until when (monotonic clock), and how many bytes."""

    until = math.inf
    most = MOST_BYTES


_now = _Now()


@contextmanager
def within(seconds: float, most: int = MOST_BYTES) -> Iterator[None]:
    """Hold this thread's requests to bounds, whichever library sends them by httpx.

    They end within so many seconds, and within those around this. An answer is read whole, and
    `Broken` where it has more than `most` bytes or values, or sends a prompt to another host.
    """
    before = _now.until, _now.most
    _now.until, _now.most = min(before[0], time.monotonic() + seconds), most
    try:
        yield
    finally:
        _now.until, _now.most = before


def _bounded(handle: _Handle) -> _Handle:
    """How httpx sends a request, with the bounds of `within` where that is in force."""

    def handle_request(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if math.isinf(_now.until):
            return handle(self, request)
        timed(self)
        request.headers["Accept-Encoding"] = "identity"
        with closing(handle(self, request)) as response:
            _check_redirect(request, response)
            content = _unpacked(_whole(response), response.headers.get("content-encoding", ""))
        if len(content) > MOST_VALUES and sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise Broken(INVALID)
        return httpx.Response(
            response.status_code,
            headers=[each for each in response.headers.raw if each[0].lower() not in _SENDING],
            content=content,
            extensions=response.extensions,
        )

    return handle_request


# LiteLLM and the SDKs below it make clients of their own, and offer no other way to all of them.
httpx.HTTPTransport.handle_request = _bounded(  # type: ignore[assignment, method-assign]
    httpx.HTTPTransport.handle_request
)


def _check_redirect(request: httpx.Request, response: httpx.Response) -> None:
    """Let a server redirect a prompt within its host alone, and not out of TLS.

    A kernel that keeps private calls on local models goes by the configured address. What carries
    no prompt, such as a picture that is fetched for one, may come from anywhere.
    """
    if request.method != "POST" or not response.has_redirect_location:
        return
    try:
        target = request.url.join(response.headers["location"])
    except (httpx.InvalidURL, ValueError) as error:
        raise Broken(INVALID) from error
    if target.host != request.url.host:
        raise Broken(replace(INVALID, reason="redirected to another host"))
    if request.url.scheme == "https" != target.scheme:
        raise Broken(replace(INVALID, reason="redirected out of TLS"))


def _whole(response: httpx.Response) -> bytes:
    """The answer's body as it was sent."""
    raw = bytearray()
    for piece in response.iter_raw():
        raw += piece
        if len(raw) > _now.most:
            raise Broken(INVALID)
        if time.monotonic() > _now.until:
            raise httpx.ReadTimeout("the answer comes too slowly")
    return bytes(raw)


def _unpacked(raw: bytes, encoding: str) -> bytes:
    if not raw or encoding.lower() in ("", "identity"):
        return raw
    if encoding.lower() not in _PACKED:
        raise Broken(INVALID)
    try:
        content = zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(raw, _now.most + 1)
    except zlib.error as error:
        raise Broken(INVALID) from error
    if len(content) > _now.most:
        raise Broken(INVALID)
    return content


def timed(transport: httpx.HTTPTransport) -> None:
    """Have the connections of a transport keep to `within` from now on."""
    pool: Any = transport._pool
    # Httpx has no other way to it; where a version of it has not this one, reads are limited alone.
    inner = getattr(pool, "_network_backend", None)
    if inner is not None and not isinstance(inner, _Backend):
        pool._network_backend = _Backend(inner)


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """What is left of the request's time, or of this step's, seconds."""
    left = _now.until - time.monotonic()
    if left <= 0:
        raise late("the request's time is over")
    least = min(left, math.inf if timeout is None else timeout)
    return None if math.isinf(least) else least


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options))

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_unix_socket(path, left, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
