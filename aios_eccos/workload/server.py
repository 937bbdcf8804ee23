"""Where a Redis is and how to speak to it; `embedded.py` has the one that we run ourselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from aios_eccos.errors import ConfigError, hide

_SENTINEL_PORT = 26379
_CLUSTER_PORT = 6379


class Server(Protocol):
    """A Redis to connect to."""

    @property
    def place(self) -> str:
        """Its name for messages, without user and password."""
        ...

    def client(self) -> Any:
        """A new redis-py client, of whichever kind."""
        ...

    def ensure(self) -> bool:
        """Make sure that it runs, if that is ours to do; True: clients must be made anew.

        Raises:
            WorkloadError: it cannot be started.
        """
        ...

    def end(self) -> None:
        """This process no longer uses it; idempotent."""
        ...


class RemoteServer:
    """A server that others run, named by a URL.

    Args:
        url: see `connect.open_workload`.
        timeout_s: longest wait for a connection and for an answer.

    Raises:
        ConfigError: the URL is malformed.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.place = "?"
        try:
            self.place = safe_name(url)
            self.client = _client_maker(url, timeout_s)
        except (ValueError, TypeError) as error:
            if "@" in url:  # what was read as host or port may be part of the password
                said = "malformed; in a password write / # ? [ ] @ as %2F %23 %3F %5B %5D %40"
                raise ConfigError(f"redis: the URL is {said}") from None
            raise ConfigError(f"redis {self.place!r}: {error}") from error

    def ensure(self) -> bool:
        return False

    def end(self) -> None:
        pass


def safe_name(url: str) -> str:
    """A URL without user, password and options."""
    parts = urlsplit(url)
    # A password with a slash in it reaches into the path.
    return hide(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def options(timeout_s: float) -> dict[str, Any]:
    """How every client behaves: one try, and not for long. What fails falls back at once."""
    return {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 0), "protocol": 2}


def _client_maker(url: str, timeout_s: float) -> Callable[[], Any]:
    scheme = urlsplit(url).scheme
    base, _, kind = scheme.partition("+")
    if scheme not in {"redis", "rediss", "unix"} and (
        base not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}
    ):
        raise ValueError(
            "wanted 'embedded' or a URL that begins with redis://, rediss://, unix://, "
            "redis+sentinel:// or redis+cluster://"
        )
    common = options(timeout_s)
    if scheme != "unix":
        common["socket_connect_timeout"] = timeout_s
    if not kind:
        # Connects to nothing, but refuses what is malformed.
        Redis.from_url(url, **common).connection_pool.make_connection()
        return lambda: Redis.from_url(url, **common)
    return _group_maker(url, base, kind, common)


def _group_maker(url: str, base: str, kind: str, common: dict[str, Any]) -> Callable[[], Any]:
    """Clients of a Sentinel group or a Cluster, whose URLs name several hosts."""
    parts = urlsplit(url)
    credentials, at, netloc = parts.netloc.rpartition("@")
    hosts = _hosts(netloc, _SENTINEL_PORT if kind == "sentinel" else _CLUSTER_PORT)
    service, _, database = parts.path.strip("/").partition("/")
    plain = parts._replace(scheme=base, netloc=f"{credentials}{at}{hosts[0][0]}", path=database)
    found = {**common, **parse_url(plain.geturl())}
    found.pop("host")
    found["ssl"] = found.pop("connection_class", None) is SSLConnection
    if kind == "cluster":
        found.pop("db", None)
        nodes = [ClusterNode(host, port) for host, port in hosts]
        return lambda: RedisCluster(startup_nodes=nodes, **found)
    if not service:
        raise ValueError("the name of the Sentinel service is missing: .../SERVICE")
    asking = dict(common)
    for option in ("username", "password"):
        if f"sentinel_{option}" in found:
            asking[option] = found.pop(f"sentinel_{option}")
    return lambda: Sentinel(hosts, sentinel_kwargs=asking, **found).master_for(service)


def _hosts(netloc: str, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for part in netloc.split(","):
        host = urlsplit(f"//{part}")
        if not host.hostname:
            raise ValueError("a host is missing")
        hosts.append((host.hostname, host.port or default_port))
    return hosts
