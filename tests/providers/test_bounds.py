"""The time of a request also holds for what it asks on its way."""

from __future__ import annotations

import time
from types import SimpleNamespace

import httpcore
import pytest

from aios_eccos.providers import bounds


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
