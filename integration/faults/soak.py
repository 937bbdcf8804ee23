"""The most calls a second that the machine holds, and long runs in which nothing may grow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from aios_eccos.history.open import open_embedder, open_history
from aios_eccos.history.store import Embeddings
from aios_eccos.locate import state_dir_of
from aios_eccos.records import Outcome, Record
from integration.faults.flow import Flow, Sent, p99_s
from integration.faults.ground import MODEL_S, SLOTS
from integration.faults.many import Case, keep
from integration.kernel import Kernel, within
from integration.load import Client, Reply, percentile, rate

#: A closed loop of so many agents, each for so many seconds.
AGENTS, CLOSED_S = 64, 8.0
#: Shares of the closed loop's rate that an open flow is tried at, each for so many seconds.
SHARES, OPEN_S = (0.4, 0.6, 0.8, 1.0), 6.0
#: A rate is held where 99 of 100 calls wait no longer, seconds.
HELD_S = 0.5
#: A soak's calls a second, seconds until it counts, and between two looks.
SOAK_PER_S, WARM_S, LOOK_S = 32.0, 60.0, 5.0
#: Growth that counts as flat, and of threads and files so many more, as calls come and go.
FLAT, COME_AND_GO = 0.05, 10
RECORDS, AT_ONCE = 100_000, 2_000
#: Decisions that Redis keeps: about so many.
KEPT, SLACK = 10_000, 200


def highest_rate(cases: list[Case], kernel: Kernel) -> float:
    """Agents that ask as soon as they are answered, then calls at even spaces of time."""
    _allow(kernel, dict.fromkeys(MODEL_S, AGENTS))  # the machine is to be what limits
    replies = asyncio.run(_closed(kernel.url))
    most = rate(replies)
    waits = [reply.seconds - MODEL_S.get(reply.model, 0.0) for reply in replies]
    bad = sum(not reply.good for reply in replies)
    figures = f"{most:.0f} calls/s, p99 wait {percentile(waits, 0.99):.2f} s, {bad} errors"
    keep(cases, Case(f"closed loop, {AGENTS} agents, routed", figures, not bad))
    held, tried = 0.0, []
    for share in SHARES:
        flow = Flow(f"open {share}", [kernel.url], [*MODEL_S], share * most)
        flow.start()
        time.sleep(OPEN_S)
        sent = flow.stop()
        p99 = p99_s(sent, MODEL_S)
        tried.append(f"{share * most:.0f}/s: {p99:.2f} s")
        if p99 > HELD_S or any(call.lost for call in sent):
            break
        held = share * most
    figures = f"{held:.0f} calls/s held (p99 wait at most {HELD_S} s); {', '.join(tried)}"
    keep(cases, Case("open loop, even spaces of time, routed", figures, held > 0))
    _allow(kernel, SLOTS)
    return held


def _allow(kernel: Kernel, slots: Mapping[str, int]) -> None:
    """Change the models' slots by a refresh."""
    assert kernel.config is not None
    for entry in kernel.config["llms"]["models"]:
        entry["concurrency"] = slots[entry["name"]]
    kernel.write(kernel.config)
    kernel.post("/core/refresh")


async def _closed(url: str) -> list[Reply]:
    begun = time.monotonic()

    async def one(number: int) -> list[Reply]:
        client, replies = Client(url, f"agent{number}", begun), list[Reply]()
        while time.monotonic() < begun + CLOSED_S:
            replies.append(await client.ask(f"agent {number} asks {len(replies)}"))
        client.close()
        return replies

    return [reply for part in await asyncio.gather(*map(one, range(AGENTS))) for reply in part]


@dataclass(frozen=True, slots=True)
class Look:
    """What a process uses at a moment."""

    at: float
    memory_mb: float
    threads: int
    files: int
    sockets: int

    @classmethod
    def at_process(cls, pid: int) -> Look:
        folder, links = Path(f"/proc/{pid}"), []
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(link.readlink()))
        return cls(
            time.monotonic(),
            int(status["VmRSS"].split()[0]) / 1024,
            int(status["Threads"]),
            len(links),
            sum(link.startswith("socket:") for link in links),
        )


def pid_of(kernel: Kernel) -> int:
    assert kernel.process is not None
    return kernel.process.pid


