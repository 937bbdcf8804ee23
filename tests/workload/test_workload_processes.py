"""Several processes on one Redis: what a lone process cannot show."""

from __future__ import annotations

import atexit
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from waiting import until
from workload_servers import RedisServer, ears, helpers

from aios_eccos.config import Settings
from aios_eccos.observe import render
from aios_eccos.observe.summary import Scope, read_status
from aios_eccos.values import Lease, Rates
from aios_eccos.workload import redis_ledger
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import Load, WorkloadStore

SLOT = "small@1234"
Open = Callable[..., WorkloadStore]


@pytest.mark.parametrize("kind", ["unix", "tcp", "embedded", "cluster"])
def test_processes_get_exactly_the_limit_together(
    kernel: Callable[[], WorkloadStore], url: str, kind: str, namespace: str, shared_state: Path
) -> None:
    with helpers(2, "race", url, str(shared_state), namespace, SLOT, "5", "15") as racers:
        assert [racer.read() for racer in racers] == ["open"] * 2
        assert [racer.read() for racer in racers] == ["ready"] * 2
        for racer in racers:
            racer.write("go")
        granted = [int(racer.read().removeprefix("granted ")) for racer in racers]
        assert sum(granted) == 5
        assert kernel().loads({SLOT: 5})[SLOT] == Load(5, 5, 0.0)
        for racer in racers:
            racer.write("end")
            assert racer.wait() == 0


def test_a_dead_kernels_slots_come_back_by_themselves(
    redis_server: RedisServer, namespace: str, opened: Open, tmp_path: Path
) -> None:
    """The watcher's own heartbeat keeps it known."""
    url, limits = redis_server.url, {SLOT: 1}
    watcher = opened(url, state_dir=tmp_path, namespace=namespace, lease_ttl_s=2.0)
    arguments = ("hold", url, str(tmp_path), namespace, SLOT, "1", "2")
    with helpers(1, *arguments) as (holder,):
        assert [holder.read(), holder.read()] == ["open", "held 1"]
        until(lambda: watcher.loads(limits) and watcher.kernels == 2)
        assert watcher.acquire([Lease("mine", SLOT)], limits) == [False]
        holder.signal(signal.SIGKILL)
        until(lambda: watcher.acquire([Lease("mine", SLOT)], limits)[0])
        until(lambda: watcher.loads(limits) and watcher.kernels == 1)


