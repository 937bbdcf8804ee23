"""Keeps lending while Redis is away: each kernel lends by itself what no other kernel can have."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aios_eccos.errors import WorkloadError
from aios_eccos.values import Cap, Lease, Rates, Used
from aios_eccos.workload.backlog import Backlog
from aios_eccos.workload.client import Forgotten
from aios_eccos.workload.heartbeat import Heartbeat
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.meters import part
from aios_eccos.workload.periods import PeriodSums
from aios_eccos.workload.proxies import Proxy
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.store import NO_RATES, PRICE_RANGE, Declares, Ends, Load

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
#: A server that comes and goes is warned of once in so many seconds.
WARN_AGAIN_S = 60.0
#: A Redis that is lost for longer is lost to all kernels, as far as one can tell, seconds.
GRACE_S = 1.0
#: Lifetimes of leases for which Redis may lend nothing, though it hears heartbeats.
LIFETIMES = 2
#: Writes that are kept for Redis, beside those that have a name: done twice, they change no more.
KEPT = ("set_prices", "set_aside", "settle")


class ResilientWorkload(Proxy):
    """A `RedisWorkload` that never stops lending.

    From the first call that Redis fails until it answers again, this kernel lends from memory:

    - all of each limit, if it knew of no other kernel for a minute;
    - else, until the leases of this kernel would end in Redis, as many slots as Redis counts for
      it: no other kernel can have those; after `GRACE_S` also its share of those that were free;
    - afterwards, or after twice that time where Redis comes and goes or forgets all the while, its
      share of each limit. The shares of all kernels make up the limit.

    A background thread looks for Redis; when it answers, what was lent meanwhile is added there,
    and writes are repeated under their names. It is used again once all other kernels have been
    heard of, as they may still lend their shares, or after a heartbeat's period. A Redis that came
    back empty, or has forgotten this kernel, is used again only when as many kernels as before have
    told it what they hold, or after the leases' lifetime.

    Args:
        lost: why Redis cannot be reached yet, if so.
        heartbeat_s: between two renewals; a third of the leases' lifetime or less.
    """

    def __init__(
        self,
        shared: RedisWorkload,
        *,
        lost: WorkloadError | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._shared = shared
        self._local = MemoryWorkload(shared.leases, shared.notifier, self._left)
        self._backlog = Backlog()
        # Guards `degraded` and what is lent locally; never held while Redis is asked.
        self._switch = threading.Lock()
        self.degraded = self._closed = False
        self._warned, self._heartbeat_s = -math.inf, heartbeat_s
        self._why: WorkloadError | None = None
        #: When Redis was lost and came back, and since when it has failed to lend.
        self._lost_at, self._back_at, self._failing_since = -math.inf, -math.inf, math.inf
        # Kernels known when Redis was lost, this one's place, and how long to wait for the others.
        self._before, self._rank, self._wait_until = 1, 0, math.inf
        #: Since the loss Redis has heard of this kernel, and of a question after the others; Redis
        #: has yet to hear what kernels hold.
        self._heard = self._asked = self._forgotten = False
        self._heartbeat = Heartbeat(
            shared, period_s=heartbeat_s, lost=self._lose, back=self._return
        )
        if lost is not None:
            self._lose(lost)
        self._heartbeat.start()

    @property
    def kernels(self) -> int:
        return max(1, self._shared.kernels)  # this one, whether Redis knows of it or not

    def acquire(
        self,
        leases: Sequence[Lease],
        limits: Mapping[str, int],
        rates: Mapping[str, Rates] = NO_RATES,
    ) -> list[bool]:
        while True:
            self._check_open()
            if not self.degraded:
                try:
                    granted = self._shared.acquire(leases, limits, rates)
                except WorkloadError as error:
                    failed_at = time.monotonic()
                    self._lose(error)
                    self._failing_since = min(self._failing_since, failed_at)
                else:
                    self._failing_since = math.inf
                    return granted
            with self._switch:
                if self.degraded:
                    shares = self._shares(limits, rates)
                    granted = self._local.acquire(leases, self._caps(limits), shares)
                    self._shared.declare(leases, limits, rates)
                    return granted

    def recall(self, declared: Declares, calls: int) -> dict[str, Load] | None:
        return None if self.degraded else self._shared.recall(declared, calls)

    def settle(self, used: Sequence[tuple[Lease, Used]]) -> None:
        self.ask("settle", (used,), {})
        if not self.degraded:
            self._backlog.note_settled(used)

    def release(self, leases: Sequence[Lease]) -> None:
        if not self.degraded and not self._closed:
            try:
                self._shared.release(leases)
            except WorkloadError as error:
                self._lose(error)
            else:
                return
        self._local.release(leases)

    def renew(self) -> None:
        self.ask("renew", (), {})

    def cool_down(self, slot: str, seconds: float, *, closed: bool = False) -> None:
        self._local.cool_down(slot, seconds, closed=closed)
        self.ask("cool_down", (slot, seconds), {"closed": closed})

    def on_release(self, callback: Callable[[], None]) -> None:
        self._shared.on_release(callback)

    def warnings(self) -> list[str]:
        why = [str(self._why)] if self.degraded else []
        return [*why, *self._heartbeat.warnings]

    def read_prices(self, age_s: float = 0.0) -> dict[str, float]:
        prices = super().read_prices(age_s)
        self._local.put_prices(prices)
        return prices

    def set_prices(self, prices: Mapping[str, float]) -> None:
        self._local.set_prices(prices)
        super().set_prices(prices)

    def move_price(
        self, name: str, step: float, start: float, ends: Ends = PRICE_RANGE, *, once: str = ""
    ) -> float:
        # A Redis that has lost the price goes on from where it stood here.
        before = self._local.read_prices().get(name, start)
        price = super().move_price(name, step, before, ends, once=once)
        self._local.set_prices({name: price})
        return price

    def push_inbox(self, payloads: Sequence[bytes], *, once: str = "") -> None:
        # Kept in memory, the messages would reach nobody; whoever hands them over must know.
        self._shared.push_inbox(payloads, once=once)

    def add_sums(self, additions: Sequence[PeriodSums], *, once: str = "") -> None:
        # A name was given by an observer, whose own connection may have done it already.
        self.ask("add_sums", (additions,), {"once": once or uuid.uuid4().hex}, bool(once))

    def ask(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tried: bool = False
    ) -> Any:
        """Ask Redis, or memory if Redis is away or fails just now; then keep what is written."""
        self._check_open()
        if not self.degraded:
            tried = True
            try:
                return getattr(self._shared, name)(*args, **kwargs)
            except WorkloadError as error:
                self._lose(error)
        if name == "loads":
            limits, rates = args[0], kwargs.pop("rates", args[1] if args[1:] else NO_RATES)
            args = self._caps(limits), self._shares(limits, rates)
        answer = getattr(self._local, name)(*args, **kwargs)
        if "once" in kwargs or name in KEPT:
            self._backlog.keep((name, args, kwargs), tried=tried)
            if not self.degraded:  # Redis came back meanwhile, and was told what was kept before
                self._heartbeat.doubt()
        return answer

    def close(self) -> None:
        with self._switch:
            closed, self._closed = self._closed, True
        if closed:
            return
        self._heartbeat.stop()
        self._shared.close()
        self._local.close()
        atexit.unregister(self.close)

    def _check_open(self) -> None:
        if self._closed:
            raise WorkloadError("the workload store is closed")

    def _caps(self, limits: Mapping[str, int]) -> dict[str, int]:
        """How many slots this kernel lends by itself, of the limits that held last."""
        known, leases, kernels = self._shared.limits, self._shared.leases, self._before
        rank, lost_at, now = self._rank, self._lost_at, time.monotonic()
        smallest = {slot: min(limit, known.get(slot, limit)) for slot, limit in limits.items()}
        if kernels == 1:
            return smallest
        ends = min(lost_at, self._failing_since) + LIFETIMES * leases.ttl_s
        if now >= (ends if self._forgotten else min(leases.counted_until, ends)):
            return {slot: part(limit, kernels, rank) for slot, limit in smallest.items()}
        counted = {slot: min(limit, leases.credit(slot)) for slot, limit in smallest.items()}
        if self._forgotten or self._heard or now < lost_at + GRACE_S:
            return counted
        free = self._shared.taken.free
        return {
            slot: counted[slot] + part(free(slot, limit, lost_at), kernels, rank)
            for slot, limit in smallest.items()
        }

    def _shares(self, limits: Mapping[str, int], rates: Mapping[str, Rates]) -> dict[str, Rates]:
        """What this kernel lends by itself of each slot's rates."""
        share, among = self._shared.taken.share, (self._before, self._rank)
        return {slot: share(slot, rates.get(slot, Rates()), *among) for slot in limits}

    def _left(self, cap: Cap) -> int:
        """What this kernel lends by itself of a cap, billionths of a dollar."""
        return self._shared.taken.left(cap, self._before, self._rank)

    def _lose(self, error: WorkloadError) -> None:
        with self._switch:
            # What Redis has forgotten, it has not been told because it fails in another way now.
            self._forgotten = isinstance(error, Forgotten) or (self.degraded and self._forgotten)
            self._why, self._wait_until, self._asked = error, math.inf, False
            if self.degraded or self._closed:
                return
            self.degraded, self._heard, self._lost_at = True, False, time.monotonic()
            if self._lost_at > self._back_at + self._shared.leases.ttl_s:
                self._failing_since = math.inf
            self._before = max(1, self._shared.taken.kernels.most)
            self._rank = self._shared.taken.ranks.most
            self._local.meters.forget()
        self._backlog.doubt_settled()
        level = logging.WARNING if self._lost_at - self._warned >= WARN_AGAIN_S else logging.DEBUG
        self._warned = self._lost_at
        log.log(level, "%s; lending from memory what no other kernel can have", error)
        self._heartbeat.doubt()

    def _return(self) -> bool:
        """Redis answered a heartbeat: tell it what it missed, then lean on it again.

        False while other kernels are waited for.
        """
        if self.degraded and self._others_missing():
            self._heartbeat.doubt()
            return False
        self._backlog.replay(self._shared)
        with self._switch:
            if not self.degraded:
                return True
            self.degraded, self._back_at = False, time.monotonic()
        # What was lent and written here since the heartbeat and the replay.
        self._shared.renew()
        for slot, (seconds, closed) in self._local.cooling().items():
            self._shared.cool_down(slot, seconds, closed=closed)
        self._backlog.replay(self._shared)
        self._local.forget_ledger()
        self._shared.notifier.notify()
        log.warning("Redis at %s answers again; limits are shared again", self._shared.place)
        return True

    def _others_missing(self) -> bool:
        """Whether kernels known before have yet to tell Redis what they hold.

        They may be lending without it still. Where it has forgotten who its kernels are, they are
        counted.
        """
        now, self._heard = time.monotonic(), True
        longest_s = self._shared.leases.ttl_s if self._forgotten else self._heartbeat_s
        self._wait_until = min(self._wait_until, now + longest_s)
        try:
            if not self._asked:
                self._shared.channel.ask()
                self._asked = True
            heard = self._shared.channel.all_heard()
        except WorkloadError as error:  # a slow Redis may hear the next heartbeat all the same
            log.debug("other kernels are not looked for: %s", error)
            heard = False
        missing = self._shared.kernels < self._before if self._forgotten else not heard
        return missing and now < self._wait_until
