"""The workload store on a Redis server, Sentinel group or Cluster.

A slot is lent, not counted: per model one sorted set of call ids, scored by the expiry of their
lease on the server's clock. All keys of a namespace carry one hash tag, so that a script may
touch any of them in a Cluster:

    eccos:{namespace}:v1:slots:SLOT     sorted set  call id -> expiry in ms
    eccos:{namespace}:v1:limits:SLOT    sorted set  kernel  -> limit it declares
    eccos:{namespace}:v1:cooling:SLOT   string that expires when the slot has rested
    eccos:{namespace}:v1:kernels        sorted set  kernel  -> expiry in ms
    eccos:{namespace}:v1:prices         hash        name    -> price
    eccos:{namespace}:v1:once:NAME      string: answer to a write of that name; expires
    eccos:{namespace}:v1:inbox, taken   lists of records for the owner of the history
    eccos:{namespace}:v1:decisions, events   streams, capped
    eccos:{namespace}:v1:tally:PERIOD   hash        name    -> sum
    eccos:{namespace}:v1:note:NAME      string
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

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.client import RedisClient
from aios_eccos.workload.memory import DECISIONS_KEPT, check_move, check_price
from aios_eccos.workload.notify import Notifier
from aios_eccos.workload.redis_ledger import RedisLedger
from aios_eccos.workload.server import Server
from aios_eccos.workload.store import PRICE_RANGE, REMEMBERED_S, Load, check_limits

log = logging.getLogger(__name__)

LEASE_TTL_S = 15.0
_WAKE = b""


class RedisWorkload(RedisLedger):
    """Slots, prices, inbox and decisions on one Redis.

    It starts no thread: `ResilientWorkload` renews the leases and listens for releases.

    Args:
        server: which Redis; `close` ends its use.
        namespace: kernels that share one share slots; letters, digits, `_`, `-` and `.`.
        lease_ttl_s: seconds after which a lease that nobody renews ends.
        decisions_kept: about how many decisions the stream keeps.
    """

    degraded = False

    def __init__(
        self,
        server: Server,
        *,
        namespace: str,
        lease_ttl_s: float = LEASE_TTL_S,
        decisions_kept: int = DECISIONS_KEPT,
    ) -> None:
        self.place = server.place
        self.kernel = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.kernels = 1
        self.notifier = Notifier()
        #: The limits that held at the last acquire, by slot.
        self.limits: dict[str, int] = {}
        self._redis = RedisClient(server, namespace)
        self._ttl_ms = math.ceil(lease_ttl_s * 1000)
        self._decisions_kept = decisions_kept
        self._lock = threading.Lock()
        self._held: set[Lease] = set()
        # What Redis may still count though nobody holds it, with the time when it ends by itself.
        self._owed: dict[Lease, float] = {}
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
            for lease in leases:
                self._owed.pop(lease, None)
        keys = self._redis.slot_keys(slots, "slots", "limits")
        args = [self._ttl_ms, self.kernel, len(slots), *(limits[slot] for slot in slots)]
        try:
            answer = self._redis.run(
                "acquire",
                [self._redis.key("kernels"), *keys],
                [*args, *_indexed(leases, slots)],
            )
        except WorkloadError:
            # It may have been granted on the server, with only the answer lost.
            self.forget([lease for lease in leases if lease not in self._held])
            raise
        self.kernels = answer[0]
        self.limits.update(zip(slots, answer[1:], strict=False))
        granted = [number == 1 for number in answer[1 + len(slots) :]]
        self.adopt([lease for lease, ok in zip(leases, granted, strict=True) if ok])
        return granted

    def release(self, leases: Sequence[Lease]) -> None:
        if self._closed or not leases:
            return
        self.forget(leases)
        slots = list(dict.fromkeys(lease.slot for lease in leases))
        self._redis.run(
            "release",
            self._redis.slot_keys(slots, "slots"),
            [self._redis.key("releases"), self.kernel, *_indexed(leases, slots)],
        )
        with self._lock:
            for lease in leases:
                self._owed.pop(lease, None)
        self.notifier.notify()

    def adopt(self, leases: Iterable[Lease]) -> None:
        """Hold leases from now on; the next `renew` tells the server."""
        with self._lock:
            for lease in leases:
                self._held.add(lease)
                self._owed.pop(lease, None)

    def forget(self, leases: Sequence[Lease]) -> None:
        """Hold leases no longer; the next `renew` tells the server."""
        end = time.monotonic() + self._ttl_ms / 1000
        with self._lock:
            self._held.difference_update(leases)
            self._owed.update((lease, end) for lease in leases)

    def renew(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._known = True
            self._owed = {lease: end for lease, end in self._owed.items() if end > now}
            held, owed = set(self._held), set(self._owed)
            declared = dict(self._declared)
        self._renew(held, owed, declared)
        with self._lock:
            for lease in owed - self._held:
                self._owed.pop(lease, None)
            released, retaken = held - self._held, owed & self._held
        if released or retaken:
            # Other threads released and acquired while the heartbeat was under way: it must not
            # have the last word on those.
            self._renew(retaken, released, {})

    def _renew(self, held: set[Lease], owed: set[Lease], declared: dict[str, int]) -> None:
        slots = list(dict.fromkeys([*declared, *(lease.slot for lease in (*held, *owed))]))
        self.kernels = self._redis.run(
            "renew",
            [self._redis.key("kernels"), *self._redis.slot_keys(slots, "slots", "limits")],
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
        keys = self._redis.slot_keys(limits, "slots", "limits", "cooling")
        answer = self._redis.run(
            "loads", [self._redis.key("kernels"), *keys], list(limits.values())
        )
        self.kernels = max(1, answer[0])
        triples = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
        return {
            slot: Load(in_use, limit, cooling_ms / 1000)
            for slot, (in_use, limit, cooling_ms) in zip(limits, triples, strict=True)
        }

    def cool_down(self, slot: str, seconds: float) -> None:
        keys = self._redis.slot_keys([slot], "cooling")
        self._redis.run("cool_down", keys, [math.ceil(seconds * 1000)])

    def on_release(self, callback: Callable[[], None]) -> None:
        self.notifier.add(callback)

    def read_prices(self) -> dict[str, float]:
        with self._redis.using("read prices") as client:
            found = client.hgetall(self._redis.key("prices"))
        prices = {}
        for name, value in found.items():
            try:
                price = prices[name.decode()] = float(value)
                check_price(price)
            except ValueError as error:
                raise WorkloadError(
                    f"Redis at {self.place} holds a damaged price {name.decode()!r} ({error}): "
                    f"delete the key {self._redis.key('prices')}"
                ) from error
        return prices

    def set_prices(self, prices: Mapping[str, float]) -> None:
        for value in prices.values():
            check_price(value)
        if not prices:
            return
        texts = {name: repr(float(value)) for name, value in prices.items()}
        with self._redis.using("set prices") as client:
            client.hset(self._redis.key("prices"), mapping=texts)

    def move_price(
        self,
        name: str,
        step: float,
        start: float,
        low: float = PRICE_RANGE[0],
        high: float = PRICE_RANGE[1],
        once: str = "",
    ) -> float:
        check_move(step, start, low, high)
        args = [name, *(repr(float(number)) for number in (step, start, low, high))]
        memory = self._redis.key(f"once:{name}:{once or uuid.uuid4().hex}")
        keys = [self._redis.key("prices"), memory]
        return float(self._redis.run("move_price", keys, [*args, REMEMBERED_S]))

    def push_inbox(self, payloads: Sequence[bytes]) -> None:
        if payloads:
            with self._redis.using("hand over records") as client:
                client.rpush(self._redis.key("inbox"), *payloads)

    def take_inbox(self, most: int) -> list[bytes]:
        if most < 1:
            return []
        keys = [self._redis.key("inbox"), self._redis.key("taken")]
        return list(self._redis.run("take_inbox", keys, [most]))

    def ack_inbox(self) -> None:
        with self._redis.using("drop taken records") as client:
            client.delete(self._redis.key("taken"))

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
        with self._lock:
            held, self._held = self._held, set()
            slots = list(dict.fromkeys([*self._declared, *(lease.slot for lease in held)]))
        self._redis.run(
            "leave",
            [self._redis.key("kernels"), *self._redis.slot_keys(slots, "slots", "limits")],
            [self.kernel, self._redis.key("releases"), *_indexed(held, slots)],
        )


def _indexed(leases: Iterable[Lease], slots: Sequence[str]) -> list[object]:
    """Flat pairs of each lease's 1-based slot number and its call id."""
    number = {slot: index for index, slot in enumerate(slots, start=1)}
    return [part for lease in leases for part in (number[lease.slot], lease.call_id)]
