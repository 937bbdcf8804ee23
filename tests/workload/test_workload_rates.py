"""Requests and tokens per minute, and money: taken with a slot, settled once, shared by all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from waiting import until
from workload_servers import RedisServer

from aios_eccos.values import Cap, Lease, Need, Rates, Spent, Used
from aios_eccos.workload import memory, meters
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import WINDOW_S, Load, WorkloadStore

Kernel = Callable[[], WorkloadStore]

SHARED = ["unix", "embedded", "cluster"]
SLOT = "small@1234"
MANY = {SLOT: 100}

every_kind = pytest.mark.parametrize("kind", ["memory", "look-up", *SHARED])
every_shared = pytest.mark.parametrize("kind", SHARED)


def cap(usd: float, key: str = "all:d1") -> Cap:
    return Cap(key, key, usd, time.time() + 3600)


def call(name: str, tokens: int = 0, usd: float = 0.0, *caps: Cap, slot: str = SLOT) -> Lease:
    return Lease(name, slot, Need(tokens, usd, caps))


def calls(count: int, tokens: int = 0, usd: float = 0.0, *caps: Cap) -> list[Lease]:
    return [call(f"call-{n}", tokens, usd, *caps) for n in range(count)]


def load(store: WorkloadStore, rates: Rates) -> Load:
    return store.loads(MANY, {SLOT: rates})[SLOT]


@every_kind
def test_a_minute_gives_so_many_requests_whatever_is_released(store: WorkloadStore) -> None:
    rates = {SLOT: Rates(rpm=3)}
    taken = calls(5)
    assert store.acquire(taken, MANY, rates) == [True] * 3 + [False] * 2
    store.settle([(lease, Used()) for lease in taken[:3]])
    store.release(taken)
    assert store.acquire([call("next")], MANY, rates) == [False]
    found = load(store, rates[SLOT])
    assert (found.in_use, found.requests, found.free) == (0, 3, 0)
    assert WINDOW_S - 5 < found.opens_s <= WINDOW_S


@every_kind
def test_a_minute_gives_so_many_tokens_and_those_not_needed_come_back(store: WorkloadStore) -> None:
    rates = {SLOT: Rates(tpm=100)}
    first, second = call("first", 60), call("second", 60)
    assert store.acquire([first, second], MANY, rates) == [True, False]
    assert load(store, rates[SLOT]).tokens_left == 40
    store.settle([(first, Used(tokens=20))])
    assert load(store, rates[SLOT]).tokens_left == 80
    assert store.acquire([second], MANY, rates) == [True]


@every_kind
def test_more_than_was_forecast_is_owed_and_no_more(store: WorkloadStore) -> None:
    rates = {SLOT: Rates(tpm=100)}
    lease = call("long", 60)
    store.acquire([lease], MANY, rates)
    store.settle([(lease, Used(tokens=150))])
    found = load(store, rates[SLOT])
    assert (found.tokens, found.tokens_left) == (150, 0)
    assert store.acquire([call("next", 1)], MANY, rates) == [False]


@every_kind
def test_a_need_is_settled_once(store: WorkloadStore) -> None:
    rates, day = {SLOT: Rates(tpm=100)}, cap(1.0)
    lease = call("once", 60, 0.5, day)
    store.acquire([lease], MANY, rates)
    assert store.spent([day]) == [Spent(0.0, 0.5)]
    for _ in range(3):
        store.settle([(lease, Used(tokens=30, usd=0.2))])
    assert load(store, rates[SLOT]).tokens == 30
    assert store.spent([day]) == [Spent(0.2, 0.0)]
    store.release([lease])
    again = call("once", 60, 0.5, day)
    assert store.acquire([again], MANY, rates) == [True], "a second try has a need of its own"
    assert store.spent([day]) == [Spent(0.2, 0.5)]


@every_kind
def test_a_request_that_was_never_made_has_taken_nothing(store: WorkloadStore) -> None:
    rates, day = {SLOT: Rates(rpm=1, tpm=100)}, cap(1.0)
    lease = call("dropped", 60, 0.5, day)
    store.acquire([lease], MANY, rates)
    store.settle([(lease, Used(requests=0))])
    store.release([lease])
    found = load(store, rates[SLOT])
    assert (found.requests, found.tokens) == (0, 0)
    assert store.spent([day]) == [Spent()]


@every_kind
def test_a_repeated_acquire_is_charged_once(store: WorkloadStore) -> None:
    rates = {SLOT: Rates(rpm=5, tpm=100)}
    lease = call("again", 30)
    store.acquire([lease], MANY, rates)
    assert store.acquire([lease, lease], MANY, rates) == [True, True]
    store.renew()
    store.renew()
    found = load(store, rates[SLOT])
    assert (found.requests, found.tokens) == (1, 30)


@every_kind
def test_no_cap_is_passed_and_what_costs_nothing_passes(store: WorkloadStore) -> None:
    day, month = cap(1.0), cap(1.5, "all:m1")
    taken = calls(4, 0, 0.4, day, month)
    assert store.acquire(taken, MANY) == [True, True, False, False]
    store.settle([(lease, Used(usd=0.5)) for lease in taken[:2]])
    assert store.spent([day, month]) == [Spent(1.0, 0.0, 0.2)] * 2
    free = call("free", 0, 0.0, day, month)
    assert store.acquire([call("tiny", 0, 1e-9, day, month), free], MANY) == [False, True]
    tomorrow = cap(1.0, "all:d2")
    batch = [call("new", 0, 0.5, tomorrow, month), call("new-2", 0, 0.1, tomorrow, month)]
    assert store.acquire(batch, MANY) == [True, False], "the month's cap binds"


@every_kind
def test_leases_of_one_call_are_granted_together_or_not_at_all(store: WorkloadStore) -> None:
    other = "large@1"
    limits = {SLOT: 1, other: 2}
    both = [[Lease(name, SLOT), Lease(name, other)] for name in ("one", "two")]
    alone = Lease("three", other)
    granted = store.acquire([*both[0], *both[1], alone], limits)
    assert granted == [True, True, False, False, True]
    assert [each.in_use for each in store.loads(limits).values()] == [1, 2]


@every_kind
def test_a_plan_takes_all_rates_or_none(store: WorkloadStore) -> None:
    other = "large@1"
    limits, rates = {SLOT: 9, other: 9}, {SLOT: Rates(rpm=9), other: Rates(tpm=50)}
    plan = [call("plan", 10), call("plan", 60, slot=other)]
    assert store.acquire(plan, limits, rates) == [False, False]
    assert [each.requests for each in store.loads(limits, rates).values()] == [0, 0]


@every_kind
def test_a_server_that_asks_for_it_is_left_alone(store: WorkloadStore) -> None:
    store.cool_down(SLOT, 60.0, closed=True)
    found = store.loads(MANY)[SLOT]
    assert found.free == 0
    assert 55 < found.closed_s <= 60
    assert store.acquire([Lease("call", SLOT)], MANY) == [False]
    store.cool_down(SLOT, 0)
    assert store.acquire([Lease("call", SLOT)], MANY) == [True]


@every_kind
def test_a_closed_server_opens_by_itself(store: WorkloadStore) -> None:
    store.cool_down(SLOT, 0.05, closed=True)
    store.cool_down(SLOT, 60.0)
    until(lambda: store.acquire([Lease("call", SLOT)], MANY) == [True])


@every_kind
def test_what_is_older_than_a_minute_counts_no_longer(
    kind: str, store: WorkloadStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {SLOT: Rates(rpm=2, tpm=100)}
    old, running = call("old", 40), call("running", 40)
    store.acquire([old, running], MANY, rates)
    store.settle([(old, Used(tokens=40))])
    if kind == "memory":
        now = time.time() + WINDOW_S + 1
        monkeypatch.setattr(meters.time, "time", lambda: now)
        assert memory.time.time() == now
    else:
        kind_of = "redis_server" if kind == "look-up" else None
        bare = (
            request.getfixturevalue("redis_server").client()
            if kind_of
            else request.getfixturevalue("bare")
        )
        age(bare, request.getfixturevalue("namespace"), WINDOW_S + 1)
    found = load(store, rates[SLOT])
    assert (found.requests, found.tokens, found.opens_s) == (0, 0, 0.0)
    assert store.acquire(calls(3, 10), MANY, rates) == [True, True, False]
    store.settle([(running, Used(tokens=70))])
    assert load(store, rates[SLOT]).tokens == 90, "its tokens count when it has answered"


def age(bare: Redis, namespace: str, seconds: int) -> None:
    """Let what was counted lately have been counted earlier."""
    key = f"eccos:{{{namespace}}}:v1:recent:{SLOT}"
    older = {}
    for field, value in bare.hgetall(key).items():
        name = field.decode()
        if name[0] in "rt" and name[1:].isdigit():
            name = f"{name[0]}{int(name[1:]) - seconds}"
        elif name == "upto":
            value = int(value) - seconds
        older[name] = value
    bare.delete(key)
    bare.hset(key, mapping=older)
    charged = f"eccos:{{{namespace}}}:v1:charged"
    for need, expiry in bare.zrange(charged, 0, -1, withscores=True):
        bare.zadd(charged, {need: expiry - seconds * 1000})


@every_shared
def test_the_smallest_rates_of_the_living_kernels_hold(
    kernel: Kernel, store: WorkloadStore
) -> None:
    careful = kernel()
    careful.acquire([call("careful", 10)], MANY, {SLOT: Rates(rpm=3, tpm=50)})
    rates = {SLOT: Rates(rpm=60)}
    assert store.acquire(calls(3, 15), MANY, rates) == [True, True, False]
    assert load(store, rates[SLOT]).rates == Rates(rpm=3, tpm=50)
    careful.close()
    until(lambda: load(store, rates[SLOT]).rates == Rates(rpm=60))


@every_shared
def test_a_rate_that_is_declared_no_longer_holds_no_longer(store: WorkloadStore) -> None:
    store.acquire([call("first")], MANY, {SLOT: Rates(rpm=1)})
    # A heartbeat on its way may declare it once more, until it sees what has changed.
    until(lambda: store.acquire([call("second")], MANY) == [True])
    until(lambda: load(store, Rates()).rates == Rates())


@every_shared
def test_two_kernels_share_a_minute_and_a_cap(kernel: Kernel, store: WorkloadStore) -> None:
    other, day = kernel(), cap(1.0)
    rates = {SLOT: Rates(rpm=3)}
    assert store.acquire([call("a", 0, 0.3, day), call("b", 0, 0.3, day)], MANY, rates)[1]
    assert other.acquire([call("c", 0, 0.5, day)], MANY, rates) == [False]
    assert other.acquire(calls(2, 0, 0.1, day), MANY, rates) == [True, False]


def test_money_is_counted_exactly() -> None:
    assert Need(usd=0.1 + 0.2).nano == 300_000_000
    assert Need(usd=1e-10).nano == 1, "rounded up"
    assert math.isclose(cap(0.0000001).nano, 100)


@pytest.mark.parametrize(
    "rates", [Rates(rpm=9), Rates(tpm=500), Rates(), Rates(rpm=1)], ids=["more", "other", "no", "1"]
)
@pytest.mark.parametrize("kind", ["memory", *SHARED])
def test_rates_declared_anew_hold_before_the_next_lease(store: WorkloadStore, rates: Rates) -> None:
    store.acquire(calls(2), MANY, {SLOT: Rates(rpm=2)})
    assert store.acquire([], {**MANY, "other@1": 5}, {SLOT: rates}) == []
    # A heartbeat on its way may declare the old ones once more, until it sees what has changed.
    until(lambda: load(store, rates).rates == rates)


@every_shared
def test_who_has_lent_nothing_declares_nothing(kernel: Kernel, store: WorkloadStore) -> None:
    kernel().acquire([], MANY, {SLOT: Rates(rpm=1)})
    assert load(store, Rates(rpm=5)).rates == Rates(rpm=5)


@every_shared
def test_a_model_that_a_refresh_removes_is_declared_no_longer(
    kernel: Kernel, store: WorkloadStore
) -> None:
    rates, limits = {SLOT: Rates(rpm=1), "other@1": Rates(rpm=2)}, {SLOT: 3, "other@1": 4}
    assert all(store.acquire([call("a"), call("b", slot="other@1")], limits, rates))
    store.acquire([], {"other@1": 4}, rates)
    look = kernel()

    def found() -> list[tuple[int, Rates]]:
        return [(load.limit, load.rates) for load in look.loads({SLOT: 9, "other@1": 9}).values()]

    until(lambda: found() == [(9, Rates()), (4, Rates(rpm=2))])


@every_shared
def test_a_slot_put_back_of_a_call_that_is_refused_is_not_lent_again(
    store: WorkloadStore, bare: Redis, namespace: str
) -> None:
    late = int(time.time() * 1000) + 60_000
    bare.zadd(f"eccos:{{{namespace}}}:v1:slots:{SLOT}", {"stale": late})
    month = cap(0.1)
    asked = [call("stale", 1, 5.0, month), call("new", 1, 0.0, month)]
    assert store.acquire(asked, {SLOT: 1}) == [False, False]
    assert store.loads({SLOT: 1})[SLOT].in_use == 1


@every_shared
def test_what_a_call_in_flight_holds_is_spent_when_its_kernel_ends(
    kernel: Kernel, store: WorkloadStore
) -> None:
    month, rates = cap(1.0), {SLOT: Rates(tpm=100)}
    other = kernel()
    assert other.acquire([call("lost", 60, 0.9, month)], MANY, rates) == [True]
    other.close()
    assert store.spent([month]) == [Spent(0.9, 0.0)]
    found = load(store, rates[SLOT])
    assert (found.in_use, found.requests, found.tokens) == (0, 1, 60)


def test_what_a_call_holds_is_spent_when_its_kernel_was_killed(
    redis_server: RedisServer, namespace: str, opened: Callable[..., WorkloadStore], tmp_path: Path
) -> None:
    store = opened(redis_server.url, state_dir=tmp_path, namespace=namespace)
    month, mine = cap(2.0), call("mine", 0, 0.4, cap(2.0))
    assert store.acquire([mine], MANY) == [True]
    # Without a heartbeat: as if it had been killed.
    killed = RedisWorkload(Server(redis_server.url, 10.0), namespace=namespace, lease_ttl_s=0.3)
    lost = call("lost", 0, 0.9, month)
    assert killed.acquire([lost], MANY) == [True]
    until(lambda: store.spent([month]) == [Spent(0.9, 0.4)])
    assert store.acquire([call("more", 0, 0.8, month)], MANY) == [False], "2.1 of 2.0"
    # It was only stopped for long, and goes on.
    killed.settle([(lost, Used(1, 50, 0.3))])
    store.settle([(mine, Used(1, 50, 0.1))])
    assert store.spent([month]) == [Spent(0.4, 0.0)]
    killed.close()


def test_what_a_call_holds_is_spent_when_it_took_too_long(
    redis_server: RedisServer, namespace: str, opened: Callable[..., WorkloadStore], tmp_path: Path
) -> None:
    store = opened(
        redis_server.url, state_dir=tmp_path, namespace=namespace, heartbeat_s=0.1, longest_s=0.2
    )
    month = cap(1.0)
    assert store.acquire([call("lost", 60, 0.9, month)], MANY) == [True]
    until(lambda: store.spent([month]) == [Spent(0.9, 0.0)])
    assert store.loads(MANY)[SLOT].in_use == 0


@every_shared
def test_without_rates_only_money_is_settled(
    store: WorkloadStore, bare: Redis, namespace: str
) -> None:
    month = cap(1.0)
    paid = call("paid", 60, 0.4, month)
    assert store.acquire([paid], MANY) == [True]
    store.settle([(paid, Used(1, 50, 0.3))])
    assert store.spent([month]) == [Spent(0.3, 0.0)]
    assert not bare.exists(f"eccos:{{{namespace}}}:v1:recent:{SLOT}")
