"""The workload store on a Redis server, Sentinel group or Cluster.

A slot is lent, not counted: per model one sorted set of call ids, scored by the expiry of their
lease on the server's clock.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import compress

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Cap, Lease, Rates, Spent, Used
from aios_eccos.values.need import NANO
from aios_eccos.workload.channel import RELEASES, REST, Channel
from aios_eccos.workload.client import Forgotten, RedisClient
from aios_eccos.workload.leases import LeaseBook, taken_in_full
from aios_eccos.workload.meters import Taken
from aios_eccos.workload.notify import Notifier
from aios_eccos.workload.recall import Recall
from aios_eccos.workload.redis_ledger import RedisLedger
from aios_eccos.workload.script_args import (
    GONE,
    Asked,
    Declared,
    load_of,
    numbers,
    or_none,
    per_slot,
    places,
    rows,
    slot_keys,
    spent_keys,
)
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import NO_RATES, Declares, Load, check_limits, rest_of

log = logging.getLogger(__name__)

LEASE_TTL_S = 15.0


class RedisWorkload(RedisLedger):
    """Everything on one Redis; arguments as in `connect.open_workload`.

    It starts no thread: `ResilientWorkload` renews the leases and listens for releases.
    """

    degraded = False

    def __init__(
        self,
        server: Server,
        *,
        namespace: str,
        lease_ttl_s: float = LEASE_TTL_S,
        longest_s: float = math.inf,
    ) -> None:
        super().__init__(RedisClient(server, namespace))
        self.place = server.place
        self.kernel = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        #: Kernels known to Redis at its last answer.
        self.kernels = 0
        self.notifier = Notifier()
        self.leases = LeaseBook(lease_ttl_s, longest_s)
        #: The limits that held at the last acquire, by slot.
        self.limits: dict[str, int] = {}
        self.taken = Taken()
        self._recall = Recall()
        self.channel = Channel(self._redis, self.kernel, lease_ttl_s, self._recall.drop)
        self._ttl_ms = math.ceil(lease_ttl_s * 1000)
        self._lock = threading.Lock()
        self._declared: dict[str, Declared] = {}
        #: Leases whose calls are lost, and what they needed is not settled yet.
        self._unsettled: set[Lease] = set()
        self._known = self._closed = False
        #: What Redis has been told of each slot; None where it knows nothing of this kernel.
        self._told: dict[str, Declared] | None = None

    def acquire(
        self,
        leases: Sequence[Lease],
        limits: Mapping[str, int],
        rates: Mapping[str, Rates] = NO_RATES,
    ) -> list[bool]:
        slots = check_limits(leases, limits)
        changed = self.declare(leases, limits, rates)
        if not leases:
            if changed and not self._renew(set(), set(), changed):
                raise Forgotten(self.place)
            return []
        declared = {slot: (limits[slot], rates.get(slot, Rates())) for slot in slots}
        self._known = True
        self.leases.settle(leases)
        asked, asked_at = Asked(leases, slots), time.monotonic()
        told = asked.lending(self._ttl_ms, self.kernel, declared, self._told)
        args = [told, self._redis.key(RELEASES)]
        try:
            answer = self._redis.run("acquire", slot_keys(slots, asked.caps), args)
        except WorkloadError:
            self.leases.doubt(leases)
            raise
        if answer[0] < 0:
            self.taken.kernels.note(answer[1])  # some may have come since the last heartbeat
            raise Forgotten(self.place)
        self._note_told(declared)
        self._note_kernels(answer[0])
        for slot, (_, limit, *known) in zip(slots, rows(answer[1:], 6), strict=False):
            self.limits[slot] = limit
            self.taken.note_minute(slot, Rates(*map(or_none, known[:2])), *known[2:])
        after = 1 + 6 * len(slots)
        self.taken.note_money(dict(zip(asked.caps, answer[after:], strict=False)))
        granted = [number == 1 for number in answer[after + len(asked.caps) :]]
        in_use = dict(zip(slots, answer[1::6], strict=False))
        self.taken.note_use(in_use)
        self._recall.note_lent(dict(zip(slots, rows(answer[1:], 6), strict=False)), granted)
        self.leases.grant(compress(leases, granted), asked_at)
        return granted

    def declare(
        self, leases: Sequence[Lease], limits: Mapping[str, int], rates: Mapping[str, Rates]
    ) -> dict[str, Declared]:
        """Note what is declared of the leases' slots from now on; without leases see `acquire`.

        What has changed, for Redis to be told of; heartbeats tell it all else.
        """
        with self._lock:
            known = self._declared
            slots = {lease.slot for lease in leases} or known.keys() & limits.keys()
            gone = set() if leases else known.keys() - limits.keys()
            now = {slot: (limits[slot], rates.get(slot, Rates())) for slot in slots}
            changed = {slot: each for slot, each in now.items() if known.get(slot) != each}
            known.update(changed)
            for slot in gone:
                del known[slot]
            return changed | dict.fromkeys(gone, GONE)

    def settle(self, used: Sequence[tuple[Lease, Used]], *, late: bool = False) -> None:
        """`late`: so long after a first try that only what is charged is surely not settled."""
        leases = [lease for lease, _ in used if lease.need is not None]
        if not leases:
            return
        asked = Asked(leases, dict.fromkeys(lease.slot for lease in leases))
        names = ["charged", "settled", *per_slot(asked.slots, "recent", "rpm", "tpm")]
        self._redis.run(
            "settle", [*names, *spent_keys(asked.caps)], [asked.settling(used, self.kernel, late)]
        )

    def spent(self, caps: Sequence[Cap]) -> list[Spent]:
        if not caps:
            return []
        answer = self._redis.run("spent", ["kernels", *spent_keys(caps)], [])
        return [Spent(*(amount / NANO for amount in row)) for row in rows(answer, 3)]

    def release(self, leases: Sequence[Lease]) -> None:
        if self._closed or not leases:
            return
        held = self.leases.drop(leases, told=True)
        slots = list(dict.fromkeys(lease.slot for lease in leases))
        more = int(any(lease.need for lease in leases))
        args = [self._redis.key(RELEASES), self.kernel, more, *places(leases, slots)]
        self._redis.run("release", per_slot(slots, "slots", "limits"), args)
        self.leases.settle(leases)
        self._recall.note_released(held)
        self.notifier.notify()

    def renew(self) -> None:
        asked_at = time.monotonic()
        held, owed, lost = self.leases.heartbeat()
        if lost:
            log.warning("%d slots were held longer than any call takes: given back", len(lost))
        with self._lock:
            self._unsettled |= lost
            self._known = True
            declared = dict(self._declared)
        if not self._renew(held, owed, declared):
            raise Forgotten(self.place)
        retaken, released = self.leases.heard(held, owed, asked_at)
        with self._lock:
            known = self._declared
            changed = {slot: now for slot, now in known.items() if declared.get(slot, now) != now}
            changed |= dict.fromkeys(declared.keys() - known.keys(), GONE)
        if (released or retaken or changed) and not self._renew(retaken, released, changed):
            raise Forgotten(self.place)
        self._settle_unsettled()

    def _settle_unsettled(self) -> None:
        with self._lock:
            lost = set(self._unsettled)
        self.settle([*map(taken_in_full, lost)])
        with self._lock:
            self._unsettled -= lost

    def _renew(self, held: set[Lease], owed: set[Lease], declared: Mapping[str, Declared]) -> bool:
        """Tell Redis of leases and limits; False: it had forgotten this kernel, perhaps others."""
        slots = list(dict.fromkeys([*declared, *(lease.slot for lease in (*held, *owed))]))
        asked = Asked([*held], slots)
        told = asked.lending(self._ttl_ms, self.kernel, declared, self._told)
        args = [told, self._redis.key(RELEASES), *places(owed, slots)]
        kernels, rank, told_it = self._redis.run("renew", slot_keys(slots, asked.caps), args)
        if not told_it:
            self.taken.kernels.note(kernels)
            self._told = None
            return False
        self.taken.ranks.note(rank)
        self._note_told(declared)
        self._note_kernels(kernels)
        return True

    def _note_told(self, declared: Mapping[str, Declared]) -> None:
        with self._lock:
            self._told = {**(self._told or {}), **declared}

    def _note_kernels(self, kernels: int, *, others: bool = False) -> None:
        """`others`: this kernel is none of them yet."""
        self.kernels = kernels
        self.taken.kernels.note(kernels + others)

    def check(self) -> None:
        """Find and reach the server, or raise."""
        self.revive()
        self.loads({})

    def revive(self) -> None:
        """Make sure that the server runs, as far as that is ours to do, and is for this version."""
        self._redis.revive()
        self._redis.check_format()

    def mark(self) -> None:
        """Say which version's state this is, for other versions."""
        self._redis.mark_format()

    def loads(
        self, limits: Mapping[str, int], rates: Mapping[str, Rates] = NO_RATES
    ) -> dict[str, Load]:
        kinds = ("slots", "limits", "rpm", "tpm", "recent", "cooling", "closed")
        asked_at, args = time.monotonic(), ["" if self._told is None else self.kernel]
        for slot, own in limits.items():
            args += map(str, [own, *numbers(rates.get(slot, Rates()))])
        answer = self._redis.run("loads", ["kernels", *per_slot(limits, *kinds)], args)
        if answer[0] >= 0:  # else Redis has forgotten this kernel, and perhaps others
            self._note_kernels(answer[0], others=self._told is None)
        loads = dict(zip(limits, map(load_of, rows(answer[1:], 9)), strict=True))
        self.taken.note_use({slot: load.in_use for slot, load in loads.items()})
        self._recall.note((limits, rates), loads, asked_at)
        return loads

    def recall(self, declared: Declares, calls: int) -> dict[str, Load] | None:
        return self._recall.loads(declared, calls)

    def cool_down(self, slot: str, seconds: float, *, closed: bool = False) -> None:
        # A rest that is ended, ends for its server as well.
        kinds = ("cooling", "closed") if closed or seconds <= 0 else ("cooling",)
        rest_ms = math.ceil(rest_of(seconds) * 1000)
        args = [rest_ms, self._redis.key(RELEASES), REST]
        self._redis.run("cool_down", per_slot([slot], *kinds), args)
        self._recall.drop()

    def on_release(self, callback: Callable[[], None]) -> None:
        self.notifier.add(callback)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._leave()
        except WorkloadError as error:
            log.debug("left without telling Redis: %s", error)
        self.notifier.close()
        try:
            self._redis.close()
        except WorkloadError as error:
            log.warning("cannot end the use of Redis at %s: %s", self.place, error)
        atexit.unregister(self.close)

    def _leave(self) -> None:
        """Return all leases and limits of this kernel, if Redis knows it."""
        if not self._known:
            return
        held = self.leases.clear()
        with self._lock:
            self._unsettled |= held
            slots = list(dict.fromkeys([*self._declared, *(lease.slot for lease in held)]))
        names = ["kernels", *per_slot(slots, "slots", "limits", "rpm", "tpm")]
        args = [self.kernel, self._redis.key(RELEASES), *places(held, slots)]
        self._settle_unsettled()  # else their dollars were held until their period is over
        self._redis.run("leave", names, args)
