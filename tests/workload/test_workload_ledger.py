"""Sums, events and notes: the same whatever keeps them, and through a Redis that goes and comes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_workload_contract import every_kind, every_shared
from waiting import until
from workload_servers import RedisServer

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.store import WorkloadStore

Kernel = Callable[[], WorkloadStore]


@every_kind
def test_sums_add_up_by_period(store: WorkloadStore) -> None:
    store.add_sums(
        [PeriodSums("h1", 60, {"calls": 2, "cost é": 0.1}), PeriodSums("total", 0, {"n": 1})]
    )
    store.add_sums([PeriodSums("h1", 60, {"calls": 1, "cost é": 0.2, "new": -1.5})])
    first, none, total = store.sums(["h1", "h2", "total"])
    assert first == pytest.approx({"calls": 3, "cost é": 0.3, "new": -1.5})
    assert (none, total) == ({}, {"n": 1})


@every_kind
def test_many_periods_are_read_in_their_order(store: WorkloadStore) -> None:
    names = [f"m{i}" for i in range(250)]
    store.add_sums([PeriodSums(name, 60, {"n": i}) for i, name in enumerate(names)])
    assert [sums["n"] for sums in store.sums(names)] == list(range(250))
    assert store.sums([]) == []


@every_kind
@pytest.mark.parametrize("amount", [math.nan, math.inf])
def test_an_amount_that_would_spoil_a_sum_is_refused(store: WorkloadStore, amount: float) -> None:
    with pytest.raises(ValueError, match="cannot add"):
        store.add_sums([PeriodSums("total", 0, {"good": 1.0, "bad": amount})])
    assert store.sums(["total"]) == [{}]


@every_kind
def test_a_note_returns_what_stood_there(store: WorkloadStore) -> None:
    assert store.swap_note("mode", "route") is None
    assert store.swap_note("mode", "observe", 60) == "route"
    assert store.notes(["mode", "other"]) == ["observe", None]
    assert store.notes([]) == []


@every_kind
def test_a_note_changes_only_from_what_the_caller_knows(store: WorkloadStore) -> None:
    assert not store.change_note("stage", "1", "2")
    assert store.change_note("stage", None, "1")
    assert not store.change_note("stage", None, "2")
    assert store.change_note("stage", "1", "2")
    assert store.notes(["stage"]) == ["2"]


@every_kind
def test_changes_of_a_note_by_several_threads_all_count(store: WorkloadStore) -> None:
    def count_one(_: int) -> None:
        known, done = None, False
        while not done:
            (known,) = store.notes(["count"])
            done = store.change_note("count", known, str(int(known or 0) + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_one, range(40)))
    assert store.notes(["count"]) == ["40"]


@every_kind
def test_events_are_newest_first(store: WorkloadStore) -> None:
    ids = [store.append_event({"what": "limit", "after": str(n)}) for n in range(3)]
    found = store.events(2)
    assert [fields["after"] for _, fields in found] == ["2", "1"]
    assert [identity for identity, _ in found] == ids[:0:-1]
    assert store.events(0) == []


@every_kind
@pytest.mark.parametrize("identity", ["", "nonsense", "1-2-3", "99999999-0", "- +"])
def test_one_decision_is_found_by_its_id(store: WorkloadStore, identity: str) -> None:
    known = store.append_decision({"model": "small"})
    assert store.decision(known) == {"model": "small"}
    assert store.decision(identity) is None


@every_kind
def test_the_clock_is_a_clock(store: WorkloadStore) -> None:
    assert store.clock() == pytest.approx(time.time(), abs=5)


@every_shared
def test_kernels_add_to_the_same_sums(kernel: Kernel) -> None:
    one, other = kernel(), kernel()
    one.add_sums([PeriodSums("total", 0, {"calls": 1})])
    other.add_sums([PeriodSums("total", 0, {"calls": 1})])
    one.swap_note("n", "1")
    assert other.sums(["total"]) == [{"calls": 2}]
    assert other.notes(["n"]) == ["1"]


@every_kind
def test_a_closed_store_refuses(store: WorkloadStore, kernel: Kernel) -> None:
    other = kernel()
    other.close()
    for ask in (
        lambda: other.add_sums([PeriodSums("total", 0, {"n": 1})]),
        lambda: other.sums(["total"]),
        lambda: other.append_event({"a": "b"}),
        lambda: other.events(1),
        lambda: other.swap_note("n", "1"),
        lambda: other.notes(["n"]),
        lambda: other.decision("1-1"),
        other.clock,
    ):
        with pytest.raises(WorkloadError):
            ask()


def test_memory_forgets_what_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = MemoryWorkload(), time.monotonic()
    store.add_sums([PeriodSums(f"m{i}", 10, {"n": 1}) for i in range(600)])
    for i in range(600):
        store.swap_note(f"note{i}", "x", 10)
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    assert store.sums(["m1"]) == [{}]
    assert store.notes(["note1"]) == [None]
    store.add_sums([PeriodSums("m1", 10, {"n": 1})])
    store.swap_note("note1", "y", 10)
    assert store.sums(["m1"]) == [{"n": 1}]
    store.close()


def test_what_was_counted_without_redis_reaches_it(
    own_server: RedisServer, namespace: str, opened: Callable[..., WorkloadStore]
) -> None:
    store = opened(own_server.url, state_dir=None, namespace=namespace, heartbeat_s=0.1)
    store.add_sums([PeriodSums("total", 0, {"calls": 1})])
    own_server.kill()
    store.add_sums([PeriodSums("total", 0, {"calls": 10})])
    store.append_event({"what": "redis"})
    store.swap_note("n", "away")
    assert store.degraded
    assert store.sums(["total"]) == [{"calls": 10}]
    assert (store.notes(["n"]), len(store.events(5))) == (["away"], 1)
    own_server.start()
    until(lambda: not store.degraded)
    look = open_workload(own_server.url, state_dir=None, namespace=namespace, member=False)  # type: ignore[arg-type]
    assert look.sums(["total"])[0]["calls"] in (10, 11)  # the server may have lost its memory
    assert (look.notes(["n"]), [f for _, f in look.events(5)]) == (["away"], [{"what": "redis"}])
    look.close()
