"""The workload store on a Redis server, Sentinel group or Cluster.

A slot is lent, not counted: per model one sorted set of call ids, scored by the expiry of their
lease on the server's clock. All keys of a namespace carry one hash tag, so that a script may
touch any of them in a Cluster:

    eccos:{namespace}:v1:slots:SLOT     sorted set  call id -> expiry in ms
    eccos:{namespace}:v1:limits:SLOT    sorted set  kernel  -> limit it declares
    eccos:{namespace}:v1:cooling:SLOT   string that expires when the slot has rested
    eccos:{namespace}:v1:kernels        sorted set  kernel  -> expiry in ms
    eccos:{namespace}:v1:prices         hash        name    -> price
    eccos:{namespace}:v1:inbox, taken, aside   lists of messages for the owner of the history
    eccos:{namespace}:v1:batch          number of the batch that is taken from the inbox next
    eccos:{namespace}:v1:decisions, events   streams, capped
    eccos:{namespace}:v1:tally:PERIOD   hash        name    -> sum
    eccos:{namespace}:v1:note:NAME      string
    eccos:{namespace}:v1:once:NAME      answer to the write of that name; expires
    eccos:{namespace}:v1:releases       pub/sub channel: kernel that released
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.client import RedisClient
from aios_eccos.workload.leases import LeaseBook
from aios_eccos.workload.notify import Notifier
from aios_eccos.workload.redis_ledger import RedisLedger
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import Load, check_limits, rest_of

log = logging.getLogger(__name__)

LEASE_TTL_S = 15.0
_WAKE = b""


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
        #: Kernels known to Redis at its last answer, and this one's place among them.
        self.kernels, self.rank = 1, 0
        self.notifier = Notifier()
        self.leases = LeaseBook(lease_ttl_s, longest_s)
        #: The limits that held at the last acquire, by slot.
        self.limits: dict[str, int] = {}
        self._ttl_ms = math.ceil(lease_ttl_s * 1000)
        self._lock = threading.Lock()
        self._declared: dict[str, int] = {}
        self._known = False
        self._closed = False

    def acquire(self, leases: Sequence[Lease], limits: Mapping[str, int]) -> list[bool]:
        slots = check_limits(leases, limits)
        if not leases:
            return []
        with self._lock:
            self._known = True
            self._declared.update((slot, limits[slot]) for slot in slots)
        self.leases.settle(leases)
        names = ["kernels", *_per_slot(slots, "slots", "limits")]
        args = [self._ttl_ms, self.kernel, len(slots), *(limits[slot] for slot in slots)]
        asked_at = time.monotonic()
        try:
            answer = self._redis.run("acquire", names, [*args, *_indexed(leases, slots)])
        except WorkloadError:
            self.leases.doubt(leases)
            raise
        self.kernels = answer[0]
        self.limits.update(zip(slots, answer[1:], strict=False))
        granted = [number == 1 for number in answer[1 + len(slots) :]]
        self.leases.grant(compress(leases, granted), asked_at)
        return granted

    def release(self, leases: Sequence[Lease]) -> None:
        if self._closed or not leases:
            return
        self.leases.drop(leases, told=True)
        slots = list(dict.fromkeys(lease.slot for lease in leases))
        args = [self._redis.key("releases"), self.kernel, *_indexed(leases, slots)]
        self._redis.run("release", _per_slot(slots, "slots"), args)
        self.leases.settle(leases)
        self.notifier.notify()

    def renew(self) -> None:
        asked_at = time.monotonic()
        held, owed, lost = self.leases.heartbeat()
        if lost:
            log.warning("%d slots were held longer than any call takes: given back", len(lost))
        with self._lock:
            self._known = True
            declared = dict(self._declared)
        self._renew(held, owed, declared)
        retaken, released = self.leases.heard(held, owed, asked_at)
        if released or retaken:
            self._renew(retaken, released, {})

    def _renew(self, held: set[Lease], owed: set[Lease], declared: dict[str, int]) -> None:
        slots = list(dict.fromkeys([*declared, *(lease.slot for lease in (*held, *owed))]))
        self.kernels, self.rank = self._redis.run(
            "renew",
            ["kernels", *_per_slot(slots, "slots", "limits")],
            [self._ttl_ms, self.kernel, self._redis.key("releases"), len(slots)]
            + [declared.get(slot, "") for slot in slots]
            + [len(held), *_indexed(held, slots), *_indexed(owed, slots)],
        )

    def check(self) -> None:
        """Find and reach the server, or raise."""
        self._redis.revive()
        self.loads({})

    def revive(self) -> None:
        """Make sure that the server runs, as far as that is ours to do."""
        self._redis.revive()

    def loads(self, limits: Mapping[str, int]) -> dict[str, Load]:
        names = ["kernels", *_per_slot(limits, "slots", "limits", "cooling")]
        answer = self._redis.run("loads", names, list(limits.values()))
        self.kernels = max(1, answer[0])
        triples = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
        return {
            slot: Load(in_use, limit, cooling_ms / 1000)
            for slot, (in_use, limit, cooling_ms) in zip(limits, triples, strict=True)
        }

    def cool_down(self, slot: str, seconds: float) -> None:
        self._redis.run("cool_down", [f"cooling:{slot}"], [math.ceil(rest_of(seconds) * 1000)])

    def on_release(self, callback: Callable[[], None]) -> None:
        self.notifier.add(callback)

    @contextmanager
    def listen(self) -> Iterator[Callable[[float], bool]]:
        """Hear of releases; yields a function that waits so many seconds and says if one came."""
        with self._redis.using("listen for releases") as client, client.pubsub() as ear:
            ear.subscribe(self._redis.key("releases"))
            mine = self.kernel.encode()

            def heard(seconds: float) -> bool:
                message = ear.get_message(ignore_subscribe_messages=True, timeout=seconds)
                return message is not None and message["data"] not in (mine, _WAKE)

            yield heard

    def wake(self) -> None:
        """Make every ear look up, this kernel's own too, without news of a release."""
        with self._redis.using("wake who listens") as client:
            client.publish(self._redis.key("releases"), _WAKE)

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
            slots = list(dict.fromkeys([*self._declared, *(lease.slot for lease in held)]))
        names = ["kernels", *_per_slot(slots, "slots", "limits")]
        args = [self.kernel, self._redis.key("releases"), *_indexed(held, slots)]
        self._redis.run("leave", names, args)


def _per_slot(slots: Iterable[str], *kinds: str) -> list[str]:
    """For each slot its key's name of each kind."""
    return [f"{kind}:{slot}" for slot in slots for kind in kinds]


def _indexed(leases: Iterable[Lease], slots: Sequence[str]) -> list[object]:
    """Flat pairs of each lease's 1-based slot number and its call id."""
    number = {slot: index for index, slot in enumerate(slots, start=1)}
    return [part for lease in leases for part in (number[lease.slot], lease.call_id)]
