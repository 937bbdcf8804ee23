"""Redis goes away, hangs, comes back, comes back empty: lending goes on."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from redis import Redis
from waiting import until
from workload_servers import RedisServer, ears, helpers, lent

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Cap, Lease, Need, Rates, Used
from aios_eccos.workload import backlog, fallback, meters
from aios_eccos.workload.backlog import Backlog
from aios_eccos.workload.channel import Channel
from aios_eccos.workload.client import Forgotten
from aios_eccos.workload.fallback import ResilientWorkload
from aios_eccos.workload.leases import LeaseBook
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import Load, WorkloadStore

SLOT = "small@1234"
Open = Callable[..., WorkloadStore]

#: What the design promises, and what is allowed to a machine that does other things as well.
PROMISED_S, ALLOWED_S = 0.05, 0.4
#: On a busy machine a living Redis may take longer than promised.
PATIENT_S = 0.25
#: With these leases no heartbeat is due while a test runs.
LONG_S = 1800.0


@pytest.fixture
def store(own_server: RedisServer, opened: Open) -> WorkloadStore:
    options = {"timeout_s": PATIENT_S, "lease_ttl_s": LONG_S}
    return opened(own_server.url, state_dir=Path("unused"), **options)


@pytest.fixture
def prompt(own_server: RedisServer, opened: Open) -> WorkloadStore:
    """As quick to give up as a kernel's."""
    options = {"timeout_s": PROMISED_S, "lease_ttl_s": LONG_S}
    return opened(own_server.url, state_dir=Path("unused"), **options)


def heard_by(server: RedisServer) -> int:
    with server.client() as client:
        return ears(client)


def leases(count: int, name: str = "call") -> list[Lease]:
    return [Lease(f"{name}-{n}", SLOT) for n in range(count)]


def test_a_killed_redis_is_replaced_by_memory_at_once_and_heals_when_it_is_back(
    own_server: RedisServer, store: WorkloadStore, opened: Open
) -> None:
    held = leases(3, "held")
    assert store.acquire(held, {SLOT: 5}) == [True] * 3
    own_server.kill()
    granted = store.acquire(leases(4), {SLOT: 5})
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
    until(lambda: other.loads({SLOT: 9})[SLOT].in_use == 0)


@pytest.mark.parametrize("use", ["acquire", "release", "loads", "move_price", "append_decision"])
def test_no_call_waits_long_for_a_redis_that_hangs(
    own_server: RedisServer, prompt: WorkloadStore, use: str
) -> None:
    prompt.acquire(leases(1), {SLOT: 5})
    calls = {
        "acquire": lambda: prompt.acquire(leases(1, "next"), {SLOT: 5}),
        "release": lambda: prompt.release(leases(1)),
        "loads": lambda: prompt.loads({SLOT: 5}),
        "move_price": lambda: prompt.move_price("floor", 0.1, 1.0),
        "append_decision": lambda: prompt.append_decision({"n": "1"}),
    }

    def longest() -> float:
        """Of three calls while Redis hangs, the first of which finds that out."""
        until(lambda: heard_by(own_server) == 1 and not prompt.degraded)
        own_server.signal(signal.SIGSTOP)
        waits = []
        for _ in range(3):
            start = time.perf_counter()
            calls[use]()
            waits.append(time.perf_counter() - start)
        assert prompt.degraded
        own_server.signal(signal.SIGCONT)
        until(lambda: not prompt.degraded)  # before the next heartbeat is due
        return max(waits)

    # The machine, too, may hold a call up.
    assert any(longest() < ALLOWED_S for _ in range(5))


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
    assert max(waits) < len(held) / 2 * PATIENT_S, "one after the other it were twice as long"
    until(lambda: not store.degraded)
    until(lambda: store.loads({SLOT: 50})[SLOT].in_use == 0)


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
    until(lambda: store.loads({SLOT: 1})[SLOT].in_use == 0)


