"""Asks a living kernel over its HTTP side."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from aios_eccos.config.checks import shown
from aios_eccos.errors import ConfigError, DataError, KernelError
from aios_eccos.locate import Config, mapping_of, read_yaml

#: No answer of a kernel is longer.
MOST_BYTES = 50_000_000
#: A kernel on this machine answers at once, or not at all; what it decides embeds a text first.
TIMEOUT_S, DECISION_S = 2.0, 10.0
#: Longest that a whole answer may take to come, seconds; characters of a refusal that are told.
WHOLE_S, MOST_SAID = 20.0, 200


def url_of(config: Config) -> str | None:
    """Where the kernel of this configuration listens; None without a configuration file."""
    path = config.location.config_path
    if path is None:
        return None
    server = mapping_of(read_yaml(path).get("server"), "server")
    host, port = server.get("host", "localhost"), server.get("port", 8000)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise ConfigError(f"server.port = {shown(port)}: wanted a number from 1 to 65535")
    if not isinstance(host, str) or not re.fullmatch(r"[\w.:-]*", host):
        raise ConfigError(f"server.host = {shown(host)}: wanted a name or an address")
    # AIOS listens on all addresses by default; it is asked on loopback.
    host = "localhost" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def ask(config: Config, path: str, body: Any = None) -> Any:
    """The answer to a GET, or to a POST of `body`, as JSON.

    None where no kernel with the plugin answers, a KernelError where it refuses, a DataError where
    it has not what is asked for.
    """
    url = url_of(config)
    if url is None:
        return None
    token = config.settings.http_token
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    try:
        status, answer = _sent(url, path, body, headers)
    except (OSError, ValueError, HTTPException, RecursionError):
        return None  # something else listens there, or nothing
    if status < 300:
        return answer
    reason = answer.get("detail") if isinstance(answer, dict) else None
    said = reason[:MOST_SAID] if isinstance(reason, str) else ""
    if status == 404 and said in ("", "Not Found"):
        return None  # a kernel without the plugin
    if status == 404:
        raise DataError(said)
    # A redirection is not followed: the token is for the kernel alone.
    raise KernelError(f"{url}{path}: HTTP {status}{f', {said}' if said else ''}")


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _sent(url: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Status and JSON of the answer to one request; None where an error brings no JSON."""
    place, wait = urlsplit(url), TIMEOUT_S if body is None else DECISION_S
    with closing(HTTPConnection(place.hostname or "", place.port, timeout=wait)) as connection:
        connection.connect()
        # What drips, whoever listens there, would never take longer than `wait` for a byte.
        end = threading.Timer(WHOLE_S, _hang_up, (connection.sock,))
        end.daemon = True
        end.start()
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request("GET" if data is None else "POST", path, data, headers)
            response = connection.getresponse()
            raw = response.read(MOST_BYTES)
        finally:
            end.cancel()
    try:
        return response.status, json.loads(raw)
    except (ValueError, RecursionError):
        if response.status < 300:
            raise
        return response.status, None
