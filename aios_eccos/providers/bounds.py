"""Connections that end with their request's time, whatever their server does.

Httpx limits each read alone: a server that sends a header without end, a byte at a time, or says
for ever that it goes on, would hold a call for good.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx


class _Now(threading.local):
    """When the request of this thread has to end, by the monotonic clock."""

    until = math.inf


_now = _Now()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the requests of this thread end within so many seconds, and within those around it."""
    before = _now.until
    _now.until = min(before, time.monotonic() + seconds)
    try:
        yield
    finally:
        _now.until = before


def timed(transport: httpx.HTTPTransport) -> httpx.HTTPTransport:
    """The transport, whose connections keep to `within` from now on."""
    pool: Any = transport._pool
    # Httpx has no other way to it; where a version of it has not this one, reads are limited alone.
    if getattr(pool, "_network_backend", None) is not None:
        pool._network_backend = _Backend(pool._network_backend)
    return transport


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
