"""Tasks of a measurement over several processes, each of which opens the data for itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeAlias

#: A function's name and its arguments.
Task: TypeAlias = tuple[Any, ...]
Carry: TypeAlias = Callable[[Task], Any]
#: Carries tasks out, in whatever order; yields each with its result as soon as it is done.
Carried: TypeAlias = Callable[[Iterable[Task]], Iterator[tuple[Task, Any]]]

#: One thread of linear algebra each: together they use the processors.
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_carry: Carry | None = None


def alone(carry: Carry) -> Carried:
    """One task after the other, in this process."""
    return lambda tasks: ((task, carry(task)) for task in tasks)


@contextlib.contextmanager
def shared_out(opened: Callable[..., Carry], *given: Any, count: int) -> Iterator[Carried]:
    """Tasks over `count` processes; with one there is no other than this.

    Args:
        opened: called in each process; what it returns carries out a task. A module's function, as
            all that is `given` to it must be known by name in another process.
    """
    if count < 2:
        yield alone(opened(*given))
        return
    with environment(THREADS):
        # A fork would copy locks that other threads hold.
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=_open, initargs=(opened, given)
        )
        try:

            def carried(tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
                waiting = {pool.submit(_carried, task): task for task in tasks}
                yield from ((waiting[done], done.result()) for done in as_completed(waiting))

            yield carried
        finally:
            pool.shutdown(cancel_futures=True)


def _open(opened: Callable[..., Carry], given: tuple[Any, ...]) -> None:
    global _carry
    _carry = opened(*given)


def _carried(task: Task) -> Any:
    assert _carry is not None
    return _carry(task)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
