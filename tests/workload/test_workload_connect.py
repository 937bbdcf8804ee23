"""Which server the setting `redis` names, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis
from waiting import until
from workload_servers import RedisServer, answers, lent

from aios_eccos.errors import ConfigError, WorkloadError
from aios_eccos.values import Lease
from aios_eccos.workload.client import ACL
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.redis import RedisWorkload
from aios_eccos.workload.server import Server, safe_name
from aios_eccos.workload.store import Load, WorkloadStore
from integration.kernel import free_port

SLOT = "small@1234"
SECRET = "s3cret-Pässword"
QUOTED = "s3cret-P%C3%A4ssword"
Open = Callable[..., WorkloadStore]


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    server = RedisServer("--requirepass", SECRET)
    yield server
    server.close()


def test_the_password_of_a_url_opens(guarded: RedisServer, opened: Open, tmp_path: Path) -> None:
    store = opened(f"redis://:{QUOTED}@127.0.0.1:{guarded.port}/1", state_dir=tmp_path)
    assert store.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True]
    assert not store.degraded
    with guarded.client(password=SECRET, db=1) as client:
        assert lent(client, SLOT) == 1


@pytest.mark.parametrize("login", ["", ":wrong-P4ss@", "nobody:wrong-P4ss@"])
@pytest.mark.parametrize("member", [True, False])
@pytest.mark.parametrize("required", [True, False])
def test_a_wrong_password_is_told_without_showing_it(
    guarded: RedisServer, tmp_path: Path, login: str, member: bool, required: bool
) -> None:
    with pytest.raises(WorkloadError, match="refuses the user or password") as it:
        open_workload(
            f"redis://{login}127.0.0.1:{guarded.port}",
            state_dir=tmp_path,
            member=member,
            required=required,
        )
    assert f"redis://127.0.0.1:{guarded.port}" in str(it.value)
    assert "P4ss" not in str(it.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:P4ss@127.0.0.1:{port}/0",
        "redis+cluster://me:P4ss@127.0.0.1:{port}",
        "redis+sentinel://me:P4ss@127.0.0.1:{port}/main?sentinel_password=P4ss",
        "unix:///nowhere/redis.sock?password=P4ss",
    ],
)
def test_a_server_that_is_not_there_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        WorkloadError, match=r"Redis at (redis|unix).*cannot read its format:"
    ) as it:
        open_workload(url.format(port=free_port()), state_dir=tmp_path)
    assert "P4ss" not in str(it.value)


def test_a_server_that_is_no_redis_is_told(tmp_path: Path, guarded: RedisServer) -> None:
    with pytest.raises(WorkloadError, match="Redis at rediss://"):
        open_workload(f"rediss://127.0.0.1:{guarded.port}", state_dir=tmp_path)


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        ("", "wanted 'embedded' or a URL"),
        ("localhost:6379", "wanted 'embedded' or a URL"),
        ("http://localhost", "wanted 'embedded' or a URL"),
        ("redis+sentry://localhost", "wanted 'embedded' or a URL"),
        ("redis://localhost:port", "port"),
        ("redis://localhost?socket_timeout=soon", "socket_timeout"),
        ("redis://[::1", "IPv6"),
        ("redis://localhost?no_such_option=1", "no_such_option"),
        ("redis+sentinel://localhost:26379", "name of the Sentinel service"),
        ("redis+sentinel://localhost:26379,/main", "a host is missing"),
        ("redis+cluster://localhost:x", "[Pp]ort"),
    ],
)
def test_a_malformed_setting_is_refused_before_anything_is_asked(
    tmp_path: Path, redis: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        open_workload(redis, state_dir=tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:P4ss@a..b", "idna"),
        ("redis+sentinel://a..b:1/main?password=P4ss", "idna"),
        ("redis://:P4ss@127.0.0.1:1?event_dispatcher=x", "dispatch"),
        ("rediss://:P4ss@127.0.0.1:1?ssl_cert_reqs=some", "Requirements Flag"),
        ("redis://:P4ss@127.0.0.1:1?protocol=9", "protocol must be"),
        ("redis://:P4ss@127.0.0.1:1?retry=3", "call_with_retry"),
        ("redis://:P4ss@127.0.0.1:1?retry_on_error=x", "catching classes"),
        ("redis+sentinel://127.0.0.1:1/main?no_such_option=P4ss", "no_such_option"),
        ("redis+cluster://127.0.0.1:1?startup_nodes=x", "startup_nodes"),
    ],
)
def test_what_redis_py_cannot_use_is_a_fault_of_the_setting(
    tmp_path: Path, url: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        open_workload(url, state_dir=tmp_path, required=False)
    assert "P4ss" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
def test_a_host_that_cannot_be_looked_up_now_is_a_redis_that_is_away(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    url = f"{scheme}://redis.example:6379/main"
    with contextlib.closing(open_workload(url, state_dir=tmp_path, required=False)) as store:
        assert store.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True], "on local limits"
        assert store.degraded


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://[::1]/main",
        "redis+sentinel://u:p@[::1]:1,a:2/main",
        "rediss+cluster://[::1]:1",
        "redis+cluster://a:1,[::1]:2",
    ],
)
def test_a_group_may_have_addresses_of_ipv6(url: str) -> None:
    assert Server(url, 0.05).place == url.replace("u:p@", "")


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "x" * 65, "ü"])
def test_a_malformed_namespace_is_refused(tmp_path: Path, namespace: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        open_workload("memory", state_dir=tmp_path, namespace=namespace)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@host:1/2?password=secret", "redis://host:1/2"),
        ("rediss://:se@cret@host", "rediss://host"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("redis+sentinel://me:secret@a:1,b:2/main", "redis+sentinel://a:1,b:2/main"),
    ],
)
def test_messages_show_no_secret(url: str, shown: str) -> None:
    assert safe_name(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:P4ss",
        "redis://:P4ss",
        "redis://host:P4ss/0",
        "redis://me:P4/ss@host",
        "redis+cluster://me:P4ss",
        "redis+sentinel://me:P4ss/main",
        "redis://:4#P4ss@host:6379",
        "rediss://:4?P4ss@host",
        "redis+sentinel://:4/P4ss@a:1,b:2/main",
        "unix://me:P4/ss@/run/redis.sock",
        "redis://localhost?password=P4ss&no_such_option=1",
        "redis://localhost?socket_timeout=P4ss",
        "unix:///run/redis.sock?password=P4ss&db=x&no_such_option=1",
    ],
)
def test_a_malformed_url_shows_no_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as it:
        open_workload(url, state_dir=tmp_path)
    assert "P4" not in "".join(traceback.format_exception(it.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:{}@127.0.0.1:{}",
        "redis://:{}@127.0.0.1:{}",
        "redis://127.0.0.1:{1}?username=me&password={0}",
        "redis+cluster://me:{}@127.0.0.1:{}",
    ],
)
def test_a_server_that_repeats_the_password_shows_none(tmp_path: Path, url: str) -> None:
    """As old servers and those with renamed commands do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_repeat, args=(listener,), daemon=True).start()
        with pytest.raises(WorkloadError) as it:
            open_workload(url.format(QUOTED, port), state_dir=tmp_path, timeout_s=2.0)
    told = "".join(traceback.format_exception(it.value))
    assert not [form for form in (SECRET, QUOTED) if form in told]
    assert "cluster" in url or "***" in str(it.value)


