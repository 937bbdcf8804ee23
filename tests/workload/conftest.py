"""Workload stores of every kind, and the real servers behind them."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from workload_servers import RedisServer, make_cluster, remove

from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.store import WorkloadStore

#: Long enough for a busy machine: what must happen in 50 ms has tests of its own.
PATIENT_S = 10.0

Open = Callable[..., WorkloadStore]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that leave it alive."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[RedisServer]:
    """A Cluster of one node: it refuses scripts whose keys are undeclared or spread."""
    server = RedisServer("--cluster-enabled", "yes")
    make_cluster(server)
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server to kill."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_state() -> Iterator[Path]:
    """A state folder whose embedded server lives as long as the tests."""
    folder = Path(tempfile.mkdtemp(prefix="eccos-state-"))
    keeper = open_workload("embedded", state_dir=folder)
    yield folder
    keeper.close()
    remove(folder)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def opened() -> Iterator[Open]:
    """`open_workload`, patient, and closed at the end of the test."""
    stores: list[WorkloadStore] = []

    def open_one(redis: str, **options: object) -> WorkloadStore:
        options.setdefault("timeout_s", PATIENT_S)
        stores.append(open_workload(redis, **options))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    """The setting `redis` of a kind of store."""
    if kind in ("memory", "embedded"):
        return kind
    if kind == "cluster":
        server: RedisServer = request.getfixturevalue("cluster_server")
        return server.url.replace("redis://", "redis+cluster://")
    server = request.getfixturevalue("redis_server")
    return server.unix_url if kind == "unix" else server.url


@pytest.fixture
def bare(request: pytest.FixtureRequest, kind: str) -> Iterator[Redis]:
    """A client of the server behind a shared kind of store."""
    if kind == "embedded":
        state = request.getfixturevalue("shared_state")
        client = Redis(unix_socket_path=(state / "redis" / "socket").read_text(), protocol=2)
    else:
        name = "cluster_server" if kind == "cluster" else "redis_server"
        client = request.getfixturevalue(name).client()
    yield client
    client.close()


@pytest.fixture
def kernel(
    request: pytest.FixtureRequest, kind: str, url: str, namespace: str, opened: Open
) -> Callable[[], WorkloadStore]:
    """Opens the store as one more kernel would; in memory there is but one."""
    state = request.getfixturevalue("shared_state") if kind == "embedded" else Path("unused")

    def open_kernel() -> WorkloadStore:
        return opened(url, state_dir=state, namespace=namespace, member=kind != "look-up")

    if kind == "memory":
        only = open_kernel()
        return lambda: only
    return open_kernel


@pytest.fixture
def store(kernel: Callable[[], WorkloadStore]) -> Iterator[WorkloadStore]:
    """A store of each kind; what the shared ones did was done in Redis."""
    only = kernel()
    yield only
    assert not only.degraded
