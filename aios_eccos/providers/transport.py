"""Providers: two methods by which a model is asked, over HTTP or through LiteLLM.

One returns a completion's body or raises what `failure_of` knows, and repeats no request.
"""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aios_eccos.errors import ENCODED, ConfigError, shown_address
from aios_eccos.providers.failures import INVALID, MALFORMED, Broken, StatusError
from aios_eccos.providers.refusals import LOOKED_AT
from aios_eccos.providers.wire import cleaned

#: A server that does not take a connection within this is down, seconds.
CONNECT_S = 10.0
#: Names of this machine, for lists of what goes without a proxy.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@runtime_checkable
class Provider(Protocol):
    """One model of one server."""

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        """Send OpenAI's request for a chat completion and return the answer's body."""

    def close(self) -> None: ...


class HttpProvider:
    """An OpenAI-compatible server, whose `base_url` goes up to `/v1`.

    A ConfigError says that the address is none, or that its proxy cannot be used.
    """

    def __init__(self, base_url: str, key: str | None = None) -> None:
        import httpx

        # As many connections as there are calls: slots are what limits them.
        limits = httpx.Limits(max_connections=None)
        proxy = None
        try:
            # Left to itself httpx would stop at any proxy of the environment that it cannot use.
            proxy = proxy_of(base_url)
            self._client = httpx.Client(
                base_url=base_url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                transport=httpx.HTTPTransport(limits=limits, proxy=proxy),
                follow_redirects=True,
            )
        except (ImportError, httpx.InvalidURL, ValueError) as error:
            by = f", by the proxy {shown_address(proxy)}" if proxy else ""
            # What is said of a host or a port may be part of a password.
            doubtful = "@" in f"{base_url}{proxy}" or "port" in str(error).lower()
            malformed = f"malformed: its scheme is known, a port is a number, and {ENCODED}"
            reason = error if isinstance(error, ImportError) or not doubtful else malformed
            raise ConfigError(f"{shown_address(base_url)}{by}: {reason}") from None

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        try:
            content = json.dumps(cleaned(request), ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise Broken(MALFORMED) from error
        from aios_eccos.providers.bounds import within

        with within(timeout_s):
            response = self._client.post(
                "chat/completions",
                content=content,
                headers={"Content-Type": "application/json"},
                timeout=_limit(timeout_s),
            )
        try:
            body: object = json.loads(response.content)
        except (ValueError, RecursionError):
            body = None
        if response.is_success:
            if body is None:
                raise Broken(INVALID)
            return body
        # Google's errors come as a list of one.
        told = body[0] if isinstance(body, list) and body else body
        text = response.content[:LOOKED_AT].decode("utf-8", "replace")
        raise StatusError(response.status_code, text, response.headers, told)

    def close(self) -> None:
        self._client.close()


class LiteLLMProvider:
    """A provider that LiteLLM knows; keys that it is not given are its own affair.

    `place` is `api_base` and `api_key` as configured. A ConfigError: LiteLLM is not installed.
    """

    def __init__(self, model: str, place: dict[str, Any], **more: Any) -> None:
        _loopback_goes_without_proxy()
        # Its import would fetch prices from the network.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        try:
            import litellm
        except ImportError as error:
            raise ConfigError(
                f"{model} needs LiteLLM; install it with pip install 'aios-eccos[collect]'"
            ) from error
        litellm.suppress_debug_info = True  # else it prints advice to standard output
        self._completion = litellm.completion
        self._options = {"model": model, **{k: v for k, v in place.items() if v}, **more}

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        # It would repeat a request on its own, which nobody would count.
        once = {"num_retries": 0, "max_retries": 0, "timeout": _limit(timeout_s)}
        from aios_eccos.providers.bounds import within

        with within(timeout_s):
            answer: object = self._completion(**{**cleaned(request), **self._options, **once})
        return answer

    def close(self) -> None:
        """LiteLLM keeps its connections itself."""


def _limit(timeout_s: float) -> Any:
    import httpx

    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))


def proxy_of(url: str) -> str | None:
    """The environment's proxy for a server; None for this machine and for what is excepted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
        near = address.is_loopback or address.is_unspecified
    except ValueError:
        near = host == "localhost" or host.endswith(".localhost")
    if near or proxy_bypass(host):
        return None
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _loopback_goes_without_proxy() -> None:
    """Tell libraries that look for proxies themselves; names in lower case win with them."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for name in listed.split(",") if name]
    whole = ",".join([*names, *(name for name in LOOPBACK if name not in names)])
    if "*" not in names:
        os.environ.update(no_proxy=whole, NO_PROXY=whole)
