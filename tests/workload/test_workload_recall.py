"""Decisions on what Redis said last: as good as those that ask, in one request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import until
from workload_servers import RedisServer, ears

from aios_eccos.config import Settings
from aios_eccos.serve.dispatch import Dispatcher
from aios_eccos.serve.router import Router
from aios_eccos.values import Answer, Lease, Model, Need, Query, Rates, Used
from aios_eccos.workload.store import WorkloadStore

POOL = (
    Model("cheap", input_price=1e-7, output_price=1e-7, limit=3),
    Model("dear", input_price=1e-6, output_price=1e-6, limit=3),
)
LIMITS = {model.slot: model.limit for model in POOL}
CHEAP, DEAR = LIMITS
#: Declared: limits, and no rates.
NOW = LIMITS, dict[str, Rates]()
Open = Callable[..., WorkloadStore]


@pytest.fixture
def kernel(redis_server: RedisServer, namespace: str, opened: Open) -> Open:
    """Opens a store of one namespace; without a heartbeat, which may put back what is released."""

    def open_one(*, member: bool = False) -> WorkloadStore:
        folder = Path("unused")
        return opened(redis_server.url, state_dir=folder, namespace=namespace, member=member)

    return open_one


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known stays good for as long as a busy machine takes."""
    monkeypatch.setattr("aios_eccos.workload.recall.RECALLED_S", 3600.0)


def leases(slot: str, count: int, name: str = "call") -> list[Lease]:
    return [Lease(f"{name}-{number}", slot) for number in range(count)]


def test_a_decision_takes_one_request_and_giving_its_slot_back_another(
    own_server: RedisServer, opened: Open
) -> None:
    store, client = opened(own_server.url, state_dir=Path("unused")), own_server.client()
    router = Router(POOL, Settings(), store)

    def decide() -> None:
        (decision,) = router.route([Query("how many?")]).decisions
        assert decision.model is not None
        router.release(decision)

    decide()
    begun, count = time.monotonic(), 60
    client.config_resetstat()
    for _ in range(count):
        decide()
    seconds = time.monotonic() - begun
    stats = client.info("commandstats")
    asked = sum(
        stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "hgetall")
    )
    # Beside these a look at prices, one at loads and a heartbeat, each at most once a second.
    assert asked <= 2 * count + 3 * (1 + seconds)
    whole = client.info("stats")["total_commands_processed"]
    assert whole <= 30 * (count + 3 * (1 + seconds)), "commands of scripts count, too"


