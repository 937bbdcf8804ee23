"""The heartbeat goes on whatever it meets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from waiting import until

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.heartbeat import Heartbeat


class Odd:
    """A store whose server is started with a damaged file the first time."""

    def __init__(self) -> None:
        self.revived = self.renewed = 0
        self.channel = self

    def revive(self) -> None:
        self.revived += 1
        if self.revived == 1:
            raise ValueError("invalid literal for int(): ''")

    def mark(self) -> None: ...

    @contextmanager
    def listen(self) -> Iterator[Any]:
        yield lambda wait_s: b""

    def renew(self) -> None:
        self.renewed += 1

    def warnings(self) -> list[str]:
        return []

    def wake(self) -> None: ...


def test_what_nobody_foresaw_is_told_and_tried_again() -> None:
    store, told = Odd(), []
    heartbeat = Heartbeat(store, period_s=0.05, lost=told.append, back=lambda: True)
    heartbeat.start()
    until(lambda: store.renewed > 1)
    heartbeat.stop()
    (error,) = told
    assert isinstance(error, WorkloadError)
    assert "ValueError" in str(error)


def test_what_is_set_right_is_no_longer_warned_of_though_calls_fail_all_the_time() -> None:
    class Wrong(Odd):
        said = ("Redis evicts",)

        def warnings(self) -> list[str]:
            return [*self.said]

    store = Wrong()

    def back() -> bool:
        heartbeat.doubt()  # as each call that fails does
        return False

    heartbeat = Heartbeat(store, period_s=0.05, lost=lambda error: None, back=back)
    heartbeat.start()
    until(lambda: heartbeat.warnings == ["Redis evicts"])
    store.said = ()
    until(lambda: heartbeat.warnings == [])
    heartbeat.stop()


def test_another_kernel_that_asks_who_is_there_hears_at_once() -> None:
    class Asked(Odd):
        said = b""

        @contextmanager
        def listen(self) -> Iterator[Any]:
            def heard(wait_s: float) -> bytes:
                said, self.said = self.said, b""
                return said

            yield heard

    store = Asked()
    heartbeat = Heartbeat(store, period_s=3600.0, lost=lambda error: None, back=lambda: True)
    heartbeat.start()
    until(lambda: store.renewed == 1)
    store.said = b"?another"
    until(lambda: store.renewed == 2)
    heartbeat.stop()
