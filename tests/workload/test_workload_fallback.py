"""Redis goes away, hangs, comes back, comes back empty: lending goes on."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from workload_servers import RedisServer, ears, until

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.fallback import ResilientWorkload
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.server import RemoteServer
from aios_eccos.workload.store import Load, WorkloadStore

SLOT = "small@1234"
Open = Callable[..., WorkloadStore]

#: What the design promises, and what is allowed to a machine that does other things as well.
PROMISED_S, ALLOWED_S = 0.05, 0.4


@pytest.fixture
def store(own_server: RedisServer, opened: Open) -> WorkloadStore:
    return opened(own_server.url, state_dir=Path("unused"), timeout_s=PROMISED_S)


def leases(count: int, name: str = "call") -> list[Lease]:
    return [Lease(f"{name}-{n}", SLOT) for n in range(count)]


def test_a_killed_redis_is_replaced_by_memory_at_once_and_heals_when_it_is_back(
    own_server: RedisServer, store: WorkloadStore, opened: Open
) -> None:
    held = leases(3, "held")
    assert store.acquire(held, {SLOT: 5}) == [True] * 3
    own_server.kill()
    start = time.perf_counter()
    granted = store.acquire(leases(4), {SLOT: 5})
    assert time.perf_counter() - start < ALLOWED_S
    assert granted == [True, True, False, False], "what Redis lent before counts"
    assert store.degraded
    assert store.loads({SLOT: 5})[SLOT] == Load(5, 5, 0.0)
    store.release(held[:1])
    assert store.loads({SLOT: 5})[SLOT].in_use == 4

    own_server.start()  # empty
    until(lambda: not store.degraded)
    other = opened(own_server.url, state_dir=Path("unused"), member=False)
    assert other.loads({SLOT: 9})[SLOT] == Load(4, 5, 0.0)
    store.release([*held, *leases(4)])
    assert other.loads({SLOT: 9})[SLOT].in_use == 0


@pytest.mark.parametrize("use", ["acquire", "release", "loads", "move_price", "append_decision"])
def test_no_call_waits_long_for_a_redis_that_hangs(
    own_server: RedisServer, store: WorkloadStore, use: str
) -> None:
    store.acquire(leases(1), {SLOT: 5})
    calls = {
        "acquire": lambda: store.acquire(leases(1, "next"), {SLOT: 5}),
        "release": lambda: store.release(leases(1)),
        "loads": lambda: store.loads({SLOT: 5}),
        "move_price": lambda: store.move_price("floor", 0.1, 1.0),
        "append_decision": lambda: store.append_decision({"n": "1"}),
    }
    until(lambda: ears(store) == 1)
    own_server.signal(signal.SIGSTOP)
    for _ in range(3):
        start = time.perf_counter()
        calls[use]()
        assert time.perf_counter() - start < ALLOWED_S
    assert store.degraded
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded, 3)  # before the next heartbeat is due


def test_many_threads_wait_for_a_dead_redis_side_by_side(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    held = leases(40)
    store.acquire(held, {SLOT: 50})
    own_server.signal(signal.SIGSTOP)
    waits: list[float] = []

    def give_back(lease: Lease) -> None:
        start = time.perf_counter()
        store.release([lease])
        waits.append(time.perf_counter() - start)

    threads = [threading.Thread(target=give_back, args=(lease,)) for lease in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own_server.signal(signal.SIGCONT)
    assert max(waits) < 2 * ALLOWED_S
    until(lambda: not store.degraded)
    until(lambda: store.loads({SLOT: 50})[SLOT].in_use == 0, 2)


def test_an_answer_that_came_too_late_takes_no_slot(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    """Redis grants what nobody waits for any more; the slot must not be lost until the TTL."""
    store.acquire(leases(1), {SLOT: 1})
    store.release(leases(1))
    own_server.signal(signal.SIGSTOP)
    assert store.acquire(leases(2, "late"), {SLOT: 1}) == [True, False]
    store.release(leases(1, "late"))
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    until(lambda: store.loads({SLOT: 1})[SLOT].in_use == 0, 2)


def test_each_kernel_lends_its_share_of_the_smallest_limit(
    own_server: RedisServer, opened: Open
) -> None:
    kernels = [opened(own_server.url, state_dir=Path("unused")) for _ in range(3)]
    assert kernels[2].acquire([Lease("careful", SLOT)], {SLOT: 7}) == [True]
    kernels[2].release([Lease("careful", SLOT)])
    for number, kernel in enumerate(kernels):
        kernel.acquire([Lease(f"{number}", SLOT)], {SLOT: 30})
        kernel.release([Lease(f"{number}", SLOT)])
    assert [kernel.kernels for kernel in kernels] == [3, 3, 3]
    own_server.kill()
    for number, kernel in enumerate(kernels):
        batch = leases(9, f"kernel-{number}")
        assert sum(kernel.acquire(batch, {SLOT: 7 if number == 2 else 30})) == 2
        assert (
            sum(kernel.acquire([Lease(f"{number}-{n}", "x@1") for n in range(3)], {"x@1": 1})) == 1
        )
        assert sum(kernel.acquire([Lease("off", "off@1")], {"off@1": 0})) == 0


def test_it_is_said_once_that_redis_went_and_once_that_it_came(
    own_server: RedisServer, store: WorkloadStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aios_eccos"):
        own_server.kill()
        for _ in range(20):
            store.loads({SLOT: 1})
        until(lambda: store.degraded)
        own_server.start()
        until(lambda: not store.degraded)
        until(lambda: len(caplog.records) == 2)
        own_server.kill()
        until(lambda: store.degraded)
        own_server.start()
        until(lambda: not store.degraded)
    gone, back = caplog.messages[:2]
    assert "lending 1/1 of each limit from memory" in gone
    assert "answers again" in back
    assert len([text for text in caplog.messages if "from memory" in text]) == 1, "not each minute"


def test_prices_move_on_and_their_moves_reach_redis(opened: Open) -> None:
    server = RedisServer(save=True)
    try:
        store = opened(server.url, state_dir=Path("unused"))
        store.set_prices({"floor": 2.0})
        store.set_prices({"unmoved": 5.0})
        with server.client() as client:  # another kernel moved it since this one looked
            client.hset("eccos:{default}:v1:prices", "floor", "4.0")
        server.kill()
        store.move_price("floor", 0.5, start=9.0)
        store.move_price("floor", 0.25, start=9.0)
        store.move_price("new", 0.1, start=3.0)
        store.set_prices({"set": 7.0})
        store.move_price("set", 0.1, start=1.0)
        assert store.read_prices()["floor"] == pytest.approx(2 * math.exp(0.75)), "as far as known"
        server.start()
        until(lambda: not store.degraded)
        look = opened(server.url, state_dir=Path("unused"), member=False)
        expected = {
            "floor": 4 * math.exp(0.75),
            "unmoved": 5.0,
            "new": 3 * math.exp(0.1),
            "set": 7 * math.exp(0.1),
        }
        until(lambda: look.read_prices() == pytest.approx(expected), 2)
    finally:
        server.close()


def test_a_move_that_redis_makes_too_late_is_made_once(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.move_price("floor", 0.1, 1.0)
    until(lambda: ears(store) == 1)
    own_server.signal(signal.SIGSTOP)
    store.move_price("floor", 0.5, 1.0)
    store.move_price("floor", 0.25, 1.0, once="named")
    assert store.degraded
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    until(lambda: store.read_prices() == pytest.approx({"floor": math.exp(0.85)}))
    assert store.move_price("floor", 0.25, 1.0, once="named") == pytest.approx(math.exp(0.85))


def test_a_price_that_stood_at_its_end_meanwhile_comes_back_as_it_does_here(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    own_server.kill()
    for _ in range(20):
        store.move_price("floor", 1.0, 1.0, 0.5, 2.0)
    store.move_price("floor", -0.1, 1.0, 0.5, 2.0)
    own_server.start()
    until(lambda: not store.degraded)
    until(lambda: store.read_prices() == pytest.approx({"floor": 2 * math.exp(-0.1)}))


def test_prices_survive_a_redis_that_lost_them(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.move_price("floor", 0.5, start=2.0)
    own_server.kill()
    store.move_price("floor", 0.5, start=2.0)
    own_server.start()  # empty
    until(lambda: not store.degraded)
    until(lambda: store.read_prices() == pytest.approx({"floor": 2 * math.e}))


def test_decisions_made_meanwhile_follow(own_server: RedisServer, store: WorkloadStore) -> None:
    own_server.kill()
    for n in range(3):
        store.append_decision({"n": str(n)})
    assert [fields["n"] for _, fields in store.decisions(9)] == ["2", "1", "0"]
    own_server.start()
    until(lambda: not store.degraded)
    until(lambda: [fields["n"] for _, fields in store.decisions(9)] == ["2", "1", "0"])


def test_records_are_not_taken_where_nobody_would_find_them(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.push_inbox([b"1", b"2"])
    assert store.take_inbox(1) == [b"1"]
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(WorkloadError, match="cannot hand over records"):
        store.push_inbox([b"3"])
    assert store.take_inbox(9) == []
    store.ack_inbox()
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    assert store.take_inbox(9) == [b"1"], "what could not be acknowledged comes again"


def test_cooling_and_wakening_work_without_redis(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.cool_down(SLOT, 60.0)
    own_server.kill()
    assert store.loads({SLOT: 5})[SLOT].cooling_s > 0, "it cooled before Redis went"
    store.cool_down(SLOT, 0)
    assert store.loads({SLOT: 5})[SLOT].cooling_s == 0
    assert store.acquire(leases(1), {SLOT: 5}) == [True]
    store.renew()
    rung = threading.Event()
    store.on_release(rung.set)
    store.release(leases(1))
    assert rung.wait(2)


def test_what_a_full_redis_refuses_is_kept_until_it_fits(
    own_server: RedisServer, store: WorkloadStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.acquire(leases(1), {SLOT: 2})
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        store.append_decision({"n": "1"})
        store.move_price("floor", 0.5, start=2.0)
        assert store.degraded
        assert store.acquire(leases(3), {SLOT: 2}) == [True, True, False]
        time.sleep(0.3)
        assert store.degraded, "it does not come and go"
        client.config_set("maxmemory", "0")
    until(lambda: not store.degraded)
    until(lambda: [fields for _, fields in store.decisions(9)] == [{"n": "1"}])
    until(lambda: store.read_prices() == pytest.approx({"floor": 2 * math.exp(0.5)}))
    until(lambda: store.loads({SLOT: 2})[SLOT].in_use == 2)
    assert len([text for text in caplog.messages if "from memory" in text]) == 1


def test_a_decision_that_a_full_redis_refuses_is_kept(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        for n in range(3):
            store.append_decision({"n": str(n)})
        time.sleep(0.3)  # several tries to hand them over
        client.config_set("maxmemory", "0")
    until(lambda: not store.degraded)
    until(lambda: [fields["n"] for _, fields in store.decisions(9)] == ["2", "1", "0"])


def test_what_is_lent_just_before_the_return_reaches_redis(
    own_server: RedisServer, store: WorkloadStore, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the heartbeat that found Redis again, before calls go there again."""
    assert isinstance(store, ResilientWorkload)
    own_server.kill()
    store.acquire(leases(1), {SLOT: 5})
    pay = store._pay

    def lend_and_pay() -> None:
        if store.degraded:
            store.acquire(leases(1, "late"), {SLOT: 5})
        pay()

    monkeypatch.setattr(store, "_pay", lend_and_pay)
    own_server.start()
    until(lambda: not store.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    until(lambda: look.loads({SLOT: 5})[SLOT].in_use == 2, 3)


def test_a_kernel_can_close_while_redis_is_away(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.acquire(leases(1), {SLOT: 1})
    own_server.signal(signal.SIGSTOP)
    start = time.perf_counter()
    store.close()
    assert time.perf_counter() - start < 1.5
    own_server.signal(signal.SIGCONT)


def test_it_can_start_before_redis(own_server: RedisServer, opened: Open) -> None:
    own_server.kill()
    store = opened(own_server.url, state_dir=Path("unused"), required=False)
    assert store.degraded
    assert store.acquire(leases(2), {SLOT: 2}) == [True, True]
    own_server.start()
    until(lambda: not store.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    assert look.loads({SLOT: 2})[SLOT].in_use == 2


def test_the_known_kernels_before_the_first_answer_are_the_given(own_server: RedisServer) -> None:
    own_server.kill()
    shared = RedisWorkload(RemoteServer(own_server.url, PROMISED_S), namespace="default")
    store = ResilientWorkload(shared, kernels=4)
    assert sum(store.acquire(leases(9), {SLOT: 8})) == 2
    store.close()


def test_lending_goes_on_through_many_outages(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    """Threads lend and return all the time; at the end nothing is left over anywhere."""
    stop = threading.Event()
    done, failed = [], []

    def work(n: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            lease = Lease(f"{n}-{turn}", SLOT)
            try:
                if store.acquire([lease], {SLOT: 4})[0]:
                    time.sleep(0.001)
                    store.release([lease])
                    done.append(lease)
            except WorkloadError as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.1)
        own_server.kill()
        time.sleep(0.1)
        own_server.start()
        until(lambda: not store.degraded)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(done) > 100
    until(lambda: not store.degraded)
    store.renew()
    assert store.loads({SLOT: 4})[SLOT].in_use == 0
