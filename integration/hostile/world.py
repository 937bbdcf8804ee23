"""A kernel's engine on a real Redis, without a kernel: what foreign values are put before."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.config import ModelEntry, parse_settings
from aios_eccos.errors import escape_logs
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.locate import Config, Location
from aios_eccos.observe.views import EdgeView
from aios_eccos.records import Outcome, Record
from aios_eccos.serve.engine import Engine
from aios_eccos.values import Answer, Query
from aios_eccos.workload.embedded import redis_binary

from ..kernel import free_port

ENTRIES = tuple(
    ModelEntry(
        name=name,
        hostname=f"http://{name}",
        concurrency=8,
        rpm=10_000,
        tpm=10_000_000,
        input_cost_per_token=price,
        output_cost_per_token=price,
    )
    for name, price in (("small", 1e-7), ("large", 1e-5))
)
SETTINGS = {
    "quality_floor": 0.9,
    "audit": "5 %",
    "mode": "canary",
    "agents": {"capped/*": {"max_cost": {"day": 1}, "quality_floor": 0.8}},
}


@contextmanager
def redis_server(*options: str, tls: bool = False) -> Iterator[int]:
    """A `redis-server` on a free port of this machine, gone afterwards."""
    folder, port = Path(tempfile.mkdtemp(prefix="eccos-hostile-")), free_port()
    command = [shutil.which("redis-server") or redis_binary(), "--port", "0" if tls else str(port)]
    command += ["--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    command += ["--tls-port", str(port)] if tls else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_it_listens(port, process, folder / "log")
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"redis-server does not start: {log.read_text(errors='replace')[-500:]}")


class Line:
    """Embeds by the length of a text."""

    ready, error = True, None

    def try_embed(self, texts: list[str]) -> Any:
        angle = np.array([len(text) % 90 for text in texts]) * np.pi / 180
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def try_embed_with_layers(self, texts: list[str]) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""


def stores(config: Config) -> Any:
    """A small history whose prices of success are known."""
    records = [
        Record(
            f"q{i}",
            "x" * i,
            10,
            (Outcome("small", float(i % 3 > 0), 20), Outcome("large", float(i % 9 > 0), 20)),
        )
        for i in range(60)
    ]
    history, line = MemoryHistory(dimension=2), Line()
    history.add(records, line.try_embed([record.text for record in records]))
    return history, line


@contextmanager
def engine_on(port: int, folder: Path, **changes: object) -> Iterator[Engine]:
    """A kernel's engine on that Redis, its history learned."""
    url = f"redis://127.0.0.1:{port}?socket_timeout=60"
    found = {"redis": url, "namespace": "hostile", **SETTINGS, **changes}
    location = Location(None, None, folder, "hostile")
    escape_logs()  # as a kernel does
    with Engine(Config(location, parse_settings(found), ENTRIES), stores=stores) as engine:
        engine.wait_ready(60)
        yield engine


def serve(engine: Engine, agent: str = "capped/a", keep_s: float = 60.0) -> object:
    """One call; its answer, or None where it was refused."""
    query = Query("How many?", agent=agent, input_tokens=10)
    answer = Answer("fine", 10, 20)
    settled = engine.dispatcher.submit(query, lambda model, left: answer).result(60)
    engine.recorder.flush(keep_s)
    return settled.answer.value


def edge() -> EdgeView:
    """What a kernel's edge says of itself."""
    return EdgeView(mode="route", waiting=0, running=0)
