"""Client: asks one model over HTTP or through LiteLLM, with retries.

Both ways give the body of an OpenAI chat completion or raise `CallFailed`; when to try again is
decided here for both. Keys go into headers and nowhere else.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from aios_eccos.collect.endpoints import Endpoint
from aios_eccos.collect.reply import Reply, read_reply
from aios_eccos.collect.slots import Slots
from aios_eccos.errors import ConfigError, EccosError

log = logging.getLogger("aios_eccos.collect.client")

#: Parameters that some models refuse, and what is sent instead (None: nothing).
ALTERNATIVES = {"max_tokens": "max_completion_tokens", "temperature": None}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a model is given.

    Attributes:
        attempts: requests for one question, the first among them.
        base_s, cap_s: wait before the second request and at most; doubled each time, with jitter.
        timeout_s: time for one answer; a timeout is tried again once.
        retry_after_s: most that a server's Retry-After is obeyed.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    timeout_s: float = 300.0
    retry_after_s: float = 120.0


class CallFailed(EccosError):
    """A request brought no answer.

    Args:
        reason: short, for the record: a status, "timeout", "connection", "malformed".
        detail: what the server said, for the log.
        transient: whether trying again may help.
        retry_after_s: how long the server asks to wait.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        transient: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}"[:300])
        self.reason = reason
        self.detail = detail
        self.transient = transient
        self.retry_after_s = retry_after_s


class Backend(Protocol):
    """Sends one request and returns the completion's body."""

    def send(self, request: dict[str, Any], timeout_s: float) -> object:
        """Raises CallFailed."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class Client:
    """Asks one model; safe to use from several threads.

    Args:
        stop: set when the run ends early; waits end then.
        slots: where every request borrows a slot of the model; None where no kernel lends any.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_tokens: int,
        patience: Patience,
        stop: threading.Event,
        slots: Slots | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self._stop = stop
        self._slots = slots
        self._backend = backend or open_backend(endpoint)
        self._parameters: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}

    def close(self) -> None:
        """Give back connections."""
        self._backend.close()

    def ask(self, prompt: str) -> Reply | None:
        """The model's reply, after as many attempts as it takes; None if the run was stopped."""
        timeouts = 0
        for attempt in range(1, self.patience.attempts + 1):
            with self._slots.one(self.endpoint.model) if self._slots else nullcontext(True) as lent:
                if not lent:
                    return None
                started = time.perf_counter()
                try:
                    reply = self._once(prompt)
                    return replace(reply, latency_s=time.perf_counter() - started, attempts=attempt)
                except CallFailed as error:
                    failure = error
            timeouts += failure.reason == "timeout"
            log.info("%s: attempt %d: %s", self.endpoint.name, attempt, failure.reason)
            if not failure.transient or timeouts > 1 or attempt == self.patience.attempts:
                break
            if self._stop.wait(self._pause(attempt, failure)):
                return None
        return Reply("error", error=failure.reason, attempts=attempt)

    def _once(self, prompt: str) -> Reply:
        messages = [{"role": "user", "content": prompt}]
        while True:
            parameters = dict(self._parameters)
            request = {"model": self.endpoint.target, "messages": messages, **parameters}
            try:
                body = self._backend.send(request, self.patience.timeout_s)
                return read_reply(body, prompt)
            except ValueError as error:
                raise CallFailed("malformed", str(error)) from error
            except CallFailed as error:
                if error.reason != "400" or not self._adapt(parameters, error.detail):
                    raise

    def _adapt(self, sent: dict[str, Any], complaint: str) -> bool:
        """Send another parameter where the model refuses one; whether there is something to try.

        Reasoning models want `max_completion_tokens`, and some no temperature but their own.
        """
        for name, instead in ALTERNATIVES.items():
            if name in sent and (name in complaint or (instead or name) in complaint):
                changed = {k: v for k, v in sent.items() if k != name}
                self._parameters = changed | ({instead: sent[name]} if instead else {})
                log.warning("%s refuses %s; asked without it", self.endpoint.name, name)
                return True
        return False

    def _pause(self, attempt: int, failure: CallFailed) -> float:
        if failure.retry_after_s is not None:
            return min(failure.retry_after_s, self.patience.retry_after_s)
        step = min(self.patience.cap_s, self.patience.base_s * 2.0 ** (attempt - 1))
        return step * random.uniform(0.5, 1.0)


def open_backend(endpoint: Endpoint) -> Backend:
    """HTTP where there is an address, else LiteLLM."""
    if endpoint.base_url:
        return HttpBackend(endpoint)
    from aios_eccos.collect.litellm_backend import LiteLLMBackend

    return LiteLLMBackend(endpoint)


class HttpBackend:
    """An OpenAI-compatible server."""

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx

        key = endpoint.api_key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        try:
            # As many connections as the collector has threads for this model.
            limits = httpx.Limits(max_connections=None)
            self._client = httpx.Client(base_url=endpoint.base_url, headers=headers, limits=limits)
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigError(f"{endpoint.name}: hostname {endpoint.base_url}: {error}") from error

    def send(self, request: dict[str, Any], timeout_s: float) -> object:
        """POST one completion."""
        import httpx

        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        try:
            response = self._client.post("chat/completions", json=request, timeout=timeout)
        except httpx.TimeoutException as error:
            raise CallFailed("timeout", repr(error)) from error
        except httpx.TransportError as error:
            raise CallFailed("connection", repr(error)) from error
        status = response.status_code
        if status == 200:
            return response.json()
        raise failed(status, response.text, response.headers.get("retry-after"))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def failed(status: int, detail: str, retry_after: str | None) -> CallFailed:
    """The failure that an HTTP status means."""
    try:
        wait = max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        wait = None  # a date; the own backoff will do
    transient = status in (408, 409, 425, 429) or status >= 500
    return CallFailed(str(status), detail, transient=transient, retry_after_s=wait)