@pytest.mark.usefixtures("patient")
def test_what_is_recalled_is_dropped_where_news_of_rests_may_have_been_missed(
    own_server: RedisServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aios_eccos.workload.heartbeat.RETRY_S", (1.0, 2.0))
    store, other = (
        opened(own_server.url, state_dir=Path("unused"), member=member) for member in (True, False)
    )
    with own_server.client() as client:
        until(lambda: ears(client) == 1)
        until(lambda: store.loads(*NOW) and store.recall(NOW, 1) is not None)
        client.client_kill_filter(_type="pubsub")
        other.cool_down(CHEAP, 60.0)
        until(lambda: ears(client) == 1 and not store.degraded)
    recalled = store.recall(NOW, 1)
    assert recalled is None or recalled[CHEAP].cooling_s > 0


@pytest.mark.usefixtures("patient")
def test_only_what_leaves_room_for_all_calls_everywhere_is_recalled(kernel: Open) -> None:
    store = kernel()
    assert store.recall(NOW, 1) is None, "nothing is known yet"
    told = store.loads(*NOW)
    assert store.recall(NOW, 3) == told
    assert store.recall(NOW, 4) is None
    assert store.recall((LIMITS | {"other@1": 9}, {}), 1) is None
    store.acquire(leases(CHEAP, 2), LIMITS)
    found = store.recall(NOW, 1)
    assert found is not None
    assert (found[CHEAP].in_use, found[DEAR].in_use) == (2, 0), "what it has lent counts"
    assert store.recall(NOW, 2) is None
    store.release(leases(CHEAP, 3))
    assert store.recall(NOW, 3) == told, "what was not held does not count"
    store.acquire(leases(CHEAP, 3), LIMITS)
    store.release(leases(CHEAP, 3))
    assert store.recall(NOW, 1) is None, "who waits for a full model asks, here as in other kernels"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("rates", [Rates(rpm=4), Rates(tpm=400), Rates(rpm=4, tpm=9000)])
def test_half_of_a_minutes_rates_is_recalled_and_more_asked_for(kernel: Open, rates: Rates) -> None:
    store, limits, declared = kernel(), {CHEAP: 9}, {CHEAP: rates}
    now = limits, declared
    store.loads(*now)
    for number, known in enumerate([True, True, False]):
        lease = Lease(f"call-{number}", CHEAP, Need(100, 0.0))
        assert store.acquire([lease], *now) == [True]
        found, real = store.recall(now, 1), store.loads(*now)[CHEAP]
        assert (found is not None) is known
        assert real.requests == number + 1
        if found is not None:
            assert replace(found[CHEAP], opens_s=real.opens_s) == real, "what it has taken counts"
        store.settle([(lease, Used(tokens=100))])
        store.release([lease])


def test_what_is_known_grows_old(kernel: Open) -> None:
    store = kernel()
    store.loads(*NOW)
    until(lambda: store.recall(NOW, 1) is None)


@pytest.mark.usefixtures("patient")
def test_what_others_have_lent_is_heard_of_with_the_next_slot(kernel: Open) -> None:
    one, other = kernel(), kernel()
    one.loads(*NOW)
    other.acquire(leases(CHEAP, 1, "other"), LIMITS)
    one.acquire(leases(CHEAP, 1), LIMITS)
    found = one.recall(NOW, 1)
    assert found is not None
    assert found[CHEAP].in_use == 2
    assert one.loads(*NOW)[CHEAP].in_use == 2
    other.acquire(leases(CHEAP, 1, "more"), LIMITS)
    assert one.acquire(leases(CHEAP, 1, "late"), LIMITS) == [False]
    assert one.recall(NOW, 1) is None, "what was refused has to be asked for"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("closed", [False, True])
def test_that_a_model_rests_is_heard_at_once(kernel: Open, closed: bool) -> None:
    one, other = kernel(), kernel(member=True)
    one.loads(*NOW)
    other.loads(*NOW)

    def heard() -> bool:  # once the other kernel listens
        one.cool_down(CHEAP, 60.0, closed=closed)
        return other.recall(NOW, 1) is None

    until(heard)
    assert one.recall(NOW, 1) is None
    told = other.loads(*NOW)[CHEAP].cooling_s
    assert 50 < told <= 60
    if closed:
        assert other.recall(NOW, 1) is None
    else:  # once it has heard all of that
        until(lambda: other.loads(*NOW) and other.recall(NOW, 1) is not None)
        found = other.recall(NOW, 1)
        assert found is None or 50 < found[CHEAP].cooling_s <= told
    one.cool_down(CHEAP, 0.0)
    until(lambda: other.loads(*NOW)[CHEAP].cooling_s == 0)


@pytest.mark.usefixtures("patient")
def test_a_call_whose_slot_another_kernel_took_goes_elsewhere_at_once(
    kernel: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aios_eccos.serve.choices.POLL_S", 3600.0)
    one, other = kernel(), kernel()
    router = Router(POOL, Settings(), one)
    (candidate,) = router.forecast([Query("how many?")])
    best = router.preferred(candidate)
    one.loads(*NOW)
    (slot,) = (model.slot for model in POOL if model.name == best)
    other.acquire(leases(slot, 3, "other"), LIMITS)
    with Dispatcher(router) as dispatcher:
        query = Query("how many?", deadline=time.monotonic() + 60)
        future = dispatcher.submit(query, lambda model, left: Answer(model, 9, 9))
        assert {best, future.result().answer.value} == {"cheap", "dear"}


@pytest.mark.usefixtures("patient")
def test_a_call_that_a_limit_keeps_waiting_is_not_refused_without_asking(kernel: Open) -> None:
    one, other = kernel(), kernel()
    model = Model("rated", input_price=1e-7, output_price=1e-7, rates=Rates(tpm=100_000))
    now = {model.slot: model.limit}, {model.slot: model.rates}
    half = Lease("half", model.slot, Need(50_000, 0.0))
    other.acquire([half], *now)
    one.loads(*now)
    other.settle([(half, Used(tokens=0))])
    assert one.recall(now, 1) is not None
    with Dispatcher(Router((model,), Settings(), one)) as dispatcher:
        # Half of the minute would come back too late.
        query = Query("how many?", input_tokens=60_000, deadline=time.monotonic() + 30)
        future = dispatcher.submit(query, lambda model, left: Answer(model, 9, 9))
        assert future.result().answer.value == "rated"


def test_moved_prices_are_known_here_at_once_and_elsewhere_when_read_again(kernel: Open) -> None:
    one, other = kernel(), kernel()
    one.set_prices({"floor": 2.0})
    assert one.read_prices(60.0) == other.read_prices(60.0) == {"floor": 2.0}
    moved = one.move_price("floor", 0.5, 1.0)
    one.set_prices({"slot": 3.0})
    assert one.read_prices(60.0) == {"floor": moved, "slot": 3.0}
    assert other.read_prices(60.0) == {"floor": 2.0}
    assert other.read_prices() == {"floor": moved, "slot": 3.0}


def test_rates_that_another_kernel_declares_are_asked_for_after_the_next_slot(
    kernel: Open, patient: None
) -> None:
    mine, other = kernel(), kernel()
    mine.loads(*NOW)
    assert mine.recall(NOW, 1) is not None
    other.acquire(leases(CHEAP, 1, "other"), LIMITS, {CHEAP: Rates(rpm=10)})
    mine.acquire(leases(CHEAP, 1), LIMITS)
    assert mine.recall(NOW, 1) is None
    assert mine.loads(*NOW)[CHEAP].rates == Rates(rpm=10)
