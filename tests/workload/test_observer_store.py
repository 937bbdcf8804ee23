"""Looking never costs a kernel its Redis."""

from __future__ import annotations

import pytest

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload import proxies
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.proxies import ObserverStore


class Fickle(MemoryWorkload):
    away = False
    degraded = False

    def sums(self, periods):
        if self.away:
            raise WorkloadError("away")
        return super().sums(periods)


def test_it_asks_its_own_connection_first() -> None:
    own, other = Fickle(), Fickle()
    store = ObserverStore(own, lambda: other)
    store.add_sums([PeriodSums("total", 0, {"n": 1})])
    store.swap_note("a", "b")
    identity = store.append_decision({"m": "x"})
    store.append_event({"e": "x"})
    store.push_inbox([b"x"])
    assert store.decision(identity) == {"m": "x"}
    assert [f for _, f in store.decisions(3)] == [{"m": "x"}]
    assert (len(store.events(3)), store.notes(["a"])) == (1, ["b"])
    assert store.sums(["total"]) == [{"n": 1}]
    assert own.sums(["total"]) == [{}]
    assert (store.degraded, store.kernels) == (False, 1)
    store.close()
    with pytest.raises(WorkloadError):
        other.sums(["total"])
    assert store.sums(["total"]) == [{}]  # the kernel's store lives on


def test_a_connection_that_fails_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, opened = Fickle(), []

    def connect():
        opened.append(Fickle())
        opened[-1].away = len(opened) == 1
        return opened[-1]

    store = ObserverStore(own, connect)
    own.add_sums([PeriodSums("total", 0, {"own": 1})])
    assert store.sums(["total"]) == [{"own": 1}]
    assert store.sums(["total"]) == [{"own": 1}]
    assert len(opened) == 1
    monkeypatch.setattr(store, "_rest_until", 0.0)
    assert store.sums(["total"]) == [{}]
    assert len(opened) == 2
    store.close()


def test_a_connection_that_cannot_be_made_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect():
        raise WorkloadError("refused")

    monkeypatch.setattr(proxies, "REST_S", 0.0)
    store = ObserverStore(MemoryWorkload(), connect)
    assert store.sums(["total"]) == [{}]
    store.close()


def test_without_redis_the_load_is_the_kernels_own() -> None:
    own, other = Fickle(), Fickle()
    own.degraded = True  # type: ignore[misc]
    own.acquire([Lease("c", "s")], {"s": 2})
    store = ObserverStore(own, lambda: other)
    assert store.loads({"s": 2})["s"].in_use == 1
    own.degraded = False  # type: ignore[misc]
    assert store.loads({"s": 2})["s"].in_use == 0
    store.close()
