"""Many kernels: processes on one Redis, a Cluster and a Sentinel group, killed ones, one Chroma."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

from integration.contract import PROCESSES, Shared, contract, redis_folder
from integration.faults.ground import Ground
from integration.faults.servers import RedisServer, cluster, sentinels
from integration.kernel import Kernel, within

#: What the lease of a dead kernel may last: its default lifetime, and a look.
LEASE_S, LOOK_S = 15.0, 1.0
#: Of a limit, while Redis is away: docs/kernel.md.
STATED = 2 - 1 / PROCESSES
#: A master dies so long after the calls have begun.
DIES_S = 4.0


@dataclass(frozen=True, slots=True)
class Case:
    """What was tried, what came of it, and whether that is as promised."""

    what: str
    figures: str
    ok: bool


def keep(cases: list[Case], case: Case) -> None:
    """Keep and print a case."""
    cases.append(case)
    print(
        f"{'ok  ' if case.ok else 'FAIL'} {case.what}: {case.figures}", file=sys.stderr, flush=True
    )


def summed(what: str, rows: Sequence[dict[str, Any]], failover: bool = False) -> Case:
    """The rows of one contract: how many calls were served, and the worst of each kind of limit.

    `failover`: the stated bound holds, as kernels lend their shares beside what others keep.
    """
    most = STATED if failover else 1.0
    limits = [row for row in rows if "limit" in row]
    over = [row for row in limits if row["over"]]
    worse = [row for row in over if row["over"] > (most - 1) * row["limit"]]
    others = [row["case"] for row in rows if not row["ok"] and "limit" not in row]
    served = next(row for row in rows if "served" in row)
    peaks = [row for row in limits if row["case"].startswith("slots")]
    figures = f"{served['served']:,} calls served; most at once: {_shown(peaks)}"
    figures += f"; over: {_shown(over) or 'nothing'}"
    if failover and over:
        figures += f" (stated: at most {STATED:g} times a limit while Redis is away)"
    if others and not failover:
        figures += f"; {', '.join(others)}"
    return Case(what, figures, served["served"] > 0 and not worse and (failover or not others))


def _shown(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(
        f"{row['case'].removeprefix('slots ')} {row['counted']:g} of {row['limit']:g}"
        for row in rows
    )


def on_one(cases: list[Case], seconds: float) -> None:
    """4 processes of 16 agents on one Redis."""
    with redis_folder() as shared:
        rows = contract(seconds, shared)
    keep(cases, summed(f"4 processes x 16 agents, one Redis, {seconds:.0f} s", rows))


def on_cluster(cases: list[Case], folder: Path, seconds: float) -> None:
    """The same on a Cluster of three masters, of which the one that has the keys is killed."""
    with cluster(folder) as nodes:
        hosts = ",".join(node.address for node in nodes[:3])
        shared = Shared(f"redis+cluster://{hosts}", folder, None)
        rows = contract(seconds, shared, lambda: _later(nodes[_owner(nodes)]))
        keep(cases, summed("the same, Cluster of 3, the keys' master killed", rows, True))


def _owner(nodes: Sequence[RedisServer]) -> int:
    """Which of the masters has the keys of the namespace."""
    within(10.0, lambda: any(int(node.ask("DBSIZE")) for node in nodes[:3]))
    return max(range(3), key=lambda n: int(nodes[n].ask("DBSIZE")))


def on_sentinels(cases: list[Case], folder: Path, seconds: float) -> None:
    """The same on a master that three Sentinels watch, which is killed; its replica takes over."""
    with sentinels(folder) as (master, replica, url):
        rows = contract(seconds, Shared(url, folder, None), lambda: _later(master))
        with replica.client() as client:
            took_over = client.info("replication")["role"] == "master"
        case = summed("the same, Sentinel group, master killed", rows, True)
        keep(cases, Case(case.what, case.figures, case.ok and took_over))


def _later(server: RedisServer) -> None:
    time.sleep(DIES_S)
    server.kill()


def killed(cases: list[Case], ground: Ground) -> None:
    """One of two kernels dies with calls in flight: its slots come back to the other."""
    other, dies = ground.kernels
    threads = [
        threading.Thread(target=_asks, args=(dies, f"[[delay 60]] {n}"), daemon=True)
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    within(10.0, lambda: _in_use(other) == len(threads))
    held, begun = _in_use(other), time.monotonic()
    dies.stop(SIGKILL)
    back = within(LEASE_S + 10, lambda: not _in_use(other))
    took = time.monotonic() - begun
    figures = f"{held} slots held, back after {took:.1f} s (lease {LEASE_S:.0f} s)"
    ok = held == len(threads) and back and took <= LEASE_S + LOOK_S
    keep(cases, Case("a kernel killed (SIGKILL) with calls in flight", figures, ok))


def _asks(kernel: Kernel, text: str) -> None:
    with contextlib.suppress(OSError):  # the kernel is killed
        kernel.ask(text, llms=["large"])


def _in_use(kernel: Kernel) -> int:
    return sum(model["in_use"] for model in kernel.get("/eccos/status")["models"])


def one_history(cases: list[Case], ground: Ground) -> None:
    """What one kernel's calls have taught is seen by the other, over one Chroma server."""

    def counts() -> list[int]:
        return [kernel.get("/eccos/status")["edge"]["history"] or 0 for kernel in ground.kernels]

    before = counts()
    for number in range(10):
        ground.kernels[0].ask(f"taught {number}?", llms=["small"])
    seen = within(20.0, lambda: min(counts()) >= max(before) + 10)
    figures = f"{max(before)} records, 10 more by one kernel, both see {counts()}"
    keep(cases, Case("2 kernels, one Chroma server", figures, seen))
