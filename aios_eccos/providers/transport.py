"""Providers: two methods by which a model is asked, over HTTP, through LiteLLM, or as a script.

A provider returns a completion's body, or raises what `failures.failure_of` knows. It never
repeats a request.
"""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aios_eccos.errors import ConfigError
from aios_eccos.providers.failures import INVALID, MALFORMED, Broken, StatusError
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
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class HttpProvider:
    """An OpenAI-compatible server.

    Args:
        base_url: up to `/v1`.
        key: goes into a header and nowhere else.

    Raises:
        ConfigError: the address is none, or its proxy cannot be used.
    """

    def __init__(self, base_url: str, key: str | None = None) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # As many connections as there are calls: slots are what limits them.
        limits = httpx.Limits(max_connections=None)
        try:
            # Given a transport, httpx looks for no proxy.
            direct = httpx.HTTPTransport(limits=limits) if _direct(base_url) else None
            self._client = httpx.Client(
                base_url=base_url,
                headers=headers,
                limits=limits,
                transport=direct,
                follow_redirects=True,
            )
        except ImportError as error:
            raise ConfigError(
                f"{base_url}: {_proxy_named(base_url)} cannot be used: pip install 'httpx[socks]', "
                "or name the host in NO_PROXY"
            ) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(f"{base_url}: {error}") from error

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        try:
            content = json.dumps(cleaned(request), ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise Broken(MALFORMED) from error
        response = self._client.post(
            "chat/completions",
            content=content,
            headers={"Content-Type": "application/json"},
            timeout=_limit(timeout_s),
        )
        try:
            body: object = response.json()
        except (ValueError, RecursionError):
            body = None
        if response.is_success and body is not None:
            return body
        if response.is_success:
            raise Broken(INVALID)
        # Google's errors come as a list of one.
        told = body[0] if isinstance(body, list) and body else body
        raise StatusError(response.status_code, response.text, response.headers, told)

    def close(self) -> None:
        self._client.close()


class LiteLLMProvider:
    """A provider that LiteLLM knows; keys that it is not given are its own affair.

    Args:
        place: `api_base` and `api_key`, as far as the configuration names them.
        more: further options of LiteLLM's.

    Raises:
        ConfigError: LiteLLM is not installed.
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
        self._completion = litellm.completion
        self._options = {"model": model, **{k: v for k, v in place.items() if v}, **more}

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        # It would repeat a request on its own, which nobody would count.
        once = {"num_retries": 0, "max_retries": 0, "timeout": _limit(timeout_s)}
        answer: object = self._completion(**{**cleaned(request), **self._options, **once})
        return answer

    def close(self) -> None:
        """LiteLLM keeps its connections itself."""


class Script:
    """A provider for tests: plays one answer or exception after the other, the last for ever.

    Attributes:
        requests: what was asked.
    """

    def __init__(self, *steps: object) -> None:
        self._steps = [*steps]
        self.requests: list[dict[str, Any]] = []

    def complete(self, request: dict[str, Any], timeout_s: float) -> object:
        self.requests.append(request)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self) -> None:
        pass


def _limit(timeout_s: float) -> Any:
    import httpx

    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_S))


def _direct(url: str) -> bool:
    """Whether a server is asked without a proxy: it is on this machine, or excepted."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(proxy_bypass(host))
    return address.is_loopback or address.is_unspecified or bool(proxy_bypass(host))


def _proxy_named(url: str) -> str:
    """The proxy that stands before a server, without its user and password."""
    scheme = urlsplit(url).scheme
    found = getproxies().get(scheme) or getproxies().get("all", "")
    parts = urlsplit(found)
    return f"the proxy {parts.scheme}://{parts.hostname}:{parts.port}"


def _loopback_goes_without_proxy() -> None:
    """Tell libraries that look for proxies themselves; names in lower case win with them."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for name in listed.split(",") if name]
    whole = ",".join([*names, *(name for name in LOOPBACK if name not in names)])
    if "*" not in names:
        os.environ.update(no_proxy=whole, NO_PROXY=whole)