class TestOfThreeKernels:
    """None lends by itself what another one may have: the limit holds, whoever held what."""

    @pytest.fixture
    def ttl_s(self) -> float:
        """Long enough for what is done before their leases end."""
        return 60.0

    @pytest.fixture
    def kernels(self, own_server: RedisServer, opened: Open, ttl_s: float) -> list[WorkloadStore]:
        """They know of each other."""
        options = {"state_dir": Path("unused"), "lease_ttl_s": ttl_s, "heartbeat_s": 0.2}
        options["timeout_s"] = PATIENT_S
        found = [opened(own_server.url, **options) for _ in range(3)]
        until(lambda: all(one.renew() is None and one.kernels == 3 for one in found))
        return found

    @staticmethod
    def lent(kernels: list[WorkloadStore], limit: int, name: str) -> list[int]:
        """Slots that each kernel gets when all want more than there are."""
        return [
            sum(one.acquire(leases(9, f"{name}-{number}"), {SLOT: limit}))
            for number, one in enumerate(kernels)
        ]

    def test_at_first_each_has_what_it_held(
        self, own_server: RedisServer, kernels: list[WorkloadStore]
    ) -> None:
        held = leases(5, "held")
        assert kernels[0].acquire(held, {SLOT: 6}) == [True] * 5
        assert kernels[1].acquire([Lease("one", SLOT)], {SLOT: 6}) == [True]
        own_server.signal(signal.SIGSTOP)
        assert self.lent(kernels, 6, "full") == [0, 0, 0]
        kernels[0].release(held[:3])
        assert self.lent(kernels, 6, "next") == [3, 0, 0]
        own_server.signal(signal.SIGCONT)
        until(lambda: not any(one.degraded for one in kernels))
        load = kernels[2].loads({SLOT: 6})[SLOT]
        assert load == Load(6, 6, 0.0)

    def test_a_release_that_redis_may_have_heard_frees_no_slot_here(
        self, own_server: RedisServer, kernels: list[WorkloadStore]
    ) -> None:
        """Redis will give it to others as soon as it goes on."""
        held = leases(6, "held")
        kernels[0].acquire(held, {SLOT: 6})
        own_server.signal(signal.SIGSTOP)
        kernels[0].release(held[:2])
        assert kernels[0].degraded
        kernels[0].release(held[2:3])
        assert self.lent(kernels, 6, "next") == [1, 0, 0]
        own_server.signal(signal.SIGCONT)
        until(lambda: not any(one.degraded for one in kernels))
        assert sum(self.lent(kernels, 6, "later")) == 2

    @pytest.mark.parametrize("ttl_s", [1.5])
    @pytest.mark.parametrize(
        ("limit", "shares"), [(7, [2, 2, 3]), (6, [2, 2, 2]), (2, [0, 1, 1]), (0, [0, 0, 0])]
    )
    def test_when_their_leases_have_ended_each_lends_its_share(
        self,
        own_server: RedisServer,
        kernels: list[WorkloadStore],
        limit: int,
        shares: list[int],
    ) -> None:
        own_server.kill()
        assert self.lent(kernels, limit, "soon") == [0, 0, 0]
        until(lambda: sorted(one.loads({SLOT: limit})[SLOT].limit for one in kernels) == shares)
        assert sorted(self.lent(kernels, limit, "late")) == shares

    @pytest.mark.parametrize("ttl_s", [1.5])
    def test_shares_are_of_the_smallest_limit(
        self, own_server: RedisServer, kernels: list[WorkloadStore]
    ) -> None:
        for one, limit in zip([*kernels[::-1], *kernels[:2]], (6, 30, 30, 30, 30), strict=True):
            one.acquire(leases(1), {SLOT: limit})
            one.release(leases(1))
        own_server.kill()
        until(lambda: sorted(one.loads({SLOT: 30})[SLOT].limit for one in kernels) == [2, 2, 2])

    def test_after_a_moment_each_lends_its_part_of_what_nobody_held(
        self,
        own_server: RedisServer,
        kernels: list[WorkloadStore],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(meters, "USE_S", LONG_S)  # longer than a busy machine takes for this
        held = leases(3, "held")
        assert kernels[0].acquire(held, {SLOT: 9}) == [True] * 3
        for one in kernels:
            assert one.loads({SLOT: 9})[SLOT].in_use == 3
        own_server.signal(signal.SIGSTOP)
        until(lambda: [one.loads({SLOT: 9})[SLOT].limit for one in kernels] == [5, 2, 2])
        assert self.lent(kernels, 9, "more") == [2, 2, 2]
        own_server.signal(signal.SIGCONT)
        until(lambda: not any(one.degraded for one in kernels))
        assert kernels[2].loads({SLOT: 9})[SLOT].in_use == 9
        own_server.signal(signal.SIGSTOP)
        assert self.lent(kernels, 9, "again") == [0, 0, 0], "what was lent then is held now"
        own_server.signal(signal.SIGCONT)

    @pytest.mark.parametrize("ttl_s", [1.5])
    def test_each_lends_its_share_where_redis_hears_them_and_lends_nothing(
        self, kernels: list[WorkloadStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*asked: object) -> list[bool]:
            raise WorkloadError("OOM command not allowed")

        monkeypatch.setattr(RedisWorkload, "acquire", full)
        assert self.lent(kernels, 6, "soon") == [0, 0, 0]
        until(lambda: self.lent(kernels, 6, "late") == [2, 2, 2])

    @pytest.mark.parametrize("ttl_s", [1.5])
    @pytest.mark.parametrize("forgets", [True, False], ids=["forgets", "comes and goes"])
    def test_each_lends_its_share_where_redis_is_never_back_for_long(
        self, kernels: list[WorkloadStore], monkeypatch: pytest.MonkeyPatch, forgets: bool
    ) -> None:
        """Each time all kernels were waited for anew."""
        renew, beats = RedisWorkload.renew, Counter[RedisWorkload]()

        def beat(store: RedisWorkload) -> None:
            beats[store] += 1
            if forgets:
                raise Forgotten("here")
            if beats[store] % 2:
                raise WorkloadError("gone")
            renew(store)

        monkeypatch.setattr(Channel, "all_heard", lambda _: False)
        monkeypatch.setattr(RedisWorkload, "renew", beat)
        until(lambda: all(one.degraded for one in kernels))
        until(lambda: self.lent(kernels, 6, "late") == [2, 2, 2])

    def test_what_redis_was_told_back_is_no_longer_lent_without_it(
        self, own_server: RedisServer, kernels: list[WorkloadStore]
    ) -> None:
        held = leases(3, "held")
        kernels[0].acquire(held, {SLOT: 6})
        own_server.signal(signal.SIGSTOP)
        assert kernels[0].acquire([Lease("full", SLOT)], {SLOT: 6}) == [False]
        kernels[0].release(held)
        own_server.signal(signal.SIGCONT)
        until(lambda: not any(one.degraded for one in kernels))
        assert kernels[1].acquire(leases(6, "all"), {SLOT: 6}) == [True] * 6
        own_server.signal(signal.SIGSTOP)
        assert self.lent(kernels, 6, "more") == [0, 0, 0]
        own_server.signal(signal.SIGCONT)


def test_a_heartbeat_that_redis_may_not_have_heard_costs_no_slots() -> None:
    book, before, after = LeaseBook(60.0), leases(4, "before"), leases(4, "after")
    book.grant(before, time.monotonic())
    book.drop(before[:3])
    assert [book.lend([lease], {SLOT: 4}) for lease in after] == [[True]] * 3 + [[False]]
    book.heartbeat()
    assert book.credit(SLOT) == 4, "it counts four, whichever they are"
    book.drop(after[:2])
    book.heartbeat()
    assert book.credit(SLOT) == 2, "if it has heard that, two have come back to it"


def test_what_is_lent_in_the_place_of_a_lease_given_back_during_a_heartbeat_is_told() -> None:
    """Else Redis had the place back, and lent it to another kernel as well."""
    book, (before, after, later) = LeaseBook(60.0), leases(3)
    book.grant([before], time.monotonic())
    held, owed, _ = book.heartbeat()
    book.drop([before])
    assert book.lend([after], {SLOT: book.credit(SLOT)}) == [True]
    assert book.heard(held, owed, time.monotonic()) == ({after}, {before})
    held, owed, _ = book.heartbeat()
    book.drop([after])
    assert book.heard(held, owed, time.monotonic()) == (set(), {after})
    assert book.lend([later], {SLOT: book.credit(SLOT)}) == [False], "its place goes back now"


def test_a_redis_that_forgot_all_lends_nothing_before_each_has_told_what_it_holds(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    url, limits = own_server.url, {SLOT: 1}
    store = opened(url, state_dir=tmp_path, lease_ttl_s=LONG_S, heartbeat_s=0.1)
    with helpers(1, "hold", url, str(tmp_path), "default", SLOT, "1", str(LONG_S)) as (holder,):
        assert [holder.read(), holder.read()] == ["open", "held 1"]
        until(lambda: store.loads(limits) and store.kernels == 2)
        own_server.kill()
        holder.signal(signal.SIGSTOP)
        until(lambda: store.degraded)
        own_server.start()  # empty
        until(lambda: heard_by(own_server) == 1)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert store.acquire([Lease("mine", SLOT)], limits) == [False]
        holder.signal(signal.SIGCONT)
        until(lambda: not store.degraded)
        assert store.acquire([Lease("mine", SLOT)], limits) == [False]
        holder.write("end")
        until(lambda: store.acquire([Lease("mine", SLOT)], limits) == [True])


def test_the_shares_of_all_make_up_the_limit_beside_a_kernel_that_was_held_up(
    own_server: RedisServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place among the kernels is not given to the next one."""
    monkeypatch.setattr(meters, "USE_S", LONG_S)  # longer than a busy machine takes for this
    options = {"state_dir": Path("unused"), "lease_ttl_s": LONG_S}
    kernels = [opened(own_server.url, **options) for _ in range(3)]
    for number, one in enumerate(kernels * 2):
        one.acquire(leases(1), {SLOT: 6 + number % 3})
        one.release(leases(1))
        one.renew()
    with own_server.client() as client:
        by_name = dict(sorted(client.zrange(LIMITS, 0, -1, withscores=True)))
        first, held_up, last = (kernels[int(limit) - 6] for limit in by_name.values())
        client.zrem("eccos:{default}:v1:kernels", [*by_name][1])
    last.renew()
    own_server.kill()
    until(lambda: all(one.loads({SLOT: 6})[SLOT].limit for one in kernels))
    shares = [one.loads({SLOT: 6})[SLOT].limit for one in (first, held_up, last)]
    assert shares == [2, 2, 1], "of the five that were free"


def test_a_kernel_that_was_held_up_for_a_while_still_counts(
    own_server: RedisServer, opened: Open
) -> None:
    """It may go on, and lend what another one that takes itself to be alone lends as well."""
    options = {"state_dir": Path("unused"), "lease_ttl_s": LONG_S}
    one, other = (opened(own_server.url, **options) for _ in range(2))
    for store in (one, other, one):
        store.renew()
    assert one.kernels == 2
    other.close()
    one.renew()
    assert one.kernels == 1
    own_server.kill()
    assert one.acquire(leases(4), {SLOT: 4}) == [False] * 4
    assert one.degraded


def test_a_kernel_that_comes_back_waits_for_those_that_lend_by_themselves(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    store = opened(own_server.url, state_dir=tmp_path, timeout_s=PATIENT_S, lease_ttl_s=LONG_S)
    arguments = ("hold", own_server.url, str(tmp_path), "default", SLOT, "1", str(LONG_S))
    with helpers(1, *arguments) as (holder,):
        assert [holder.read(), holder.read()] == ["open", "held 1"]
        until(lambda: store.loads({SLOT: 1}) and store.kernels == 2 and not store.degraded)
        holder.signal(signal.SIGSTOP)
        own_server.signal(signal.SIGSTOP)
        until(lambda: store.loads({SLOT: 1}) and store.degraded)
        own_server.signal(signal.SIGCONT)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert store.degraded
            time.sleep(0.02)
        holder.signal(signal.SIGCONT)
        until(lambda: not store.degraded)
        holder.write("end")


def test_a_question_after_the_others_that_failed_is_asked_again(
    own_server: RedisServer, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kernel waited for their next heartbeats, and lent its share beside them meanwhile."""
    options = {"state_dir": tmp_path, "lease_ttl_s": LONG_S, "heartbeat_s": LONG_S / 3}
    one, _ = (opened(own_server.url, **options) for _ in range(2))
    until(lambda: one.loads({SLOT: 1}) and one.kernels == 2)
    called: list[str] = []

    def fail_once(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def first_fails(self: object, *args: object) -> object:
            called.append(name)
            if called.count(name) == 1:
                raise WorkloadError("it took too long")
            return method(self, *args)

        monkeypatch.setattr(owner, name, first_fails)

    fail_once(RedisWorkload, "loads")
    fail_once(Channel, "ask")
    one.loads({SLOT: 1})
    until(lambda: not one.degraded)
    assert called == ["loads", "ask", "ask"]


def test_what_a_replica_that_takes_over_did_not_know_was_settled_is_settled(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    day, limits = Cap("day", "day:1", 9.0, time.time() + 3600), {SLOT: 100}
    (lease,) = paid(1, day)
    assert store.acquire([lease], limits) == [True]
    with own_server.client() as client:
        before = {key: client.dump(key) for key in client.keys("eccos:*")}
        store.settle([(lease, Used(1, 10, 0.05))])
        store.release([lease])
        for key, value in before.items():  # as it is on a replica that lags behind
            client.restore(key, 0, value, replace=True)
        client.delete("eccos:{default}:v1:settled")
    assert store.spent([day])[0].held_usd == pytest.approx(0.1)
    own_server.signal(signal.SIGSTOP)
    until(lambda: store.loads(limits) and store.degraded)
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    (spent,) = store.spent([day])
    assert (spent.usd, spent.held_usd) == (pytest.approx(0.05), 0.0)


def _expire(client: Redis) -> None:
    for key in client.keys("eccos:*"):
        if client.type(key) == b"zset":
            client.zadd(key, dict.fromkeys(client.zrange(key, 0, -1), 1.0))


SLOTS, LIMITS = f"eccos:{{default}}:v1:slots:{SLOT}", f"eccos:{{default}}:v1:limits:{SLOT}"
LOSSES: dict[str, Callable[[Redis], object]] = {
    "it was flushed": lambda client: client.flushall(),
    "it evicted who its kernels are": lambda client: client.delete("eccos:{default}:v1:kernels"),
    "it evicted the slots that are lent": lambda client: client.delete(SLOTS),
    "it evicted the limits that are declared": lambda client: client.delete(LIMITS),
    "it evicted both": lambda client: client.delete(SLOTS, LIMITS),
    "its clock was stepped ahead": _expire,
    "another took its place": lambda client: client.swapdb(0, 1),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_living_redis_that_forgot_lends_nothing_before_each_has_told_what_it_holds(
    own_server: RedisServer,
    opened: Open,
    tmp_path: Path,
    lose: Callable[[Redis], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewed, renew = set[int](), RedisWorkload.renew

    def renewing(store: RedisWorkload) -> None:
        renew(store)
        renewed.add(id(store))

    monkeypatch.setattr(RedisWorkload, "renew", renewing)
    options = {"state_dir": tmp_path, "lease_ttl_s": LONG_S}
    one, other = (opened(own_server.url, **options) for _ in range(2))
    until(lambda: len(renewed) == 2)  # else a first heartbeat that is under way may come afterwards
    for store, name in ((one, "one"), (other, "other"), (one, "one")):
        assert store.acquire(leases(1, name), {SLOT: 2}) == [True]
    with own_server.client() as client:
        lose(client)
        assert one.acquire(leases(1, "more"), {SLOT: 2}) == [False]
        assert other.acquire(leases(1, "more"), {SLOT: 2}) == [False]
        until(lambda: not one.degraded and not other.degraded)
        assert lent(client, SLOT) == 2
    assert one.acquire(leases(1, "more"), {SLOT: 2}) == [False]
    other.release(leases(1, "other"))
    assert one.acquire(leases(1, "more"), {SLOT: 2}) == [True]


@pytest.mark.parametrize("who", ["holds none", "never asked", "starts then"])
def test_who_holds_no_slot_gets_none_that_others_hold_and_redis_evicted(
    own_server: RedisServer, opened: Open, tmp_path: Path, who: str
) -> None:
    """The empty slot looks to it as a free one."""
    options = {"state_dir": tmp_path, "lease_ttl_s": LONG_S}
    asker = opened(own_server.url, **options)
    until(lambda: heard_by(own_server) == 1 and asker.renew() is None)
    holder = opened(own_server.url, **options)  # the other takes itself to be alone still
    holder.renew()
    assert holder.acquire(leases(2), {SLOT: 2}) == [True] * 2
    if who == "holds none":
        assert asker.acquire(leases(1, "more"), {SLOT: 2}) == [False]
    with own_server.client() as client:
        client.delete(SLOTS)
    if who == "starts then":
        asker = opened(own_server.url, **options)
    assert asker.acquire(leases(2, "more"), {SLOT: 2}) == [False] * 2
    until(lambda: not asker.degraded and not holder.degraded)
    assert asker.acquire(leases(2, "more"), {SLOT: 2}) == [False] * 2
    holder.release(leases(1))
    assert asker.acquire(leases(2, "more"), {SLOT: 2}) == [True, False]


def test_a_kernel_that_starts_waits_for_those_that_have_heard_of_the_loss_and_not_told_yet(
    own_server: RedisServer,
) -> None:
    server = Server(own_server.url, 10.0)
    holder, new = (RedisWorkload(server, namespace="default") for _ in range(2))
    assert holder.acquire(leases(2), {SLOT: 2}) == [True] * 2
    with own_server.client() as client:
        client.delete(SLOTS)
    with pytest.raises(Forgotten):
        holder.renew()
    for word in (lambda: new.acquire(leases(1, "new"), {SLOT: 2}), new.renew):
        with pytest.raises(Forgotten):
            word()
    holder.renew()
    new.renew()
    assert new.acquire(leases(1, "new"), {SLOT: 2}) == [False]
    for store in (holder, new):
        store.close()


def two_that_know_of_each_other(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> tuple[WorkloadStore, WorkloadStore]:
    options = {"state_dir": tmp_path, "lease_ttl_s": LONG_S}
    one, other = (opened(own_server.url, **options) for _ in range(2))
    for store in (one, other, one):
        store.renew()
    return one, other


def test_a_heartbeat_finds_what_redis_evicted(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    """What it put back were not all: then the slots of other kernels would look free."""
    one, other = two_that_know_of_each_other(own_server, opened, tmp_path)
    for store, name in ((one, "one"), (other, "other")):
        assert store.acquire(leases(1, name), {SLOT: 2}) == [True]
    with own_server.client() as client:
        client.delete(SLOTS)
    one.renew()
    assert one.acquire(leases(1, "more"), {SLOT: 2}) == [False]
    until(lambda: not one.degraded and not other.degraded)
    assert one.acquire(leases(1, "more"), {SLOT: 2}) == [False]


def test_the_least_limit_holds_where_redis_evicted_who_declares_it(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    one, other = two_that_know_of_each_other(own_server, opened, tmp_path)
    assert other.acquire(leases(1, "other"), {SLOT: 2}) == [True]
    assert one.acquire(leases(2, "one"), {SLOT: 9}) == [True, False]
    with own_server.client() as client:
        client.delete(LIMITS)
    assert one.acquire(leases(2, "one"), {SLOT: 9}) == [True, False]
    until(lambda: not one.degraded and not other.degraded)
    assert one.acquire(leases(2, "one"), {SLOT: 9}) == [True, False]


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
    assert "lending from memory what no other kernel can have" in gone
    assert "answers again" in back
    assert len([text for text in caplog.messages if "from memory" in text]) == 1, "not each minute"


def test_prices_move_on_and_their_moves_reach_redis(opened: Open) -> None:
    server = RedisServer(save=True)
    try:
        store = opened(server.url, state_dir=Path("unused"), lease_ttl_s=LONG_S)
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
        until(lambda: look.read_prices() == pytest.approx(expected))
    finally:
        server.close()


#: Writes that add to what is there, and how to see that each was done once.
WRITES: dict[str, tuple[Callable[[WorkloadStore], object], Callable[[WorkloadStore], object]]] = {
    "move_price": (
        lambda store: store.move_price("floor", 0.5, 1.0),
        lambda store: round(math.log(store.read_prices()["floor"]), 6) == 0.5,
    ),
    "move_price by name": (
        lambda store: store.move_price("floor", 0.5, 1.0, once="named"),
        lambda store: round(math.log(store.read_prices()["floor"]), 6) == 0.5,
    ),
    "add_sums": (
        lambda store: store.add_sums([PeriodSums("total", 0, {"usd": 0.25})]),
        lambda store: store.sums(["total"]) == [{"usd": 0.25}],
    ),
    "add_sums of many periods": (
        lambda store: store.add_sums([PeriodSums(f"m{n}", 60, {"n": 1}) for n in range(250)]),
        lambda store: store.sums([f"m{n}" for n in range(250)]) == [{"n": 1}] * 250,
    ),
    "append_decision": (
        lambda store: store.append_decision({"n": "1"}),
        lambda store: [fields for _, fields in store.decisions(9)] == [{"n": "1"}],
    ),
    "append_event": (
        lambda store: store.append_event({"n": "1"}),
        lambda store: [fields for _, fields in store.events(9)] == [{"n": "1"}],
    ),
    "swap_note": (
        lambda store: store.swap_note("verdict", "1"),
        lambda store: store.swap_note("verdict", "2") == "1",
    ),
    "change_note": (
        lambda store: store.change_note("stage", None, "1"),
        lambda store: store.notes(["stage"]) == ["1"],
    ),
    "push_inbox": (
        lambda store: _push(store),
        lambda store: _push(store) or until(lambda: store.take_inbox(9) == [b"record"]),
    ),
}


def _push(store: WorkloadStore) -> None:
    """As whoever hands a record over does, and again where it may not have arrived."""
    with contextlib.suppress(WorkloadError):
        store.push_inbox([b"record"], once="record-1")


@pytest.mark.parametrize("warm", [True, False], ids=["script known", "script sent"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_redis_does_too_late_is_done_once(
    own_server: RedisServer, opened: Open, write: str, warm: bool
) -> None:
    do, done = WRITES[write]
    if warm:
        other = opened(own_server.url, state_dir=Path("unused"), namespace="other")
        do(other)
        other.close()
    store = opened(own_server.url, state_dir=Path("unused"), timeout_s=PATIENT_S)
    until(lambda: heard_by(own_server) == 1)
    own_server.signal(signal.SIGSTOP)
    do(store)
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    until(lambda: not store.degraded and done(store))


def test_a_batch_that_redis_drops_too_late_is_no_later_one(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    store.push_inbox([b"1", b"2"])
    assert store.take_inbox(1) == [b"1"]
    until(lambda: heard_by(own_server) == 1)
    own_server.signal(signal.SIGSTOP)
    store.ack_inbox()
    own_server.signal(signal.SIGCONT)
    until(lambda: not store.degraded)
    store.ack_inbox()
    assert store.take_inbox(1) == [b"2"]
    store.ack_inbox()
    store.ack_inbox()
    assert store.inbox_sizes() == (0, 0)


def test_replayed_writes_are_done_once_though_the_replay_was_cut_off(
    own_server: RedisServer, prompt: WorkloadStore, opened: Open
) -> None:
    own_server.signal(signal.SIGSTOP)
    for n in range(200):
        prompt.append_decision({"n": str(n)})
        prompt.add_sums([PeriodSums("total", 0, {"n": 1})])
    for _ in range(4):  # each of these answers a part of it
        own_server.signal(signal.SIGCONT)
        time.sleep(0.01)
        own_server.signal(signal.SIGSTOP)
        time.sleep(0.08)
    own_server.signal(signal.SIGCONT)
    until(lambda: not prompt.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    until(lambda: look.sums(["total"]) == [{"n": 200}])
    numbers = [int(fields["n"]) for _, fields in look.decisions(999)]
    assert numbers == [*reversed(range(200))]


def test_a_write_that_does_not_fit_what_lies_there_is_done_once_that_is_dropped(
    own_server: RedisServer, store: WorkloadStore, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as client:
        client.hset("eccos:{default}:v1:tally:total", "usd", "much")
        client.set("eccos:{default}:v1:events", "no stream")
    store.add_sums([PeriodSums("total", 0, {"usd": 1.0})])
    store.append_event({"what": "x"})
    store.append_decision({"model": "half a character \udcff"})
    until(lambda: not store.degraded)
    store.append_decision({"n": "2"})
    until(lambda: len(store.decisions(9)) == 2 and not store.degraded)
    assert "dropped a foreign string" in caplog.text
    assert store.sums(["total"]) == [{"usd": 1.0}]
    until(lambda: len(store.events(9)) == 1)


def test_a_price_that_stood_at_its_end_meanwhile_comes_back_as_it_does_here(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    own_server.kill()
    for _ in range(20):
        store.move_price("floor", 1.0, 1.0, (0.5, 2.0))
    store.move_price("floor", -0.1, 1.0, (0.5, 2.0))
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
    with pytest.raises(WorkloadError, match="cannot run push_inbox"):
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
    assert rung.wait(60)


def test_a_rest_that_began_without_redis_reaches_it(
    own_server: RedisServer, store: WorkloadStore, opened: Open
) -> None:
    own_server.kill()
    store.cool_down(SLOT, 60.0)
    assert store.degraded
    own_server.start()
    until(lambda: not store.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    until(lambda: look.loads({SLOT: 5})[SLOT].cooling_s > 50)


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
    own_server: RedisServer, opened: Open
) -> None:
    """After the heartbeat that found Redis again, before calls go there again."""

    class Watched(RedisWorkload):
        def append_decision(self, fields: Mapping[str, str], *, once: str = "") -> str:
            store.acquire(leases(1, "late"), {SLOT: 5})
            return super().append_decision(fields, once=once)

    shared = Watched(Server(own_server.url, PATIENT_S), namespace="default")
    shared.check()
    store = ResilientWorkload(shared, heartbeat_s=LONG_S)
    own_server.kill()
    store.acquire(leases(1), {SLOT: 5})
    store.append_decision({"n": "1"})
    own_server.start()
    until(lambda: not store.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    until(lambda: look.loads({SLOT: 5})[SLOT].in_use == 2)
    store.close()


def test_a_kernel_can_close_while_redis_is_away(own_server: RedisServer, opened: Open) -> None:
    def closing() -> float:
        options = {"timeout_s": PATIENT_S, "lease_ttl_s": LONG_S}
        store = opened(own_server.url, state_dir=Path("unused"), **options)
        store.acquire(leases(1), {SLOT: 1})
        own_server.signal(signal.SIGSTOP)
        start = time.perf_counter()
        store.close()
        seconds = time.perf_counter() - start
        own_server.signal(signal.SIGCONT)
        return seconds

    # The machine, too, may hold it up.
    assert any(closing() < 1.5 for _ in range(5))


def test_it_can_start_before_redis(own_server: RedisServer, opened: Open) -> None:
    own_server.kill()
    store = opened(own_server.url, state_dir=Path("unused"), required=False)
    assert store.degraded
    assert store.acquire(leases(2), {SLOT: 2}) == [True, True]
    own_server.start()
    until(lambda: not store.degraded)
    look = opened(own_server.url, state_dir=Path("unused"), member=False)
    assert look.loads({SLOT: 2})[SLOT].in_use == 2


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
    until(lambda: len(done) > 100)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    until(lambda: not store.degraded)
    store.renew()
    assert store.loads({SLOT: 4})[SLOT].in_use == 0


def test_without_redis_a_kernel_lends_its_share_of_rates_and_money(
    own_server: RedisServer, opened: Open
) -> None:
    first, second = (
        opened(own_server.url, state_dir=Path("unused"), timeout_s=PROMISED_S) for _ in range(2)
    )
    day = Cap("day", "day:1", 1.0, time.time() + 3600)
    rates, limits = {SLOT: Rates(rpm=10, tpm=1000)}, {SLOT: 100}

    def batch(name: str, count: int) -> list[Lease]:
        return [Lease(f"{name}-{n}", SLOT, Need(10, 0.1, (day,))) for n in range(count)]

    assert all(first.acquire(batch("before", 4), limits, rates))
    until(lambda: second.acquire(batch("here", 1), limits, rates) == [True] and second.kernels == 2)
    first.renew()
    own_server.kill()
    for store in (first, second):
        # Of 10 requests and $1, 5 and $.5 were left at most: at most 3 and $.3 each.
        granted = store.acquire(batch("after", 9), limits, rates)
        assert store.degraded
        assert sum(granted) <= 3


def test_without_redis_money_that_is_refused_counts_as_spent(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    day = Cap("day", "day:1", 1.0, time.time() + 3600)

    def batch(name: str, count: int) -> list[Lease]:
        return [Lease(f"{name}-{n}", SLOT, Need(10, 0.1, (day,))) for n in range(count)]

    for name, count in (("first", 6), ("second", 1), ("refused", 9)):
        store.acquire(batch(name, count), {SLOT: 100})
    own_server.kill()
    assert not all(store.acquire(batch("after", 9), {SLOT: 100}))
    assert store.degraded
    (spent,) = store.spent([day])
    left = day.usd - spent.usd - spent.held_usd
    assert left < 0.1, "else a call would wait for money that it is refused"


@pytest.mark.parametrize("rates", [Rates(), Rates(rpm=10), Rates(tpm=100)], ids=str)
def test_what_was_lent_last_before_redis_was_lost_is_not_lent_again(
    own_server: RedisServer, store: WorkloadStore, rates: Rates
) -> None:
    day = Cap("day", "day:1", 1.0, time.time() + 3600)
    caps = (day,) if rates == Rates() else ()

    def batch(name: str) -> list[Lease]:
        return [Lease(f"{name}-{n}", SLOT, Need(10, 0.1, caps)) for n in range(9)]

    assert all(store.acquire(batch("before"), {SLOT: 100}, {SLOT: rates}))
    own_server.kill()
    assert sum(store.acquire(batch("after"), {SLOT: 100}, {SLOT: rates})) == 1


def test_what_was_taken_without_redis_is_counted_there_once_it_is_back(
    own_server: RedisServer, store: WorkloadStore
) -> None:
    day = Cap("day", "day:1", 1.0, time.time() + 3600)
    rates, limits = {SLOT: Rates(rpm=100)}, {SLOT: 100}
    before, alone = (Lease(name, SLOT, Need(10, 0.1, (day,))) for name in ("before", "alone"))
    store.acquire([before], limits, rates)
    own_server.kill()
    assert store.acquire([alone], limits, rates) == [True]
    for lease in (before, alone):
        store.settle([(lease, Used(1, 20, 0.05))])
        store.release([lease])
    own_server.start()
    until(lambda: not store.degraded)
    until(lambda: store.spent([day])[0].usd == pytest.approx(0.1))
    assert store.spent([day])[0].held_usd == 0.0


def paid(count: int, day: Cap, name: str = "paid") -> list[Lease]:
    return [Lease(f"{name}-{n}", SLOT, Need(10, 0.1, (day,))) for n in range(count)]


def test_what_is_to_be_settled_is_kept_when_other_writes_are_dropped(
    own_server: RedisServer, store: WorkloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "WRITES_KEPT", 2)
    monkeypatch.setattr(backlog, "SETTLED_AT_ONCE", 2)
    day, limits = Cap("day", "day:1", 9.0, time.time() + 3600), {SLOT: 100}
    taken = paid(5, day)
    assert all(store.acquire(taken, limits))
    own_server.kill()
    for lease in taken:
        store.settle([(lease, Used(1, 10, 0.05))])
        store.append_decision({"call": lease.call_id})
    own_server.start()
    until(lambda: not store.degraded)
    until(lambda: store.spent([day])[0].usd == pytest.approx(0.25))
    assert len(store.decisions(9)) == 2


def test_what_is_kept_while_redis_comes_back_waits_for_no_other_outage(
    own_server: RedisServer, store: WorkloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Backlog.keep

    def late(self: Backlog, write: backlog.Write, *, tried: bool) -> None:
        own_server.start()
        until(lambda: not store.degraded)
        keep(self, write, tried=tried)

    monkeypatch.setattr(Backlog, "keep", late)
    own_server.kill()
    store.append_decision({"call": "between"})
    until(lambda: len(store.decisions(9)) == 1)


def test_what_was_settled_too_long_ago_to_be_known_is_not_settled_again(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a settle is lost, and Redis is away for longer than it remembers."""

    class Lost(RedisWorkload):
        lose = True

        def settle(self, used: Sequence[tuple[Lease, Used]], *, late: bool = False) -> None:
            super().settle(used, late=late)
            if self.lose and used:  # heartbeats settle nothing
                self.lose = False
                with own_server.client() as client:
                    assert client.delete("eccos:{default}:v1:settled")
                raise WorkloadError("no answer")

    monkeypatch.setattr(backlog, "REMEMBERED_S", 0.0)
    day = Cap("day", "day:1", 9.0, time.time() + 3600)
    shared = Lost(Server(own_server.url, PATIENT_S), namespace="default", lease_ttl_s=LONG_S)
    with contextlib.closing(ResilientWorkload(shared)) as store:
        first, second = paid(2, day)
        assert all(store.acquire([first, second], {SLOT: 9}))
        store.release([first, second])
        store.settle([(first, Used(1, 10, 0.05))])
        store.settle([(second, Used(1, 10, 0.05))])
        until(lambda: not store.degraded)
        until(lambda: store.spent([day])[0].held_usd == 0.0)
        assert store.spent([day])[0].usd == pytest.approx(0.1)


def test_limits_that_a_refresh_changes_without_redis_hold_once_it_is_back(
    own_server: RedisServer, store: WorkloadStore, opened: Open
) -> None:
    store.acquire(leases(1), {SLOT: 5, "gone@1": 5}, {SLOT: Rates(rpm=9)})
    store.acquire([Lease("one", "gone@1")], {"gone@1": 5})
    own_server.kill()
    until(lambda: store.loads({}) == {} and store.degraded)
    store.acquire([], {SLOT: 3}, {SLOT: Rates(rpm=2)})
    own_server.start()
    until(lambda: not store.degraded)
    other = opened(own_server.url, state_dir=Path("unused"), member=False)
    found = other.loads({SLOT: 90, "gone@1": 90})
    assert (found[SLOT].limit, found[SLOT].rates) == (3, Rates(rpm=2))
    assert found["gone@1"].limit == 90, "it was removed"


@pytest.mark.parametrize("error", [WorkloadError("away"), ValueError("odd"), RecursionError()])
def test_a_write_that_cannot_be_done_now_is_kept_whatever_was_raised(error: Exception) -> None:
    done: list[object] = []

    class Store:
        def append_decision(self, decision: object, *, once: str) -> None:
            if error not in done:
                done.append(error)
                raise error
            done.append((decision, once))

    kept = Backlog()
    kept.keep(("append_decision", ("it",), {"once": "a"}), tried=False)
    with pytest.raises(type(error)):
        kept.replay(Store())  # type: ignore[arg-type]
    kept.replay(Store())  # type: ignore[arg-type]
    assert done[1:] == [("it", "a")]


class Faulty(RedisWorkload):
    """One whose requests fail as long as its test says so."""

    def __init__(self, url: str, ttl_s: float) -> None:
        super().__init__(Server(url, PATIENT_S), namespace="default", lease_ttl_s=ttl_s)
        self.fails: Callable[[str], bool] = lambda verb: False

    def acquire(
        self,
        leases: Sequence[Lease],
        limits: Mapping[str, int],
        rates: Mapping[str, Rates] = {},
    ) -> list[bool]:
        self._may("acquire")
        return super().acquire(leases, limits, rates)

    def renew(self) -> None:
        self._may("renew")
        super().renew()

    def _may(self, verb: str) -> None:
        if self.fails(verb):
            raise WorkloadError(f"no answer to {verb}")


def pair(server: RedisServer, ttl_s: float) -> tuple[Faulty, WorkloadStore, Faulty, WorkloadStore]:
    """Two kernels that know of each other, and what they ask."""
    first, second = Faulty(server.url, ttl_s), Faulty(server.url, ttl_s)
    stores = [ResilientWorkload(one, heartbeat_s=ttl_s / 10) for one in (first, second)]
    until(lambda: all(one.renew() is None and one.kernels == 2 for one in stores))
    return first, stores[0], second, stores[1]


def test_a_failure_of_long_ago_makes_nobody_lend_its_share_at_once(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "LIFETIMES", 0.5)
    ttl_s = 2.0
    first, one, second, other = pair(own_server, ttl_s)
    with contextlib.closing(one), contextlib.closing(other):
        first.fails = lambda verb: verb == "acquire"
        one.acquire(leases(1), {SLOT: 4})
        first.fails = lambda verb: False
        one.release(leases(1))
        until(lambda: not one.degraded)
        time.sleep(1.1 * ttl_s)
        assert other.acquire(leases(4, "other"), {SLOT: 4}) == [True] * 4
        first.fails = second.fails = lambda verb: True
        assert one.acquire(leases(2, "more"), {SLOT: 4}) == [False] * 2


def test_what_redis_has_forgotten_is_waited_for_though_it_fails_in_another_way_then(
    own_server: RedisServer,
) -> None:
    first, one, second, other = pair(own_server, 60.0)
    with contextlib.closing(one), contextlib.closing(other):
        assert other.acquire(leases(3, "other"), {SLOT: 4}) == [True] * 3
        second.fails = lambda verb: True
        with own_server.client() as client:
            client.flushall()
        beats: list[bool] = []

        def fails(verb: str) -> bool:
            if verb == "renew" and one.degraded:
                beats.append(len(beats) == 1)  # the second one gets no answer
                return beats[-1]
            return False

        first.fails = fails
        one.acquire(leases(1), {SLOT: 4})
        until(lambda: len(beats) >= 4 or not one.degraded)
        assert one.acquire(leases(4, "more"), {SLOT: 4}) == [False] * 4
        second.fails = lambda verb: False
        until(lambda: not one.degraded)
        assert sum(one.acquire(leases(4, "more"), {SLOT: 4})) <= 1


def test_sums_that_another_connection_may_have_added_keep_their_name(
    own_server: RedisServer,
) -> None:
    first, one, _, other = pair(own_server, 60.0)
    with contextlib.closing(one), contextlib.closing(other):
        first.fails = lambda verb: True
        one.acquire(leases(1), {SLOT: 4})
        assert one.degraded
        added = [PeriodSums("total", 60.0, {"calls": 1.0})]
        first.add_sums(added, once="mine")
        one.add_sums(added, once="mine")
        first.fails = lambda verb: False
        until(lambda: not one.degraded)
        assert one.sums(["total"]) == [{"calls": 1.0}]
