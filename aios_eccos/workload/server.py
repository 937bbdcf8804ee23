"""Where a Redis is and how to speak to it; `embedded.py` has the one that we run ourselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from aios_eccos.errors import ENCODED, ConfigError, misread, netloc_of

_SENTINEL_PORT = 26379
_CLUSTER_PORT = 6379


class Server:
    """A Redis that others run, named by a URL as in `connect.open_workload`.

    Raises:
        ConfigError: the URL is malformed.
    """

    #: Its name for messages, without user and password.
    place = "?"
    _secrets: Sequence[str] = ()

    def __init__(self, url: str, timeout_s: float) -> None:
        malformed = f"redis: the URL is malformed: a port is a number, and {ENCODED}"
        if misread(url):
            raise ConfigError(malformed)
        try:
            self._secrets = _secrets(url)
            self.place = safe_name(url)
            self._make = _client_maker(url, timeout_s)
        except (ValueError, TypeError, RedisError) as error:
            # What was read as host or port may be part of a password.
            doubtful = "@" in url and isinstance(error, ValueError)
            if doubtful or "port" in str(error).lower():
                raise ConfigError(malformed) from None
            raise ConfigError(f"redis {self.place!r}: {self.hide(str(error))}") from None

    def client(self) -> Any:
        """A new redis-py client, of whichever kind."""
        return self._make()

    def hide(self, text: str) -> str:
        """A text of redis-py or of the server, without this server's passwords."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def ensure(self) -> bool:
        """Make sure that it runs, if that is ours to do; True: clients must be made anew."""
        return False

    def end(self) -> None:
        """This process no longer uses it; idempotent."""


def _parts(url: str) -> SplitResult:
    """The URL's parts; its hosts may be several."""
    netloc = netloc_of(url)
    scheme, mark, rest = url.partition("//")
    return urlsplit(f"{scheme}{mark}{rest[len(netloc) :]}")._replace(netloc=netloc)


def safe_name(url: str) -> str:
    """A URL without user, password and options."""
    parts = _parts(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _secrets(url: str) -> list[str]:
    """The passwords of a URL, as they stand there and as they are sent; longest first."""
    parts = _parts(url)
    said = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    for option in parts.query.split("&"):
        name, _, value = option.partition("=")
        said += [value, value.replace("+", " ")] if "password" in name else []
    return sorted({form for each in said for form in (each, unquote(each)) if form}, key=len)[::-1]


def options(timeout_s: float) -> dict[str, Any]:
    """How every client behaves: one try, and not for long. What fails falls back at once."""
    one_try = Retry(NoBackoff(), 0)
    # Half of a character pair, as in names of another encoding, is no reason to lose a write.
    odd_text = {"encoding_errors": "replace"}
    return {"socket_timeout": timeout_s, "retry": one_try, "protocol": 2, **odd_text}


def _client_maker(url: str, timeout_s: float) -> Callable[[], Any]:
    scheme = _parts(url).scheme
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
    parts = _parts(url)
    credentials, at, netloc = parts.netloc.rpartition("@")
    hosts = _hosts(netloc, _SENTINEL_PORT if kind == "sentinel" else _CLUSTER_PORT)
    service, _, database = parts.path.strip("/").partition("/")
    plain = parts._replace(scheme=base, netloc=f"{credentials}{at}localhost", path=database)
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
