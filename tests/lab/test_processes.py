"""Tasks of a measurement come to the same in one process and in several."""

import os

import pytest

from aios_eccos.errors import DataError
from aios_eccos.lab.processes import shared_out


def opened(offset):
    """What each process does with a task: its own number, a square, and its threads."""

    def carry(task):
        if task[0] == "bad":
            raise DataError("no such number", source="here", line=3)
        return task[1] ** 2 + offset, os.getpid(), os.environ.get("OMP_NUM_THREADS")

    return carry


def test_several_processes_give_what_one_gives():
    tasks = [("square", number) for number in range(4)]
    with shared_out(opened, 7, count=1) as carried:
        alone = dict(carried(tasks))
    with shared_out(opened, 7, count=2) as carried:
        found = dict(carried(tasks))
    assert {task: value[0] for task, value in found.items()} == {
        task: value[0] for task, value in alone.items()
    }
    assert {pid for _, pid, _ in alone.values()} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid, _ in found.values()}
    # Each has one thread of linear algebra, as together they use the processors.
    assert {threads for *_, threads in found.values()} == {"1"}


def test_a_tasks_error_reaches_whoever_asked():
    wrong = pytest.raises(DataError, match="here:3: no such number")
    with shared_out(opened, 0, count=2) as carried, wrong:
        list(carried([("bad", 0)]))
