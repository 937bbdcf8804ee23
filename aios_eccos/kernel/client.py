"""Asks a living kernel over its HTTP side."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from aios_eccos.errors import ConfigError, KernelError
from aios_eccos.locate import Config, mapping_of, read_yaml

#: No answer of a kernel is longer.
MOST_BYTES = 50_000_000
#: A kernel on this machine answers at once, or not at all; what it decides embeds a text first.
TIMEOUT_S, DECISION_S = 2.0, 10.0


def url_of(config: Config) -> str | None:
    """Where the kernel of this configuration listens; None without a configuration file."""
    path = config.location.config_path
    if path is None:
        return None
    server = mapping_of(read_yaml(path).get("server"), "server")
    host, port = server.get("host", "localhost"), server.get("port", 8000)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise ConfigError(f"server.port = {port!r}: wanted a number from 1 to 65535")
    if not isinstance(host, str) or not re.fullmatch(r"[\w.:-]*", host):
        raise ConfigError(f"server.host = {host!r}: wanted a name or an address")
    # AIOS listens on all addresses by default; it is asked on loopback.
    host = "localhost" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def ask(config: Config, path: str, body: Any = None) -> Any:
    """The answer to a GET, or to a POST of `body`, as JSON.

    None where no kernel with the plugin answers, a KernelError where it refuses.
    """
    url = url_of(config)
    if url is None:
        return None
    data = None if body is None else json.dumps(body).encode()
    token = config.settings.http_token
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    request = urllib.request.Request(url + path, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(request, timeout=TIMEOUT_S if data is None else DECISION_S) as response:
            return json.loads(response.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None  # a kernel without the plugin
        raise KernelError(f"{url}{path}: HTTP {error.code}") from error
    except (OSError, ValueError, HTTPException, RecursionError):
        return None  # something else listens there, or nothing


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the token is for the kernel alone."""

    def redirect_request(self, *_: Any) -> None:
        return None
