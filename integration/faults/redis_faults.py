"""Faults of the Redis that two kernels share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from integration.faults.ground import Ground
from integration.faults.servers import RedisServer, SlowProxy, running, step_clock

#: Keys of another user of the same Redis, and bytes of each, that use up its memory.
FILLING, FILL_BYTES = 20_000, 1_000
AWAY_S, STOPPED_S = 8.0, 10.0
HOUR_S = 3600


@contextmanager
def shared_redis(folder: Path) -> Iterator[tuple[RedisServer, SlowProxy]]:
    """A Redis that keeps its data, behind a proxy that may slow it down."""
    redis = RedisServer(folder, "--appendonly", "yes", "--save", "", clock=True)
    with running(redis):
        yield redis, SlowProxy(redis.port)


def faults(ground: Ground, redis: RedisServer, proxy: SlowProxy) -> dict[str, Callable[[], object]]:
    """Every fault by its name; each leaves Redis as it was."""

    def emptied() -> None:
        redis.kill()
        redis.empty()
        redis.start()

    def slow(delay_s: float) -> Callable[[], object]:
        def set_to(seconds: float) -> None:
            proxy.delay_s = seconds

        name = f"Redis takes {delay_s * 1000:.0f} ms a reply"
        return lambda: ground.fault(name, lambda: set_to(delay_s), lambda: set_to(0.0))

    def full(policy: str) -> None:
        with redis.client() as client:
            used = int(client.info("memory")["used_memory"])
        redis.ask("CONFIG", "SET", "maxmemory-policy", policy)
        redis.ask("CONFIG", "SET", "maxmemory", used + 2_000_000)
        with redis.client() as client, contextlib.suppress(Exception):
            for number in range(FILLING):
                client.set(f"other:{number}", "x" * FILL_BYTES)

    def roomy() -> None:
        redis.ask("CONFIG", "SET", "maxmemory", 0)
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        with redis.client() as client:
            for first in range(0, FILLING, 1000):
                client.delete(*(f"other:{n}" for n in range(first, first + 1000)))

    return {
        "killed": lambda: ground.fault(
            "Redis killed, back after 8 s", redis.kill, redis.start, lasts_s=AWAY_S
        ),
        "emptied": lambda: ground.fault("Redis killed, restarted empty", emptied, lasts_s=1.0),
        "stopped": lambda: ground.fault(
            "Redis stopped for 10 s",
            lambda: redis.signal(SIGSTOP),
            lambda: redis.signal(SIGCONT),
            lasts_s=STOPPED_S,
        ),
        "slow50": slow(0.05),
        "slow300": slow(0.3),
        "evicting": lambda: ground.fault(
            "Redis evicts (allkeys-lru, full)", lambda: full("allkeys-lru"), roomy
        ),
        "oom": lambda: ground.fault(
            "Redis out of memory (noeviction)", lambda: full("noeviction"), roomy
        ),
        "clock": lambda: ground.fault(
            "Redis' clock stepped an hour ahead, then back",
            lambda: step_clock(redis.folder, HOUR_S),
            lambda: step_clock(redis.folder, 0),
        ),
    }


def own_killed(ground: Ground, state: Path) -> None:
    """The Redis that a kernel has started by itself is killed; the kernel starts it again."""
    pid = state / "redis" / "redis.pid"
    ground.fault("own Redis killed", lambda: os.kill(int(pid.read_text()), SIGKILL), lasts_s=1.0)
