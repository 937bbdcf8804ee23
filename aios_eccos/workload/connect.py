"""Opens the workload store that the setting `redis` names."""

from __future__ import annotations

import atexit
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aios_eccos.errors import ConfigError, WorkloadError
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.store import WorkloadStore

if TYPE_CHECKING:
    from aios_eccos.workload.server import Server

#: No call waits longer for a Redis that does not answer.
CALL_TIMEOUT_S = 0.05
#: What a look-up from a shell waits.
LOOK_TIMEOUT_S = 1.0


def open_workload(
    redis: str,
    *,
    state_dir: Path,
    namespace: str = "default",
    member: bool = True,
    required: bool = True,
    lease_ttl_s: float = 15.0,
    heartbeat_s: float | None = None,
    longest_s: float = math.inf,
    timeout_s: float | None = None,
) -> WorkloadStore:
    """Open the store that `redis` names.

    Args:
        redis: "embedded", "memory", or a URL: redis://, rediss:// (TLS), unix:///path,
            redis+sentinel://host:port,.../service[/db] or redis+cluster://host:port,... (the last
            two with rediss too). Its query sets redis-py's options, e.g. `?socket_timeout=0.2`.
        state_dir: the embedded server keeps its data in this folder's `redis`.
        namespace: kernels that share one share limits; letters, digits, `_`, `-` and `.`.
        member: False for a look-up such as `status`: no heartbeat, no fallback, not a kernel.
        required: False: start on local limits when the server cannot be reached yet.
        lease_ttl_s: seconds after which the leases of a dead kernel come back.
        heartbeat_s: seconds between two renewals; by default a third of `lease_ttl_s`.
        longest_s: seconds that the longest call takes; a slot that is held longer comes back.
        timeout_s: longest wait for Redis; by default 0.05 s, for a look-up 1 s.

    Raises:
        ConfigError: `redis` or `namespace` is malformed.
        WorkloadError: the server refuses the password, is used by a later version or, if
            `required`, cannot be reached.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", namespace):
        raise ConfigError(f"namespace {namespace!r}: only letters, digits, '_', '-' and '.'")
    if redis == "memory":
        return MemoryWorkload()
    # Only what is used is imported: redis-py takes 0.15 s, and fcntl does not exist on Windows.
    from aios_eccos.workload.client import OtherFormat, RefusedPassword
    from aios_eccos.workload.fallback import ResilientWorkload
    from aios_eccos.workload.redis import RedisWorkload

    server = _server(redis, state_dir, timeout_s or (CALL_TIMEOUT_S if member else LOOK_TIMEOUT_S))
    shared = RedisWorkload(
        server, namespace=namespace, lease_ttl_s=lease_ttl_s, longest_s=longest_s
    )
    lost: WorkloadError | None = None
    try:
        shared.check()
    except WorkloadError as error:
        if required or isinstance(error, RefusedPassword | OtherFormat):
            shared.close()
            raise
        lost = error
    except Exception as error:  # noqa: BLE001 - it raises whatever an option brings about
        shared.close()
        says = server.hide(f"{type(error).__name__}: {error}")
        raise ConfigError(f"redis {server.place!r} cannot be used: {says}") from None
    store: WorkloadStore = shared
    if member:
        store = ResilientWorkload(shared, lost=lost, heartbeat_s=heartbeat_s or lease_ttl_s / 3)
    atexit.register(store.close)
    return store


def _server(redis: str, state_dir: Path, timeout_s: float) -> Server:
    from aios_eccos.workload.server import Server

    if redis != "embedded":
        return Server(redis, timeout_s)
    if sys.platform == "win32":
        raise ConfigError("redis: embedded does not exist on Windows; set the URL of a server")
    from aios_eccos.workload.embedded import EmbeddedServer

    return EmbeddedServer(state_dir, timeout_s)
