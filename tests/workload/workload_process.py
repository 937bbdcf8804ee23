"""A process of its own that uses a workload store; `workload_servers.Helper` drives it.

    hold URL STATE NAMESPACE SLOT LIMIT TTL   take one slot, say so, wait for a line, close
    race URL STATE NAMESPACE SLOT LIMIT TTL   at a line, 50 threads try for one slot each
    wait URL STATE NAMESPACE SLOT LIMIT TTL   be refused, then wait for the release

Lines are said after each step; the numbers in them are what was granted.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

from aios_eccos.values import Lease
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.store import WorkloadStore


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hear() -> None:
    """Wait for a line; by turns, as a signal that comes just before a read does not end that."""
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    sys.stdin.readline()


def hold(store: WorkloadStore, slot: str, limits: dict[str, int]) -> None:
    say("held", int(store.acquire([Lease(f"hold-{os.getpid()}", slot)], limits)[0]))
    hear()


def race(store: WorkloadStore, slot: str, limits: dict[str, int]) -> None:
    leases = [Lease(f"race-{os.getpid()}-{n}", slot) for n in range(50)]
    go, granted = threading.Event(), []

    def try_one(lease: Lease) -> None:
        go.wait()
        granted.append(store.acquire([lease], limits)[0])

    threads = [threading.Thread(target=try_one, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    say("ready")
    hear()
    go.set()
    for thread in threads:
        thread.join()
    say("granted", sum(granted))
    hear()


def wait(store: WorkloadStore, slot: str, limits: dict[str, int]) -> None:
    rung = threading.Event()
    store.on_release(rung.set)
    lease = Lease(f"wait-{os.getpid()}", slot)
    while store.acquire([lease], limits)[0]:  # it must be full to wait for it
        store.release([lease])
        time.sleep(0.01)
    rung.clear()
    say("waiting")
    rung.wait(60)
    woken = time.time()
    say("woken", woken, int(store.acquire([lease], limits)[0]))
    hear()


def main() -> None:
    verb, url, state, namespace, slot, limit, ttl = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = open_workload(
        url,
        state_dir=Path(state),
        namespace=namespace,
        lease_ttl_s=float(ttl),
        timeout_s=5.0,
    )
    say("open")
    {"hold": hold, "race": race, "wait": wait}[verb](store, slot, {slot: int(limit)})
    store.close()


if __name__ == "__main__":
    main()
