"""Asks a living kernel over its HTTP side."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from aios_eccos.errors import KernelError
from aios_eccos.locate import Config, read_yaml

#: A kernel on this machine answers at once, or not at all.
TIMEOUT_S = 2.0


def url_of(config: Config) -> str | None:
    """Where the kernel of this configuration listens; None without a configuration file."""
    if config.location.config_path is None:
        return None
    server = read_yaml(config.location.config_path).get("server") or {}
    host = str(server.get("host", "localhost"))
    # AIOS listens on all addresses by default; it is asked on loopback.
    host = "localhost" if host in ("0.0.0.0", "::", "") else host
    return f"http://{host}:{server.get('port', 8000)}"


def get(config: Config, path: str) -> Any:
    """GET as JSON; None where no kernel with the plugin answers."""
    return _ask(config, path, None)


def post(config: Config, path: str, body: Any) -> Any:
    """POST as JSON; None where no kernel with the plugin answers.

    Raises:
        KernelError: the kernel refuses.
    """
    return _ask(config, path, json.dumps(body).encode())


def _ask(config: Config, path: str, data: bytes | None) -> Any:
    url = url_of(config)
    if url is None:
        return None
    token = config.settings.http_token
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    request = urllib.request.Request(url + path, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None  # a kernel without the plugin
        raise KernelError(f"{url}{path}: HTTP {error.code}") from error
    except (OSError, ValueError):
        return None
