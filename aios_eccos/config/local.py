"""The address of a server: whether it is one, and whether what is asked there stays here.

By the address alone, as written: no name is looked up, as what it leads to may change.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from aios_eccos.errors import ENCODED

#: Backends that run a model inside the kernel's own process.
IN_PROCESS = ("huggingface", "hflocal")
#: Loopback, private (RFC 1918), unique local (RFC 4193) and link-local addresses, and this host.
NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("0.0.0.0/32", "::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)
USUAL_PORTS = {"http": 80, "https": 443}
#: A scheme, a name and password, a host and a port. Whatever clients read in several ways, such as
#: a backslash or a second `@`, has no match.
_ADDRESS = re.compile(
    r"((?i:https?)://)?(?:[^/@\\?#\[\]\s]*@)?(\[[0-9A-Fa-f:.%\w]+\]|\w[\w.-]*)(?::([0-9]*))?"
    r"(?:[/?#](?!/)[^@\\\s\x00-\x1f\x7f]*)?"
)


def check_address(value: str) -> str:
    """The URL of a server, with its scheme; a ValueError if it is none."""
    found = _ADDRESS.fullmatch(value)
    try:
        scheme, host, port = found.groups() if found else ("", "", "0")
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        else:
            host.encode("idna")
        if not 0 < int(port or 80) < 65536 or (port == "" and not scheme):
            raise ValueError("port")
        url = value if scheme else f"http://{value}"
        canonical(url)  # refuses what others could read as another host
    except ValueError:
        raise ValueError(
            f"wanted http(s)://host:port/v1, with a port up to 65535 and no blanks; {ENCODED}"
        ) from None
    return url


def canonical(address: str) -> str:
    """The one way to write an address that `check_address` has passed; limits are found by it.

    Scheme and host in lower case, this machine as `localhost`, no usual port, no slash at the end.
    """
    parts = urlsplit(address)
    host = (parts.hostname or "").removesuffix(".")
    try:
        found = ipaddress.ip_address(host)
        found = getattr(found, "ipv4_mapped", None) or found
        here = found.compressed in ("127.0.0.1", "::1") or found.is_unspecified
        host = "localhost" if here else found.compressed
    except ValueError:
        host = host.encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, USUAL_PORTS[parts.scheme]) else f":{parts.port}"
    login, at, _ = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{login}{at}{host}{port}{parts.path.rstrip('/')}{query}"


def is_local(hostname: str | None, backend: str = "") -> bool:
    """Whether a model of this `hostname` and `backend` counts as local unless the entry says so.

    Names other than `localhost` do not, and nor does a model without a hostname: its provider's
    library decides where that is.
    """
    if not hostname:
        return backend in IN_PROCESS
    found = _ADDRESS.fullmatch(hostname)
    if found is None:
        return False
    host = found[2].strip("[]").lower().removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in NETWORKS)