def _repeat(listener: socket.socket) -> None:
    """Answer each request by an error that holds it."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                said = connection.recv(10_000).replace(b"\r\n", b" ")
                connection.sendall(b"-ERR unknown command, beginning with: " + said + b"\r\n")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_redis_that_evicts_is_told(
    own_server: RedisServer,
    opened: Open,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    policy: str,
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", policy)
    opened(own_server.url, state_dir=tmp_path)
    until(lambda: policy in caplog.text)
    look = opened(own_server.url, state_dir=tmp_path, member=False)
    (said,) = look.warnings()
    assert policy in said
    assert "set maxmemory-policy noeviction" in said


def test_a_redis_that_keeps_what_has_no_expiry_is_fine(
    own_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    look = opened(own_server.url, state_dir=tmp_path, member=False)
    for policy in ("noeviction", "volatile-lru", "volatile-ttl", "volatile-random"):
        with own_server.client() as client:
            client.config_set("maxmemory-policy", policy)
        assert look.warnings() == []


def test_a_full_redis_and_a_replica_are_told(
    own_server: RedisServer, redis_server: RedisServer, opened: Open, tmp_path: Path
) -> None:
    look = opened(own_server.url, state_dir=tmp_path, member=False)
    with own_server.client() as client:
        client.config_set("maxmemory", "100")
        assert "raise maxmemory" in look.warnings()[0]
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", str(redis_server.port))
        assert "is a replica" in look.warnings()[0]


def test_a_server_that_tells_nothing_of_itself_is_used(
    own_server: RedisServer, opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as client:
        rights = ["on", ">pw", "~*", "&*", "+@all", "-info"]
        client.execute_command("ACL", "SETUSER", "poor", *rights)
        url = f"redis://poor:pw@127.0.0.1:{own_server.port}"
        store = opened(url, state_dir=tmp_path, heartbeat_s=0.05)

        def called(name: str, count: str) -> int:
            return client.info("commandstats").get(f"cmdstat_{name}", {}).get(count, 0)

        until(lambda: called("info", "rejected_calls") > 0)
        beats = called("evalsha", "calls")
        until(lambda: called("evalsha", "calls") > beats + 2)
    assert not caplog.text
    assert store.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True]


@pytest.mark.parametrize("lacks", ["-evalsha", "-zadd", "resetchannels", "resetkeys ~x:*"])
def test_what_a_user_may_not_do_is_told_with_what_it_needs(
    own_server: RedisServer, opened: Open, tmp_path: Path, lacks: str
) -> None:
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all")
        store = opened(f"redis://poor:pw@127.0.0.1:{own_server.port}", state_dir=tmp_path)
        client.execute_command("ACL", "SETUSER", "poor", *lacks.split())
        store.renew()
        until(lambda: any(ACL in warning for warning in store.warnings()))


def test_a_server_that_became_a_replica_is_asked_for_anew(
    own_server: RedisServer, redis_server: RedisServer
) -> None:
    """Its name may mean another server by now; an open connection would never find that out."""
    made: list[RedisServer] = []

    class Renamed(Server):
        def __init__(self) -> None:
            super().__init__(own_server.url, 5.0)
            self.client = self.choose

        def choose(self) -> Redis:
            made.append(redis_server if made else own_server)
            return made[-1].client()

    store = RedisWorkload(Renamed(), namespace=uuid.uuid4().hex)
    store.append_decision({"n": "1"})
    with own_server.client() as client:
        client.replicaof("127.0.0.1", str(redis_server.port))
    with pytest.raises(WorkloadError, match="replica"):
        store.append_decision({"n": "2"})
    store.append_decision({"n": "3"})
    assert made == [own_server, redis_server]
    store.close()


def test_a_url_can_ask_for_more_patience() -> None:
    for url in ("redis://host?socket_timeout=0.2", "redis+sentinel://a,b/main?socket_timeout=0.2"):
        client = Server(url, 0.05).client()
        options = client.connection_pool.connection_kwargs
        assert options["socket_timeout"] == 0.2
        assert options["socket_connect_timeout"] == 0.05


def test_tls_is_asked_for() -> None:
    for url in ("rediss://host", "rediss+sentinel://a:1/main"):
        pool = Server(url, 0.05).client().connection_pool
        assert "SSL" in pool.connection_class.__name__


def test_memory_needs_no_redis(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from aios_eccos.workload.connect import open_workload; "
        "open_workload('memory', state_dir=pathlib.Path('x')).close(); "
        "sys.exit('redis' in sys.modules)"
    )
    root = Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=100).returncode == 0


def test_a_sentinel_group_is_followed_to_its_new_master(opened: Open, tmp_path: Path) -> None:
    master = RedisServer()
    replica = RedisServer("--replicaof", "127.0.0.1", str(master.port))
    sentinel = RedisServer(watches=master)
    servers = [master, replica, sentinel]
    try:
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        with sentinel.client() as client:
            until(lambda: client.execute_command("SENTINEL", "REPLICAS", "main"))
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        store = opened(url, state_dir=tmp_path, timeout_s=0.2)
        assert store.acquire([Lease("a", SLOT)], {SLOT: 3}) == [True]
        master.kill()
        until(lambda: store.loads({SLOT: 3}) is not None and store.degraded)
        until(lambda: not store.degraded)
        assert store.loads({SLOT: 3})[SLOT] == Load(1, 3, 0.0)
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"
            assert lent(client, SLOT) == 1
    finally:
        for server in servers:
            server.close()


READS: dict[str, Callable[[WorkloadStore], object]] = {
    "sums": lambda store: store.sums(["total"]),
    "notes": lambda store: store.notes(["a"]),
    "decisions": lambda store: store.decisions(3),
    "loads": lambda store: store.loads({SLOT: 1}),
    "inbox": lambda store: store.inbox_sizes(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_who_reads_while_the_store_is_closed_is_told_so(
    tmp_path: Path, read: Callable[[WorkloadStore], object]
) -> None:
    """Whatever redis-py makes of a connection that another thread closes under it."""
    raised: list[BaseException] = []

    def reads() -> None:
        try:
            read(store)
        except BaseException as error:  # noqa: BLE001 - which it is, is the question
            raised.append(error)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        store = RedisWorkload(Server(url, 60.0), namespace="a")
        reader = threading.Thread(target=reads)
        reader.start()
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)
            store.close()
            reader.join(60)
    assert [type(error) for error in raised] == [WorkloadError]


def test_a_cluster_is_asked_where_the_keys_are(opened: Open, tmp_path: Path) -> None:
    """Two masters: each namespace lies whole on one, and either may be named in the URL."""
    nodes = [RedisServer("--cluster-enabled", "yes") for _ in range(2)]
    try:
        for number, node in enumerate(nodes):
            with node.client() as client:
                client.execute_command(
                    "CLUSTER", "ADDSLOTS", *range(8192 * number, 8192 * (number + 1))
                )
        with nodes[0].client() as client:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port))
        for node in nodes:
            with node.client() as client:
                until(lambda one=client: b"cluster_state:ok" in _cluster_info(one))
                until(lambda one=client: b"cluster_known_nodes:2" in _cluster_info(one))
        url = f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"
        for namespace in ("a", "b", "c", "d"):
            store = opened(url, state_dir=tmp_path, namespace=namespace)
            assert store.acquire([Lease("a", SLOT), Lease("b", "x@1")], {SLOT: 1, "x@1": 0}) == [
                True,
                False,
            ]
            assert not store.degraded
        held = []
        for node in nodes:
            with node.client() as client:
                assert answers(client)
                held.append(len(client.keys(f"*:slots:{SLOT}")))
        assert sum(held) == 4
        assert min(held) > 0, "the namespaces above lie on both"
    finally:
        for node in nodes:
            node.close()


def _cluster_info(client: object) -> bytes:
    info = client.execute_command("CLUSTER", "INFO")  # type: ignore[attr-defined]
    assert isinstance(info, bytes)
    return info
