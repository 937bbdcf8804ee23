"""How kernels on one Redis speak to each other, and who has been heard of since one asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aios_eccos.workload.client import RedisClient

#: The channel. On it a kernel's name says that it has released slots.
RELEASES = "releases"
#: Told to every ear beside that: look up; a model rests, or does no longer; with a name behind it:
#: that kernel comes back, and asks all others for a heartbeat.
WAKE, REST, WHO = b"", b"rest", b"?"


class Channel:
    """One kernel's end of it.

    A kernel that comes back to Redis asks after all others first: those that are without it still
    lend what Redis counts as free.

    Args:
        ttl_s: lifetime of leases, and of what Redis knows of a kernel.
        rested: called back when a model rests, or does no longer.
    """

    def __init__(
        self, redis: RedisClient, kernel: str, ttl_s: float, rested: Callable[[], None]
    ) -> None:
        self._redis, self._kernel, self._rested = redis, kernel, rested
        self._ttl_ms = 1000 * ttl_s
        #: When Redis drops this kernel by its heartbeat before it asked, ms.
        self._since: float | None = None

    @contextmanager
    def listen(self) -> Iterator[Callable[[float], bytes]]:
        """Hear of other kernels; yields a function that waits so many seconds for what one says."""
        with self._redis.using("listen for releases") as client, client.pubsub() as ear:
            ear.subscribe(self._redis.key(RELEASES))
            self._rested()  # as may have been said while nobody listened here
            mine = self._kernel.encode(), self._who

            def heard(seconds: float) -> bytes:
                message = ear.get_message(ignore_subscribe_messages=True, timeout=seconds)
                said = WAKE if message is None else bytes(message["data"])
                if said == REST:
                    self._rested()
                return WAKE if said in mine else said

            yield heard

    def wake(self) -> None:
        """Make every ear look up, this kernel's own too, without news of a release."""
        with self._redis.using("wake who listens") as client:
            client.publish(self._redis.key(RELEASES), WAKE)

    def ask(self) -> None:
        """Ask all others for a heartbeat."""
        self._since = None
        with self._redis.using("ask after the other kernels") as client:
            client.publish(self._redis.key(RELEASES), self._who)

    def all_heard(self) -> bool:
        """Whether each that lived then has been heard of since the heartbeat before it asked."""
        with self._redis.using("look for the other kernels") as client:
            found = dict(client.zrange(self._redis.key("kernels"), 0, -1, withscores=True))
        if self._since is None:  # by the clock of Redis
            self._since = found.get(self._kernel.encode(), 0.0)
        since = self._since
        return all(until >= since for until in found.values() if until > since - self._ttl_ms)

    @property
    def _who(self) -> bytes:
        return WHO + self._kernel.encode()