def test_a_living_kernel_keeps_its_slot_beyond_the_ttl(
    redis_server: RedisServer, namespace: str, opened: Open, tmp_path: Path
) -> None:
    options = {"state_dir": tmp_path, "namespace": namespace, "lease_ttl_s": 3.0}
    holder = opened(redis_server.url, heartbeat_s=0.1, **options)
    looker = opened(redis_server.url, member=False, **options)
    holder.acquire([Lease("long", SLOT)], {SLOT: 1})
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert looker.loads({SLOT: 1})[SLOT].in_use == 1
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["unix", "tcp", "embedded", "cluster"])
def test_a_release_wakes_a_waiter_of_another_process(
    kernel: Callable[[], WorkloadStore],
    url: str,
    kind: str,
    namespace: str,
    shared_state: Path,
    bare: Redis,
) -> None:
    store, lease = kernel(), Lease("mine", SLOT)
    assert store.acquire([lease], {SLOT: 1}) == [True]
    with helpers(1, "wait", url, str(shared_state), namespace, SLOT, "1", "15") as (waiter,):
        assert [waiter.read(), waiter.read()] == ["open", "waiting"]
        until(lambda: ears(bare, namespace) == 2)
        released = time.time()
        store.release([lease])
        word, woken, granted = waiter.read().split()
        assert (word, granted) == ("woken", "1")
        assert float(woken) - released < 30, "woken by the message, not by a time-out"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_kernel_that_is_told_to_end_returns_its_slots(
    redis_server: RedisServer, namespace: str, opened: Open, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ("hold", redis_server.url, str(tmp_path), namespace, SLOT, "1", "15")
    looker = opened(redis_server.url, state_dir=tmp_path, namespace=namespace, member=False)
    with helpers(1, *arguments) as (holder,):
        assert [holder.read(), holder.read()] == ["open", "held 1"]
        assert looker.loads({SLOT: 1})[SLOT].in_use == 1
        holder.signal(number)
        holder.wait()
    assert looker.loads({SLOT: 9})[SLOT] == Load(0, 9, 0.0)
    assert looker.kernels == 0


class Busy(Server):
    """A server on whose way to Redis something else happens first, once."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 10.0)
        self.meanwhile: Callable[[], object] | None = None
        self.asked = 0
        make = self.client

        def client() -> Redis:
            found = make()
            evalsha = found.evalsha

            def ask(*arguments: object) -> object:
                act, self.meanwhile = self.meanwhile, None
                if act is not None:
                    act()
                self.asked += 1
                return evalsha(*arguments)

            found.evalsha = ask
            return found

        self.client = client


class TestRenew:
    """The heartbeat against what other threads do meanwhile."""

    @pytest.fixture
    def server(self, redis_server: RedisServer) -> Busy:
        return Busy(redis_server.url)

    @pytest.fixture
    def plain(self, server: Busy, namespace: str) -> Iterator[RedisWorkload]:
        found = RedisWorkload(server, namespace=namespace, longest_s=300.0)
        yield found
        found.close()

    def test_a_redis_that_was_wiped_heals(
        self, own_server: RedisServer, opened: Open, tmp_path: Path
    ) -> None:
        store = opened(own_server.url, state_dir=tmp_path)
        other = opened(own_server.url, state_dir=tmp_path)
        store.acquire([Lease("a", SLOT), Lease("b", SLOT)], {SLOT: 2})
        with own_server.client() as client:
            client.flushall()
            client.script_flush()
        assert other.loads({SLOT: 9})[SLOT].in_use == 0
        store.renew()
        until(lambda: other.loads({SLOT: 9})[SLOT] == Load(2, 2, 0.0))  # its limit, too

    def test_it_has_not_the_last_word_on_a_lease_released_meanwhile(
        self, plain: RedisWorkload, server: Busy
    ) -> None:
        lease = Lease("a", SLOT)
        plain.acquire([lease], {SLOT: 1})
        server.meanwhile = lambda: plain.release([lease])
        plain.renew()
        assert plain.loads({SLOT: 1})[SLOT].in_use == 0

    def test_it_has_not_the_last_word_on_a_lease_taken_again_meanwhile(
        self, plain: RedisWorkload, server: Busy
    ) -> None:
        lease = Lease("a", SLOT)
        plain.leases.drop([lease])
        server.meanwhile = lambda: plain.acquire([lease], {SLOT: 1})
        plain.renew()
        assert plain.loads({SLOT: 1})[SLOT].in_use == 1

    @pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3)])
    @pytest.mark.parametrize("rates", [(Rates(rpm=1), Rates()), (Rates(), Rates(tpm=5))])
    def test_it_has_not_the_last_word_on_a_limit_declared_anew_meanwhile(
        self,
        plain: RedisWorkload,
        server: Busy,
        before: int,
        after: int,
        rates: tuple[Rates, Rates],
    ) -> None:
        old, new = ({SLOT: each} for each in rates)
        plain.acquire([Lease("a", SLOT)], {SLOT: before}, old)
        server.meanwhile = lambda: plain.acquire([Lease("b", SLOT)], {SLOT: after}, new)
        plain.renew()
        load = plain.loads({SLOT: 9}, {SLOT: Rates()})[SLOT]
        assert (load.limit, load.rates) == (after, rates[1])

    def test_a_release_that_redis_missed_is_made_up_for(self, plain: RedisWorkload) -> None:
        lease = Lease("a", SLOT)
        plain.acquire([lease], {SLOT: 1})
        plain.leases.drop([lease])
        assert plain.loads({SLOT: 1})[SLOT].in_use == 1
        plain.renew()
        assert plain.loads({SLOT: 1})[SLOT].in_use == 0

    def test_a_lease_held_after_all_is_not_given_back(
        self, plain: RedisWorkload, server: Busy
    ) -> None:
        """Redis did not answer, memory lent the slot: for Redis it was never free."""
        lease = Lease("a", SLOT)
        plain.acquire([lease], {SLOT: 1})
        plain.leases.drop([lease])
        assert plain.leases.lend([lease], {SLOT: 1}) == [True]
        before = server.asked
        plain.renew()
        assert plain.loads({SLOT: 1})[SLOT].in_use == 1
        assert server.asked - before == 2, "not given back and taken again: others could take it"

    def test_a_lease_whose_call_was_lost_comes_back(
        self,
        plain: RedisWorkload,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        plain.acquire([Lease("lost", SLOT)], {SLOT: 2})
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 200)
        plain.acquire([Lease("living", SLOT)], {SLOT: 2})
        plain.renew()
        assert plain.loads({SLOT: 2})[SLOT].in_use == 2
        monkeypatch.setattr(time, "monotonic", lambda: now + 301)
        plain.renew()
        assert plain.loads({SLOT: 2})[SLOT].in_use == 1
        assert plain.acquire([Lease("next", SLOT)], {SLOT: 2}) == [True]
        assert "1 slots were held longer than any call takes" in caplog.text


class TestOfDeadKernels:
    """What kernels that were killed leave in the sets of living ones goes."""

    @pytest.fixture
    def living(self, redis_server: RedisServer, namespace: str) -> Iterator[RedisWorkload]:
        found = RedisWorkload(Server(redis_server.url, 10.0), namespace=namespace)
        for n in range(50):
            dead = RedisWorkload(
                Server(redis_server.url, 10.0), namespace=namespace, lease_ttl_s=0.05
            )
            # The last to go has the least limit: who gets a slot finds all of them gone.
            dead.acquire([Lease(f"dead-{n}", SLOT)], {SLOT: 3 if n % 2 else 100})
            atexit.unregister(dead.close)
        until(lambda: found.acquire([Lease("mine", SLOT)], {SLOT: 100})[0])
        yield found
        found.close()

    @pytest.mark.parametrize("use", ["acquire", "renew"])
    @pytest.mark.parametrize("kept", ["kernels", f"limits:{SLOT}", f"slots:{SLOT}"])
    def test_members_go(
        self,
        living: RedisWorkload,
        redis_server: RedisServer,
        namespace: str,
        use: str,
        kept: str,
    ) -> None:
        uses = {
            "acquire": lambda: living.acquire([Lease("mine", SLOT)], {SLOT: 100}),
            "renew": living.renew,
        }
        with redis_server.client() as client:
            key = f"eccos:{{{namespace}}}:v1:{kept}"
            until(lambda: uses[use]() is not False and client.zcount(key, "-inf", "(inf") == 1)
        until(lambda: living.loads({SLOT: 100})[SLOT] == Load(1, 100, 0.0))


def test_the_store_leaves_nothing_in_redis_but_what_should_last(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    store = opened(own_server.url, state_dir=tmp_path, lease_ttl_s=0.2, heartbeat_s=9.0)
    store.acquire([Lease("a", SLOT), Lease("b", "other@1")], {SLOT: 1, "other@1": 1})
    store.move_price("floor", 0.1, start=1.0)
    store.append_decision({"n": "1"})
    with own_server.client() as client:
        names = b"eccos:{default}:v1:"
        until(lambda: not client.keys(names + b"slots:*") + client.keys(names + b"limits:*"))
        assert {key for key in client.keys("*") if client.ttl(key) < 0} == {
            b"eccos:{default}:v1:prices",
            b"eccos:{default}:v1:decisions",
            b"eccos:{default}:format",
        }


def test_decisions_are_capped(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_ledger, "DECISIONS_KEPT", 100)
    plain = RedisWorkload(Server(own_server.url, 10.0), namespace="default")
    for n in range(400):
        plain.append_decision({"n": str(n)})
    kept = plain.decisions(999)
    assert 100 <= len(kept) < 300
    assert kept[0][1] == {"n": "399"}
    plain.close()


def test_namespaces_share_nothing(redis_server: RedisServer, opened: Open, tmp_path: Path) -> None:
    one, two = (opened(redis_server.url, state_dir=tmp_path, namespace=n) for n in ("n.1", "n-2"))
    one.acquire([Lease("a", SLOT)], {SLOT: 1})
    one.set_prices({"floor": 2.0})
    assert two.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True]
    assert two.read_prices() == {}
    assert (one.kernels, two.kernels) == (1, 1)


def test_a_batch_of_64_is_one_round_trip_and_fast(
    redis_server: RedisServer, opened: Open, namespace: str, tmp_path: Path
) -> None:
    store = opened(redis_server.unix_url, state_dir=tmp_path, namespace=namespace)
    slots = [f"model-{n}@1" for n in range(10)]
    limits = dict.fromkeys(slots, 64)
    with redis_server.client() as client:
        times, requests = [], []
        for turn in range(50):
            batch = [Lease(f"{turn}-{n}", slots[n % 10]) for n in range(64)]
            before = _commands(client)
            start = time.perf_counter()
            assert all(store.acquire(batch, limits))
            times.append(time.perf_counter() - start)
            requests.append(_commands(client) - before)
            store.release(batch)
    # The first loads the script, and a heartbeat may fall into another.
    assert sorted(requests)[len(requests) // 2] == 1
    # Typically under 1 ms; of the least disturbed, as other processes hold up some.
    assert min(times) < 0.05


def _commands(client: object) -> int:
    """Scripts that clients asked for so far."""
    stats = client.info("commandstats")  # type: ignore[attr-defined]
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


def test_where_no_kernel_lives_a_look_up_counts_none(
    redis_server: RedisServer, namespace: str, opened: Open, tmp_path: Path
) -> None:
    options = {"state_dir": tmp_path, "namespace": namespace}
    look = opened(redis_server.url, member=False, **options)
    scope = Scope(Settings(), ())
    assert read_status(look, scope).kernels == 0
    assert "  0 kernels" in render.status(read_status(look, scope))
    kernel = opened(redis_server.url, **options)
    until(lambda: read_status(look, scope).kernels == 1)
    kernel.close()
    assert read_status(look, scope).kernels == 0
    assert kernel.kernels == 1, "it counts itself, whether Redis knows of it or not"


def test_look_ups_start_no_thread_and_are_no_kernel(
    redis_server: RedisServer, opened: Open, namespace: str, tmp_path: Path
) -> None:
    kernel = opened(redis_server.url, state_dir=tmp_path, namespace=namespace)
    before = threading.active_count()
    look = open_workload(redis_server.url, state_dir=tmp_path, namespace=namespace, member=False)
    look.loads({SLOT: 1})
    assert threading.active_count() == before
    kernel.renew()
    assert kernel.kernels == 1
    look.close()
    assert isinstance(look, RedisWorkload)


@pytest.mark.parametrize("damaged", ["0", "-1", "nan", "dear", "1e999"])
def test_a_damaged_price_is_left_out_and_no_kernel_stops_for_it(
    own_server: RedisServer,
    opened: Open,
    tmp_path: Path,
    damaged: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kernel = opened(own_server.url, state_dir=tmp_path)
    kernel.set_prices({"slot:m": 2.0})
    with own_server.client() as client:
        client.hset("eccos:{default}:v1:prices", "floor", damaged)
    for _ in range(3):
        assert kernel.read_prices() == {"slot:m": 2.0}
        assert not kernel.degraded
    assert caplog.text.count("what is no price, left out") == 1
    assert kernel.move_price("floor", 0.1, 1.0) > 1
    assert kernel.read_prices().keys() == {"slot:m", "floor"}
