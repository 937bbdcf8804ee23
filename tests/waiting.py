"""Waits for what other threads and processes do by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Made = TypeVar("Made")

#: A limit is there to end a test that fails. On a busy machine little takes so long.
PATIENCE_S = 60.0


def until(holds: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Wait until a condition holds; fails where it does not come to that."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return True


def made_in_time(make: Callable[[], Made], in_time: Callable[[Made], object]) -> Made:
    """What is made, again where it was too late to be tested.

    On a busy machine the time of a call that is given little of it passes before a model is asked.
    """
    made: list[Made] = []

    def attempt() -> object:
        made.append(make())
        return in_time(made[-1])

    until(attempt)
    return made[-1]
