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

    def revive(self) -> None:
        self.revived += 1
        if self.revived == 1:
            raise ValueError("invalid literal for int(): ''")

    def mark(self) -> None: ...

    @contextmanager
    def listen(self) -> Iterator[Any]:
        yield lambda wait_s: False

    def renew(self) -> None:
        self.renewed += 1

    def warnings(self) -> list[str]:
        return []

    def wake(self) -> None: ...


def test_what_nobody_foresaw_is_told_and_tried_again() -> None:
    store, told = Odd(), []
    heartbeat = Heartbeat(store, period_s=0.05, lost=told.append, back=lambda: None)
    heartbeat.start()
    until(lambda: store.renewed > 1)
    heartbeat.stop()
    (error,) = told
    assert isinstance(error, WorkloadError)
    assert "ValueError" in str(error)
