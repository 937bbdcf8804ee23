"""Whatever two kernels do in whatever order: no limit is passed, each need is settled once."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workload_servers import RedisServer

from aios_eccos.values import Cap, Lease, Need, Rates, Used
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.store import WINDOW_S, WorkloadStore

SLOTS = ("small@1", "large@2")
LIMITS = {"small@1": 4, "large@2": 3}
RATES = {"small@1": Rates(rpm=30, tpm=2000), "large@2": Rates(rpm=12)}
#: Billionths of a dollar: the others are sums of whole ones, so that they compare exactly.
DAY, MONTH = (
    Cap(k, f"{k}:1", usd, time.time() + 9e4) for k, usd in (("day", 3e-6), ("month", 4e-6))
)

#: A turn: what is done, by which kernel, to which call; tokens and money needed and really taken;
#: whether both slots are wanted at once.
TURNS = st.tuples(
    st.sampled_from(["acquire", "acquire", "acquire", "settle", "settle twice", "drop", "renew"]),
    st.integers(0, 1),
    st.integers(0, 30),
    st.integers(0, 400),
    st.integers(0, 700),
    st.booleans(),
)


@dataclass
class World:
    """What must be true by the turns so far."""

    kernels: list[WorkloadStore]
    held: dict[Lease, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    #: By how much tokens and money went beyond what was forecast.
    error: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    beyond: int = 0
    spent: int = 0
    reserved: int = 0

    def turn(self, does: str, kernel: int, call: int, needed: int, taken: int, both: bool) -> None:
        """Do it, and take down what it changes."""
        store = self.kernels[kernel]
        if does == "acquire":
            self.acquire(store, kernel, call, needed, both)
        elif does == "renew":
            store.renew()
        elif self.held:
            lease = [*self.held][call % len(self.held)]
            self.end(lease, Used(0) if does == "drop" else Used(1, taken, taken * 1e-9), does)

    def acquire(
        self, store: WorkloadStore, kernel: int, call: int, needed: int, both: bool
    ) -> None:
        name = f"{call}-{uuid.uuid4().hex[:6]}"
        slots = SLOTS if both else SLOTS[call % 2 : call % 2 + 1]
        caps = (DAY, MONTH) if call % 3 else (MONTH,)
        group = [Lease(name, slot, Need(needed, needed * 1e-9, caps)) for slot in slots]
        granted = store.acquire(group, LIMITS, RATES)
        assert len(set(granted)) == 1, "all or nothing"
        for lease in group if granted[0] else ():
            self.held[lease] = kernel
            self.requests[lease.slot] += 1
            self.tokens[lease.slot] += needed
            self.reserved += needed

    def end(self, lease: Lease, used: Used, does: str) -> None:
        store, need = self.kernels[self.held.pop(lease)], lease.need
        assert need is not None
        for _ in range(2 if does == "settle twice" else 1):
            store.settle([(lease, used)])
        store.release([lease])
        self.requests[lease.slot] += used.requests - 1
        self.tokens[lease.slot] += used.tokens - need.tokens
        self.error[lease.slot] += max(used.tokens - need.tokens, 0)
        self.beyond += max(used.nano - need.nano, 0)
        self.spent += used.nano
        self.reserved -= need.nano

    def check(self) -> None:
        """The stores count what the turns say, and no limit is passed beyond forecasts' errors."""
        for store in self.kernels:
            loads = store.loads(LIMITS, RATES)
            for slot, load in loads.items():
                assert load.in_use == sum(lease.slot == slot for lease in self.held)
                assert load.in_use <= LIMITS[slot]
                assert load.requests == self.requests[slot]
                assert load.requests <= (RATES[slot].rpm or 0)
                assert load.tokens == self.tokens[slot]
                most = RATES[slot].tpm
                assert most is None or load.tokens <= most + self.error[slot]
            day, month = store.spent([DAY, MONTH])
            assert round(month.usd * 1e9) == self.spent
            assert round(month.held_usd * 1e9) == self.reserved
            assert round(month.beyond_usd * 1e9) == self.beyond
            for cap, found in ((DAY, day), (MONTH, month)):
                assert found.usd <= cap.usd + found.beyond_usd + 1e-12


def play(kernels: list[WorkloadStore], turns: list[tuple[str, int, int, int, int, bool]]) -> None:
    """Check the world after every turn; what takes longer than a minute says nothing."""
    world, begun = World(kernels), time.monotonic()
    for turn in turns:
        world.turn(*turn)
        if time.monotonic() - begun > WINDOW_S / 2:
            return
        world.check()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns=st.lists(TURNS, min_size=60, max_size=120))
def test_two_kernels_on_one_redis_pass_no_limit(
    redis_server: RedisServer, turns: list[tuple[str, int, int, int, int, bool]]
) -> None:
    namespace = uuid.uuid4().hex
    kernels = [
        open_workload(
            redis_server.unix_url,
            state_dir=Path("unused"),
            namespace=namespace,
            member=False,
            lease_ttl_s=600.0,
            timeout_s=30.0,
        )
        for _ in range(2)
    ]
    try:
        play(kernels, turns)
    finally:
        for store in kernels:
            store.close()


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(TURNS, min_size=60, max_size=120))
def test_memory_passes_no_limit(turns: list[tuple[str, int, int, int, int, bool]]) -> None:
    store = MemoryWorkload()
    play([store, store], turns)
    store.close()
