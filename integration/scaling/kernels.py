"""Kernels without AIOS: engines in processes of their own, whose models answer at once.

Embedding and the trained head cost the same at every size, and are left out: a text's vector is
drawn by its hash. Forecasts come from neighbors.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from aios_eccos.config import parse_settings
from aios_eccos.history.embed.embedding import BackgroundEmbedder
from aios_eccos.history.open import open_history
from aios_eccos.history.store import Embeddings
from aios_eccos.lab.processes import THREADS, environment
from aios_eccos.locate import Config, Location
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Model, Query

#: Of vectors, and groups that records fall into.
DIMENSION, GROUPS = 384, 50
#: Records that are stored at once, and seconds that anything may take.
PART, PATIENCE_S = 2000, 600.0
#: Seconds that a kernel without calls is watched.
IDLE_S = 6.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is varied.

    Attributes:
        redis, history: as in the configuration; `{number}` in the namespace is the kernel's.
        nodes: addresses of the Redis servers, to be asked what they did; process: of another
            server that is watched.
        batch: calls at once; calls: in all, of each kernel.
        filled: whether the history is filled already, by another kernel.
        idle: whether kernels are also watched without calls.
    """

    redis: str
    nodes: tuple[str, ...]
    history: str = "embedded"
    namespace: str = "scaling"
    records: int = 2000
    models: int = 10
    batch: int = 1
    calls: int = 256
    filled: bool = False
    idle: bool = False
    process: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What Redis servers did: requests read, commands (those of scripts too), seconds of processor,
    bytes sent and received, bytes of memory; and seconds of processor of another process.
    """

    requests: float
    commands: float
    seconds: float
    traffic: float
    memory: float
    process: float

    @classmethod
    def until_now(cls, case: Case) -> Spent:
        """Since the servers began."""
        total = np.zeros(5)
        for node in case.nodes:
            with Redis.from_url(f"redis://{node}/0") as client:
                told: Any = client.info()
            total += [
                told["total_reads_processed"],
                told["total_commands_processed"],
                told["used_cpu_user"] + told["used_cpu_sys"],
                told["total_net_input_bytes"] + told["total_net_output_bytes"],
                told["used_memory"],
            ]
        process = 0.0 if case.process is None else _seconds(case.process)
        return cls(*map(float, [*total, process]))

    def since(self, before: Spent) -> Spent:
        pairs = zip(astuple(self), astuple(before), strict=True)
        return Spent(*(now - then for now, then in pairs))


@dataclass(frozen=True, slots=True)
class Took:
    """What one kernel took: milliseconds for a query or call, of the clock and of processors.

    `worst`: the call's 99th percentile; `memory`: megabytes that history and engine added;
    `served`: calls that were answered, from `begun` to `ended` (seconds of one clock). `redis`:
    what all kernels' calls cost the servers, `idle`: what `IDLE_S` without calls did (of one kernel
    alone, where several run).
    """

    decision: float
    decision_cpu: float
    call: float
    call_cpu: float
    worst: float
    memory: float
    served: int
    begun: float
    ended: float
    redis: Spent | None = None
    idle: Spent | None = None


class Drawn:
    """An embedder that takes no time; texts of one group lie near each other."""

    name, dimension, identity = "drawn", DIMENSION, "drawn"

    def embed(self, texts: Sequence[str]) -> Embeddings:
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) for text in texts]
        return vectors(seeds)

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        return self.embed(texts), np.zeros((len(texts), 4 * DIMENSION), dtype=np.float32)


def vectors(seeds: Sequence[int]) -> Embeddings:
    """(n, d) unit vectors, each around the middle of its group."""
    middles = np.random.default_rng(0).normal(size=(GROUPS, DIMENSION))
    rows = [
        middles[seed % GROUPS] + np.random.default_rng(seed).normal(size=DIMENSION)
        for seed in seeds
    ]
    found = np.array(rows, dtype=np.float32).reshape(len(seeds), DIMENSION)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def pool(count: int) -> list[Model]:
    """Models, the later the better and the dearer."""
    return [
        Model(f"m{number}", "", 100_000, 1e-8 * 1.05**number, 4e-8 * 1.05**number)
        for number in range(count)
    ]


def records(first: int, count: int, models: int) -> list[Record]:
    """Records on which the later models do better."""
    rng = np.random.default_rng(first)
    right = rng.uniform(size=(count, models)) < np.linspace(0.5, 0.9, models)
    tokens = rng.integers(20, 400, size=(count, models))
    return [
        Record(
            f"r{first + row}",
            f"question {first + row}",
            30,
            tuple(
                Outcome(f"m{j}", float(right[row, j]), int(tokens[row, j])) for j in range(models)
            ),
        )
        for row in range(count)
    ]


def run(case: Case, kernels: int = 1) -> list[Took]:
    """Serve the case's calls in so many kernels at once; what each took."""
    context = multiprocessing.get_context("spawn")
    told, gate = context.SimpleQueue(), context.Barrier(kernels)
    with environment(THREADS):
        processes = [
            context.Process(target=_kernel, args=(case, number, gate, told), daemon=True)
            for number in range(kernels)
        ]
        for process in processes:
            process.start()
    found: list[Any] = [told.get() for _ in processes]
    for process in processes:
        process.join()
    if lost := [each for each in found if isinstance(each, str)]:
        raise RuntimeError(f"a kernel failed: {lost[0]}")
    return found


