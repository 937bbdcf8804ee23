"""What every workload store does, whatever is behind it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import pytest
from redis import Redis
from waiting import until
from workload_servers import ears

from aios_eccos.errors import DataError, WorkloadError
from aios_eccos.values import Lease, Model, Need
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.store import Load, WorkloadStore

Kernel = Callable[[], WorkloadStore]

SHARED = ["unix", "tcp", "embedded", "cluster"]
KINDS = ["memory", "look-up", *SHARED]
SLOT = "small@1234"

every_kind = pytest.mark.parametrize("kind", KINDS)
every_shared = pytest.mark.parametrize("kind", SHARED)


def leases(count: int, slot: str = SLOT, name: str = "call") -> list[Lease]:
    return [Lease(f"{name}-{n}", slot) for n in range(count)]


@every_kind
def test_a_batch_gets_what_is_free_in_its_order(store: WorkloadStore) -> None:
    assert store.acquire(leases(7), {SLOT: 5}) == [True] * 5 + [False] * 2
    assert store.loads({SLOT: 5}) == {SLOT: Load(5, 5, 0.0)}
    assert store.loads({SLOT: 5})[SLOT].free == 0


@every_kind
def test_a_release_frees_once_and_ignores_what_is_not_held(store: WorkloadStore) -> None:
    taken = leases(2)
    store.acquire(taken, {SLOT: 2})
    store.release([taken[0]])
    store.release([taken[0], Lease("never", SLOT), Lease("never", "other@1")])
    assert store.loads({SLOT: 2})[SLOT] == Load(1, 2, 0.0)
    assert store.acquire(leases(2, name="next"), {SLOT: 2}) == [True, False]


@every_kind
def test_a_repeated_acquire_is_granted_and_counts_once(store: WorkloadStore) -> None:
    (lease,) = leases(1)
    assert store.acquire([lease], {SLOT: 1}) == [True]
    assert store.acquire([lease, lease], {SLOT: 1}) == [True, True]
    assert store.loads({SLOT: 1})[SLOT].in_use == 1


@every_kind
def test_slots_of_one_batch_have_limits_of_their_own(store: WorkloadStore) -> None:
    other = Model("large {0}: ü/@ \n", "http://host").slot
    batch = [*leases(2), *leases(2, other), *leases(1, name="last")]
    assert store.acquire(batch, {SLOT: 2, other: 1}) == [True, True, True, False, False]
    loads = store.loads({SLOT: 2, other: 1, "unused@0": 3})
    assert [load.in_use for load in loads.values()] == [2, 1, 0]
    assert loads["unused@0"].free == 3
    store.release(batch)
    assert store.loads({SLOT: 2, other: 1})[other].in_use == 0


@every_kind
def test_a_lowered_limit_holds_for_the_next_and_takes_nothing_back(store: WorkloadStore) -> None:
    store.acquire(leases(4), {SLOT: 4})
    assert store.acquire(leases(1, name="next"), {SLOT: 2}) == [False]
    assert store.loads({SLOT: 2})[SLOT] == Load(4, 2, 0.0)
    assert store.loads({SLOT: 2})[SLOT].free == 0


@every_kind
def test_an_empty_batch_is_nothing(store: WorkloadStore) -> None:
    assert store.acquire([], {}) == []
    store.release([])
    assert store.loads({}) == {}
    store.push_inbox([])
    assert store.take_inbox(0) == []
    assert store.decisions(0) == []


@every_kind
def test_a_slot_without_a_limit_is_refused_by_name(store: WorkloadStore) -> None:
    with pytest.raises(ValueError, match=r"no limit given for slot 'small@1234'"):
        store.acquire(leases(1), {"other@1": 3})


@every_kind
def test_that_a_slot_cools_is_told_to_all_and_refuses_nobody(
    kernel: Kernel, store: WorkloadStore
) -> None:
    other = kernel()
    held = leases(1)
    store.acquire(held, {SLOT: 5})
    store.cool_down(SLOT, 60.0)
    other.cool_down(SLOT, 1.0)
    load = other.loads({SLOT: 5})[SLOT]
    assert 55 < load.cooling_s <= 60
    assert (load.in_use, load.free) == (1, 4)
    assert other.acquire(leases(5, name="next"), {SLOT: 5}) == [True] * 4 + [False]
    store.cool_down(SLOT, 0)
    assert other.loads({SLOT: 5})[SLOT].cooling_s == 0


@every_kind
def test_a_cooldown_ends_by_itself(store: WorkloadStore) -> None:
    store.cool_down(SLOT, 0.05)
    assert store.loads({SLOT: 1})[SLOT].cooling_s > 0
    until(lambda: store.loads({SLOT: 1})[SLOT].cooling_s == 0)


@every_kind
@pytest.mark.parametrize(
    ("rests", "left"),
    [
        ([1.0, 60.0], 60.0),
        ([60.0, 1.0], 60.0),
        ([60.0, 1e-9], 60.0),
        ([0.0], 0.0),
        ([60.0, 0.0], 0.0),
        ([60.0, -1.0], 0.0),
        ([60.0, 0.0, 5.0], 5.0),
        ([1e30], 86_400.0),
        ([math.inf, 5.0], 86_400.0),
    ],
)
def test_the_longer_rest_holds_and_none_ends_it(
    kernel: Kernel, store: WorkloadStore, rests: list[float], left: float
) -> None:
    for number, seconds in enumerate(rests):
        (kernel() if number else store).cool_down(SLOT, seconds)
    assert store.loads({SLOT: 1})[SLOT].cooling_s == pytest.approx(left, abs=2.0)
    with pytest.raises(ValueError, match="cannot rest"):
        store.cool_down(SLOT, math.nan)


@every_kind
def test_a_release_rings_on_another_thread(store: WorkloadStore) -> None:
    rung, where = threading.Event(), []

    def ring() -> None:
        where.append(threading.current_thread())
        rung.set()

    store.on_release(ring)
    store.acquire(leases(1), {SLOT: 1})
    assert not rung.is_set()
    store.release(leases(1))
    assert rung.wait(60)
    assert threading.current_thread() not in where


@every_kind
def test_a_callback_given_twice_is_called_once(store: WorkloadStore) -> None:
    calls: list[int] = []
    last = threading.Event()

    def ring() -> None:
        calls.append(1)

    for _ in range(50):
        store.on_release(ring)
    store.on_release(last.set)
    store.acquire(leases(1), {SLOT: 1})
    store.release(leases(1))
    assert last.wait(60)
    assert len(calls) == 1


@every_shared
def test_a_release_rings_at_the_other_kernels(
    kernel: Kernel, store: WorkloadStore, bare: Redis, namespace: str
) -> None:
    other = kernel()
    until(lambda: ears(bare, namespace) == 2)
    rung = threading.Event()
    other.on_release(rung.set)
    store.acquire(leases(1), {SLOT: 1})
    assert not rung.is_set()
    store.release(leases(1))
    assert rung.wait(60)


@pytest.mark.parametrize(
    "kind", ["look-up"]
)  # no heartbeat: one that meets a release tells it again
def test_other_kernels_hear_only_of_what_a_call_may_wait_for(
    store: WorkloadStore, bare: Redis
) -> None:
    def told_of(taken: list[Lease], limit: int) -> int:
        store.acquire(taken, {SLOT: limit})
        before = published(bare)
        store.release(taken[:1])
        store.release(taken[1:])
        return published(bare) - before

    assert told_of(leases(3), 9) == 0
    assert told_of(leases(3), 3) == 1, "once for the slot that was full"
    rated = [Lease("rated", SLOT, Need(10, 0.0))]
    assert told_of(rated, 9) == 1, "tokens may have come back with it"
    assert told_of(leases(3), 2) == 1, "one of three was refused"


def published(server: Redis) -> int:
    """How often anything was told to all kernels."""
    return int(server.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])


@every_shared
def test_the_smallest_limit_of_the_living_kernels_holds(
    kernel: Kernel, store: WorkloadStore
) -> None:
    careful = kernel()
    assert careful.acquire(leases(1, name="careful"), {SLOT: 2}) == [True]
    assert store.acquire(leases(3), {SLOT: 9}) == [True, False, False]
    assert store.loads({SLOT: 9})[SLOT] == Load(2, 2, 0.0)
    assert store.loads({SLOT: 1})[SLOT].limit == 1, "looking declares nothing"
    assert careful.loads({SLOT: 9})[SLOT].limit == 2
    assert store.kernels == 2
    careful.close()
    assert store.loads({SLOT: 9})[SLOT] == Load(1, 9, 0.0), "its slot came back with it"
    assert store.kernels == 1
    assert store.acquire(leases(9), {SLOT: 9}) == [True] * 9


@every_kind
def test_prices_move_by_steps_from_their_start(kernel: Kernel, store: WorkloadStore) -> None:
    other = kernel()
    assert store.read_prices() == {}
    assert store.move_price("floor ä", 0.5, start=2.0) == pytest.approx(2 * math.exp(0.5))
    assert other.move_price("floor ä", -0.25, start=99.0) == pytest.approx(2 * math.exp(0.25))
    store.set_prices({})
    other.set_prices({"slot": 3e-9, "other": 1.0})
    other.set_prices({"other": 2.0})
    assert store.read_prices() == pytest.approx(
        {"floor ä": 2 * math.exp(0.25), "slot": 3e-9, "other": 2.0}
    )
    assert store.move_price("slot", 0.0, start=1.0) == 3e-9


@every_kind
def test_a_price_stays_one_that_can_move_back(store: WorkloadStore) -> None:
    assert math.isfinite(store.move_price("high", 1e6, start=1.0))
    assert store.move_price("low", -1e6, start=1.0) > 0
    assert store.move_price("low", 10.0, start=1.0) > store.move_price("low", -5.0, start=1.0) > 0


@every_kind
def test_a_price_is_kept_between_the_ends_of_its_move(kernel: Kernel, store: WorkloadStore) -> None:
    ends = (0.5, 2.0)
    assert store.move_price("floor", 5.0, 1.0, ends) == 2.0
    assert kernel().move_price("floor", -0.1, 1.0, ends) == pytest.approx(2 * math.exp(-0.1))
    assert store.move_price("floor", -5.0, 1.0, ends) == 0.5
    with pytest.raises(ValueError, match="a price must be between"):
        store.move_price("floor", 0.1, 1.0, (0.0, 2.0))


@every_kind
@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        (3.0, 0.5, 3.0),
        (3.0, 0.0, 3.0),
        (3.0, -0.1, 3.0 * math.exp(-0.1)),
        (3.0, -9.0, 0.5),
        (0.2, -0.5, 0.2),
        (0.2, 0.1, 0.2 * math.exp(0.1)),
        (0.2, 9.0, 2.0),
        (2.0, 1.0, 2.0),
        (0.5, -1.0, 0.5),
    ],
)
def test_a_price_beyond_an_end_moves_inward_only_and_is_not_pulled_back(
    store: WorkloadStore, before: float, step: float, after: float
) -> None:
    assert store.move_price("absent", step, before, (0.5, 2.0)) == pytest.approx(after)
    store.set_prices({"floor": before})
    assert store.move_price("floor", step, 99.0, (0.5, 2.0)) == pytest.approx(after)
    assert store.read_prices() == pytest.approx({"absent": after, "floor": after})


@every_kind
def test_a_move_of_one_name_is_made_once(kernel: Kernel, store: WorkloadStore) -> None:
    first = store.move_price("floor", 0.5, 1.0, once="verdict:1")
    assert kernel().move_price("floor", 0.5, 1.0, once="verdict:1") == first
    assert store.move_price("other", -0.5, 1.0, once="verdict:1") == pytest.approx(math.exp(-0.5))
    assert store.move_price("floor", 0.5, 1.0, once="verdict:2") == pytest.approx(math.e)
    assert store.move_price("floor", 0.5, 1.0) == pytest.approx(math.exp(1.5))
    assert store.move_price("floor", 0.5, 1.0) == pytest.approx(math.exp(2.0))


@every_kind
@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_refused(store: WorkloadStore, wrong: float) -> None:
    with pytest.raises(ValueError, match="a price must be between"):
        store.set_prices({"floor": wrong})
    with pytest.raises(ValueError, match="a price must be between"):
        store.move_price("floor", 0.1, start=wrong)
    if not math.isfinite(wrong):
        with pytest.raises(ValueError, match="a price cannot move by"):
            store.move_price("floor", wrong, start=1.0)
    assert store.read_prices() == {}


@every_kind
def test_no_step_of_a_price_is_lost_between_threads(kernel: Kernel, store: WorkloadStore) -> None:
    stores = [store, kernel()]

    def move(n: int) -> None:
        for _ in range(25):
            stores[n % 2].move_price("floor", 0.01, start=1.0)

    _run_threads(move, 4)
    assert store.read_prices()["floor"] == pytest.approx(math.exp(1.0))


@every_kind
def test_the_inbox_gives_records_in_order_until_they_are_acknowledged(
    kernel: Kernel, store: WorkloadStore
) -> None:
    records = [b"\x00\xff", "ü".encode(), b"", b"4", b"5"]
    kernel().push_inbox(records[:3])
    kernel().push_inbox(records[3:])
    assert store.take_inbox(2) == records[:2]
    assert kernel().take_inbox(5) == records[:2], "whoever takes over gets them again"
    store.ack_inbox()
    assert store.take_inbox(9) == records[2:]
    store.ack_inbox()
    store.ack_inbox()
    assert store.take_inbox(9) == []


@every_kind
def test_messages_are_taken_up_to_a_number_of_bytes(kernel: Kernel, store: WorkloadStore) -> None:
    sizes = [600_000, 300_000, 200_000, 3_000_000, 10, 10]
    for number, size in enumerate(sizes):
        store.push_inbox([bytes([number]) * size])
    taken = []
    while messages := store.take_inbox(8):
        taken.append([message[0] for message in messages])
        store.ack_inbox()
    assert taken == [[0, 1], [2], [3], [4, 5]]
    assert store.inbox_sizes() == (0, 0)


@every_shared
def test_a_late_acknowledgment_drops_no_later_batch(kernel: Kernel, store: WorkloadStore) -> None:
    store.push_inbox([b"1", b"2"])
    store.take_inbox(1)
    store.ack_inbox()
    assert kernel().take_inbox(1) == [b"2"]
    store.ack_inbox()
    assert kernel().take_inbox(1) == [b"2"]


@every_kind
def test_a_message_beyond_measure_is_refused_and_others_are_kept(store: WorkloadStore) -> None:
    with pytest.raises(DataError, match=r"16,000,001 bytes, most 16,000,000"):
        store.push_inbox([b"good", b"x" * 16_000_001])
    store.push_inbox([b"good"])
    assert store.take_inbox(8) == [b"good"]


@every_kind
def test_what_nobody_can_carry_out_is_counted_and_the_last_of_it_kept(
    kernel: Kernel, store: WorkloadStore
) -> None:
    store.push_inbox([b"1", b"2", b"3"])
    store.take_inbox(1)
    assert kernel().inbox_sizes() == (3, 0)
    store.set_aside([])
    store.set_aside([b"1"])
    store.set_aside([b"2", b"3"])
    assert kernel().inbox_sizes() == (3, 3)
    for number in range(120):
        store.set_aside([b"%d" % number])
    assert kernel().inbox_sizes() == (3, 100)


#: Writes with the name that they are given, and what they must have done once.
NAMED: list[tuple[Callable[[WorkloadStore], object], Callable[[WorkloadStore], object], object]] = [
    (
        lambda store: store.append_decision({"n": "1"}, once="w"),
        lambda store: [fields for _, fields in store.decisions(9)],
        [{"n": "1"}],
    ),
    (
        lambda store: store.append_event({"n": "1"}, once="w"),
        lambda store: [fields for _, fields in store.events(9)],
        [{"n": "1"}],
    ),
    (
        lambda store: store.add_sums([PeriodSums("total", 0, {"n": 1})], once="w"),
        lambda store: store.sums(["total"]),
        [{"n": 1}],
    ),
    (
        lambda store: store.swap_note("note", "1", once="w"),
        lambda store: store.notes(["note"]),
        ["1"],
    ),
    (
        lambda store: store.change_note("note", None, "1", once="w"),
        lambda store: store.notes(["note"]),
        ["1"],
    ),
    (
        lambda store: store.push_inbox([b"1"], once="w"),
        lambda store: store.take_inbox(9),
        [b"1"],
    ),
]


@every_kind
@pytest.mark.parametrize(("write", "read", "wanted"), NAMED)
def test_a_named_write_is_done_once_and_answers_alike(
    kernel: Kernel,
    store: WorkloadStore,
    write: Callable[[WorkloadStore], object],
    read: Callable[[WorkloadStore], object],
    wanted: object,
) -> None:
    first = write(store)
    assert write(kernel()) == first
    assert read(store) == wanted


@every_kind
def test_decisions_come_back_newest_first(kernel: Kernel, store: WorkloadStore) -> None:
    ids = [kernel().append_decision({"n": str(n), "model": "größe"}) for n in range(5)]
    found = store.decisions(3)
    assert [fields["n"] for _, fields in found] == ["4", "3", "2"]
    assert [identity for identity, _ in found] == ids[:1:-1]
    assert found[0][1] == {"n": "4", "model": "größe"}
    assert len(store.decisions(99)) == 5


@every_kind
def test_close_returns_what_is_held_and_ends_use(kernel: Kernel, store: WorkloadStore) -> None:
    going = kernel()
    going.acquire(leases(2), {SLOT: 2})
    going.close()
    going.close()
    going.release(leases(2))
    for use in (
        lambda: going.acquire(leases(1), {SLOT: 1}),
        lambda: going.loads({SLOT: 1}),
        lambda: going.cool_down(SLOT, 1.0),
        lambda: going.read_prices(),
        lambda: going.set_prices({"floor": 1.0}),
        lambda: going.push_inbox([b"1"]),
        lambda: going.take_inbox(1),
        lambda: going.ack_inbox(),
        lambda: going.append_decision({"n": "1"}),
        lambda: going.renew(),
    ):
        with pytest.raises(WorkloadError, match="closed"):
            use()
    if going is not store:
        assert store.loads({SLOT: 2})[SLOT].in_use == 0


@every_kind
def test_no_thread_is_left_after_close(kernel: Kernel) -> None:
    before = set(threading.enumerate())
    stores = [kernel() for _ in range(3)]
    stores[0].on_release(lambda: None)
    for one in stores:
        one.close()
    until(lambda: set(threading.enumerate()) <= before)


@every_kind
def test_a_hundred_threads_get_exactly_the_limit(kernel: Kernel, store: WorkloadStore) -> None:
    stores = [store, kernel()]
    granted, most = [], []
    go = threading.Barrier(100)

    def take(n: int) -> None:
        go.wait()
        granted.extend(stores[n % 2].acquire([Lease(f"race-{n}", SLOT)], {SLOT: 5}))
        most.append(store.loads({SLOT: 5})[SLOT].in_use)

    _run_threads(take, 100)
    assert sum(granted) == 5
    assert max(most) == 5
    assert len(granted) == 100


@every_kind
def test_under_churn_the_limit_is_reached_and_never_passed(
    kernel: Kernel, store: WorkloadStore
) -> None:
    """Holders count themselves, independently of what the store believes."""
    stores = [store, kernel()]
    lock, inside, seen, done = threading.Lock(), set(), [], []
    end = time.monotonic() + 0.5

    def work(n: int) -> None:
        turn = 0
        while time.monotonic() < end or len(done) <= 16:
            turn += 1
            lease = Lease(f"{n}-{turn}", SLOT)
            if not stores[n % 2].acquire([lease], {SLOT: 5})[0]:
                continue
            with lock:
                inside.add(lease)
                seen.append(len(inside))
            with lock:
                inside.discard(lease)
            stores[n % 2].release([lease])
            done.append(lease)

    _run_threads(work, 16)
    assert max(seen) <= 5
    assert store.loads({SLOT: 5})[SLOT].in_use == 0


def _run_threads(work: Callable[[int], None], count: int) -> None:
    failed: list[BaseException] = []

    def run(n: int) -> None:
        try:
            work(n)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
