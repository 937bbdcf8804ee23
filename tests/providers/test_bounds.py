"""What a model's server may take, whichever library asks it: time, memory, and no other host."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterator
from types import SimpleNamespace

import httpcore
import httpx
import pytest

from aios_eccos.providers import bounds
from aios_eccos.providers.failures import Broken, failure_of
from integration.hostile.servers import Says, body, server


class Nothing(httpcore.NetworkBackend):
    """Tells how long it may take to connect."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # type: ignore[no-untyped-def]
        self.asked.append(timeout)
        return httpcore.NetworkStream()


def connecting() -> float | None:
    """The seconds that a transport's connections are given now."""
    inner = Nothing()
    pool = SimpleNamespace(_network_backend=inner)
    bounds.timed(SimpleNamespace(_pool=pool))  # type: ignore[arg-type]
    vars(pool)["_network_backend"].connect_tcp("host", 1)
    return inner.asked[0]


def test_a_time_within_another_ends_with_it_and_gives_it_back() -> None:
    assert connecting() is None
    with bounds.within(60.0):
        with bounds.within(3600.0):
            assert 0 < (connecting() or 0) <= 60
        with bounds.within(1.0):
            assert 0 < (connecting() or 0) <= 1
        assert 1 < (connecting() or 0) <= 60
    assert connecting() is None


def test_a_time_that_is_over_connects_to_nothing() -> None:
    with bounds.within(0.0), pytest.raises(httpcore.ConnectTimeout):
        time.sleep(0.001)
        connecting()


def redirects(location: str) -> Says:
    answer = f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return lambda send: send(answer.encode())


@pytest.fixture
def library() -> Iterator[httpx.Client]:
    """A client as LiteLLM and the SDKs below it make them."""
    with httpx.Client(follow_redirects=True, timeout=60.0) as client:
        yield client


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (redirects("http://127.0.0.2:9/v1"), "redirected to another host"),
        (redirects("http://localhost:9/v1"), "redirected to another host"),
        (redirects("//127.0.0.2/v1"), "redirected to another host"),
        (redirects("file:///etc/passwd"), "redirected to another host"),
        (redirects("http://h:port/"), "invalid answer"),
        (body(b" " * 2000), "invalid answer"),
        (body(gzip.compress(b" " * 2000), b"Content-Encoding: gzip\r\n"), "invalid answer"),
        (body(zlib.compress(b" " * 2000), b"Content-Encoding: deflate\r\n"), "invalid answer"),
        (body(b"{}", b"Content-Encoding: gzip, gzip\r\n"), "invalid answer"),
        (body(b"{}", b"Content-Encoding: br\r\n"), "invalid answer"),
        (body(b"{}", b"Content-Encoding: gzip\r\n"), "invalid answer"),
    ],
)
def test_an_answer_beyond_the_bounds_is_broken(library: httpx.Client, says: Says, why: str) -> None:
    with server(says) as url, bounds.within(60.0, 1000), pytest.raises(Broken) as broken:
        library.post(url, json={"prompt": "p"})
    assert failure_of(broken.value).reason == why


def test_a_prompt_does_not_leave_tls(library: httpx.Client) -> None:
    request = httpx.Request("POST", "https://models.example/v1")
    for location, stays in (("http://models.example/v1", False), ("/v2", True)):
        response = httpx.Response(307, headers={"location": location})
        if stays:
            bounds._check_redirect(request, response)
            continue
        with pytest.raises(Broken, match="redirected out of TLS"):
            bounds._check_redirect(request, response)


def test_an_answer_within_the_bounds_is_whole(library: httpx.Client) -> None:
    plain, packed = body(b"{}"), body(gzip.compress(b"{}"), b"Content-Encoding: gzip\r\n")
    for says in (plain, packed):
        with server(says) as url, bounds.within(60.0, 1000):
            got = library.post(url, json={})
            assert (got.json(), got.headers["content-type"]) == ({}, "application/json")


def test_values_that_would_fill_the_memory_are_not_parsed(
    library: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_VALUES", 100)
    for part in (b"[],", b'{"a":{}},', b"0,", b'"",'):
        says = body(b"[" + part * 101 + b"0]")
        with server(says) as url, bounds.within(60.0), pytest.raises(Broken):
            library.post(url, json={})


def test_a_library_is_let_alone_where_no_bounds_are_set(library: httpx.Client) -> None:
    with server(body(gzip.compress(b"{}"), b"Content-Encoding: gzip\r\n")) as url:
        asked = library.build_request("POST", url, json={})
        assert library.send(asked).json() == {}
        assert "gzip" in asked.headers["accept-encoding"]


def test_a_failure_is_told_however_often_a_library_has_wrapped_it() -> None:
    try:
        try:
            raise Broken(bounds.INVALID)
        except Broken as inner:
            raise RuntimeError("no connection") from inner
    except RuntimeError as error:
        assert failure_of(error) is bounds.INVALID