def steady(url: str, seconds: float) -> list[Sent]:
    """A soak's flow for so long."""
    flow = Flow("steady", [url], [*MODEL_S], SOAK_PER_S)
    flow.start()
    time.sleep(seconds)
    return flow.stop()


def soak(cases: list[Case], kernel: Kernel, state: Path, minutes: float) -> None:
    """A steady flow for long: what the kernel uses at the beginning and at the end."""
    flow = Flow("soak", [kernel.url], [*MODEL_S], SOAK_PER_S)
    flow.start()
    time.sleep(min(WARM_S, 12 * minutes))
    looks, end = [], time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        looks.append(Look.at_process(pid_of(kernel)))
        time.sleep(LOOK_S)
    sent = flow.stop()
    lost, errors = sum(call.lost for call in sent), sum(call.error is not None for call in sent)
    figures = (
        f"{len(sent):,} calls, {lost} lost, {errors} errors, p99 wait {p99_s(sent, MODEL_S):.2f} s"
    )
    what = f"soak, {minutes:g} minutes at {SOAK_PER_S:.0f} calls/s"
    keep(cases, Case(what, figures, not lost and not errors))
    for name in ("memory_mb", "threads", "files", "sockets"):
        keep(cases, _growth(name, [float(getattr(look, name)) for look in looks]))
    keep(cases, _log(state, len(sent)))


def _growth(name: str, values: Sequence[float]) -> Case:
    """The last third beside the first; what a flow has open at a moment varies, so medians."""
    third = max(len(values) // 3, 1)
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    grown = last / first - 1
    figures = f"{first:,.0f} at first, {last:,.0f} at last ({100 * grown:+.1f} %)"
    few = 0 if name == "memory_mb" else COME_AND_GO
    flat = last <= (1 + FLAT) * first + few
    return Case(f"soak: {name.replace('_mb', ', MB')}", figures, flat)


def _log(state: Path, calls: int) -> Case:
    """How long the log of decisions is."""
    socket = (state / "redis" / "socket").read_text()
    with Redis(unix_socket_path=socket, protocol=2) as client:
        length = client.xlen("eccos:{default}:v1:decisions")
        used = client.info("memory")["used_memory"] / 2**20
    figures = f"{length:,} decisions kept after {calls:,} calls; Redis holds {used:.1f} MB"
    return Case("the log of decisions", figures, length <= KEPT + SLACK)


def fill_large(kernel: Kernel, state: Path) -> tuple[Path, float]:
    """Put 100,000 records into a kernel's history; its folder, and the seconds that it took."""
    begun, embedder = time.monotonic(), open_embedder()
    random = np.random.default_rng(0)
    os.environ["AIOS_ECCOS_STATE"] = str(state)
    folder = state_dir_of(kernel.home)
    store = open_history("embedded", folder, embedder)
    for first in range(0, RECORDS, AT_ONCE):
        vectors: Embeddings = random.standard_normal((AT_ONCE, embedder.dimension), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = range(first, first + AT_ONCE)
        right = random.random((AT_ONCE, 2)) < (0.6, 0.9)
        records = [
            Record(
                id=f"r{number}",
                text="",
                input_tokens=10,
                outcomes=(Outcome("small", float(row[0]), 20), Outcome("large", float(row[1]), 20)),
            )
            for number, row in zip(numbers, right, strict=True)
        ]
        store.add(records, vectors)
    store.close()
    return folder, time.monotonic() - begun


def large(cases: list[Case], kernel: Kernel, before_mb: float, took_s: float) -> None:
    """Memory and decision time of a kernel whose history has 100,000 records."""
    sent = steady(kernel.url, 20.0)
    decided: list[float] = []

    def kept() -> bool:
        found: Any = kernel.get("/eccos/decisions?n=500")["decisions"]
        decided[:] = [1000 * float(each["decision_s"]) for each in found]
        return len(decided) >= min(500, len(sent))

    within(5.0, kept)
    memory = Look.at_process(pid_of(kernel)).memory_mb
    figures = (
        f"{memory:,.0f} MB ({memory - before_mb:+,.0f} MB beside 300 records); a decision "
        f"p50 {percentile(decided, 0.5):.1f} ms, p99 {percentile(decided, 0.99):.1f} ms at "
        f"{SOAK_PER_S:.0f} calls/s; filled in {took_s:.0f} s"
    )
    keep(cases, Case("100,000 records", figures, memory - before_mb < 1200))