def _kernel(case: Case, number: int, gate: Any, told: Any) -> None:
    try:
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            told.put(_serve(case, number, gate, Path(folder)))
    except BaseException as error:  # the parent waits for a word of every kernel
        gate.abort()
        told.put(f"{type(error).__name__}: {error}")
        raise


def _serve(case: Case, number: int, gate: Any, folder: Path) -> Took:
    embedder, small = Drawn(), _resident()
    settings = parse_settings(
        {
            "redis": case.redis,
            "namespace": case.namespace.format(number=number),
            "history": case.history,
            "max_records": 1_000_000,
        }
    )
    history = open_history(case.history, folder, embedder, max_records=1_000_000)
    if not case.filled:
        for first in range(0, case.records, PART):
            count = min(PART, case.records - first)
            history.add(records(first, count, case.models), vectors(range(first, first + count)))
    config = Config(Location(None, None, folder, "scaling"), settings, ())
    stores = history, BackgroundEmbedder(lambda: embedder)
    with Engine(config, models=pool(case.models), stores=lambda config: stores) as engine:
        engine.wait_ready(PATIENCE_S)
        texts = (f"{number} {turn}" for turn in range(1 << 30))
        decide = _timed(lambda: _decide(engine, texts, case.batch), case)
        memory = _resident() - small
        gate.wait(PATIENCE_S)
        idle = _while(case, lambda: time.sleep(IDLE_S)) if case.idle else None
        gate.wait(PATIENCE_S)
        before, begun = Spent.until_now(case), time.time()
        call = _timed(lambda: _call(engine, texts, case.batch), case)
        engine.recorder.flush()
        ended = time.time()
        gate.wait(PATIENCE_S)
        spent = Spent.until_now(case).since(before)
        gate.wait(PATIENCE_S)
    served = call[3] * case.batch
    worst = float(np.percentile(call[2], 99)) / case.batch
    return Took(*decide[:2], *call[:2], worst, memory, served, begun, ended, spent, idle)


def _while(case: Case, waiting: Callable[[], None]) -> Spent:
    before = Spent.until_now(case)
    waiting()
    return Spent.until_now(case).since(before)


def _timed(work: Any, case: Case) -> tuple[float, float, list[float], int]:
    """Milliseconds a query (median of the clock's, mean of processors'), all times, their count."""
    work()
    times, cpu = [], time.process_time()
    for _ in range(max(case.calls // case.batch, 3)):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    spent = (time.process_time() - cpu) * 1e3 / len(times) / case.batch
    return float(np.median(times)) / case.batch, spent, times, len(times)


def _queries(texts: Any, count: int) -> list[Query]:
    return [Query(next(texts), agent="scaling", input_tokens=30) for _ in range(count)]


def _decide(engine: Engine, texts: Any, count: int) -> None:
    for made in engine.router.route(_queries(texts, count)).decisions:
        engine.router.release(made)


def _call(engine: Engine, texts: Any, count: int) -> None:
    asked = [engine.dispatcher.submit(query, _answer) for query in _queries(texts, count)]
    for each in asked:
        if each.result(PATIENCE_S).answer.failure is not None:
            raise RuntimeError("a call was not answered")


def _answer(model: str, left: float) -> Answer:
    return Answer("fine", 30, 100)


def _resident() -> float:
    """Megabytes of memory of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status names no VmRSS")


def _seconds(process: int) -> float:
    """Seconds of processors that a process has used (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
