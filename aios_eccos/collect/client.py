"""Client: asks one model as often as it takes. How it is asked is its provider's affair."""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from aios_eccos.collect.endpoints import Endpoint
from aios_eccos.collect.reply import Reply, failed_reply, read_reply
from aios_eccos.collect.slots import Slots
from aios_eccos.errors import ConfigError
from aios_eccos.providers.failures import TIMEOUT, failure_of
from aios_eccos.providers.transport import HttpProvider, LiteLLMProvider, Provider
from aios_eccos.values import Failure

log = logging.getLogger("aios_eccos.collect.client")

#: Parameters that some models refuse, and what is sent instead (None: nothing).
ALTERNATIVES = {"max_tokens": "max_completion_tokens", "temperature": None}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a model is given.

    Attributes:
        attempts: requests for one question, the first among them.
        base_s, cap_s: wait before the second request and at most, doubled each time, with jitter;
            a wait that the server asks for takes their place.
        timeout_s: time for one answer; a timeout is tried again once.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    timeout_s: float = 300.0


class Client:
    """Asks one model; safe to use from several threads. No more waits once `stop` is set."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_tokens: int,
        patience: Patience,
        stop: threading.Event,
        slots: Slots | None = None,
        provider: Provider | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self._stop = stop
        self._slots = slots
        self._provider = provider or open_provider(endpoint)
        self._parameters: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}

    def close(self) -> None:
        self._provider.close()

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
                except Exception as error:  # noqa: BLE001 - whatever a library raises is no answer
                    failure, raised = failure_of(error), error
            timeouts += failure.reason == TIMEOUT.reason
            log.info("%s: attempt %d: %s", self.endpoint.name, attempt, failure.reason)
            if not failure.retryable or timeouts > 1 or attempt == self.patience.attempts:
                break
            if self._stop.wait(self._pause(attempt, failure)):
                return None
        return failed_reply(failure, raised, attempt)

    def _once(self, prompt: str) -> Reply:
        messages = [{"role": "user", "content": prompt}]
        while True:
            parameters = dict(self._parameters)
            request = {"model": self.endpoint.target, "messages": messages, **parameters}
            try:
                body = self._provider.complete(request, self.patience.timeout_s)
                return read_reply(body, prompt)
            except Exception as error:
                status = failure_of(error).status_code
                if status != 400 or not self._adapt(parameters, str(error)):
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

    def _pause(self, attempt: int, failure: Failure) -> float:
        if failure.retry_after_s is not None:
            return failure.retry_after_s
        step = min(self.patience.cap_s, self.patience.base_s * 2.0 ** (attempt - 1))
        return step * random.uniform(0.5, 1.0)


def open_provider(endpoint: Endpoint) -> Provider:
    """HTTP where there is an address, else LiteLLM.

    Raises:
        ConfigError: the address or its proxy cannot be used, or LiteLLM is not installed.
    """
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else None
    try:
        if endpoint.base_url:
            return HttpProvider(endpoint.base_url, key)
        place = {"api_key": key, "api_base": endpoint.api_base}
        return LiteLLMProvider(endpoint.target, place, drop_params=True)
    except ConfigError as error:
        raise ConfigError(f"{endpoint.name}: {error}") from error
