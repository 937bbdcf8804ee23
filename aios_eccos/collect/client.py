"""Client: where a configured model is asked, and asking it as often as it takes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from aios_eccos.collect.reply import Reply, failed_reply, read_reply
from aios_eccos.collect.slots import Slots
from aios_eccos.config import ModelEntry, parse_models
from aios_eccos.errors import ConfigError
from aios_eccos.forecast.pricing import with_facts
from aios_eccos.locate import Location, environment_key, mapping_of, read_document
from aios_eccos.providers.failures import TIMEOUT, failure_of
from aios_eccos.providers.transport import HttpProvider, LiteLLMProvider, Provider
from aios_eccos.values import Failure, Model

#: Backends that speak OpenAI's protocol, and where they listen if no hostname is given.
HTTP_BACKENDS: dict[str, str | None] = {
    "vllm": None,
    "sglang": None,
    "openai": "https://api.openai.com/v1",
    "ollama": "http://localhost:11434/v1",
}
#: What AIOS calls a provider, and what LiteLLM does.
LITELLM_NAMES = {"google": "gemini"}
#: AIOS loads these models into its own process, where nobody else can ask them.
IN_AIOS = ("huggingface", "local")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model that can be asked.

    `base_url` is of the OpenAI-compatible API, empty where LiteLLM finds the way with `api_base`;
    `target`: the server's name for the model; `cached_price`: of a cached prompt token, dollars.
    """

    model: Model
    base_url: str
    target: str
    api_base: str | None = None
    cached_price: float | None = None
    api_key: SecretStr | None = None

    @property
    def name(self) -> str:
        return self.model.name


def load_endpoints(
    location: Location,
    models_file: Path | None = None,
    wanted: Sequence[str] | None = None,
    prices: Mapping[str, tuple[float, float]] | None = None,
) -> list[Endpoint]:
    """The models of `models_file`, else of AIOS's config.yaml, ready to be asked.

    Args:
        models_file: YAML or JSON, a list as under `llms.models` or a whole config.yaml.
        prices: dollars per input and output token by name, instead of the configured ones.

    Raises:
        ConfigError: no models, an unknown name, or a model that cannot be asked from here.
    """
    path = models_file or location.config_path
    if path is None:
        raise ConfigError("no models: name AIOS's checkout (--aios-home) or a --models-file")
    entries, keys = _read(path)
    names = [entry.name for entry in entries]
    for name in [*(wanted or []), *(prices or {})]:
        if name not in names:
            raise ConfigError(f"model {name!r} is not in {path}; there are: {', '.join(names)}")
    chosen = [entry for entry in entries if wanted is None or entry.name in wanted]
    return [_endpoint(entry, keys, (prices or {}).get(entry.name)) for entry in chosen]


def _read(path: Path) -> tuple[list[ModelEntry], Mapping[str, Any]]:
    raw = read_document(path)
    if isinstance(raw, list):
        return parse_models(raw), {}
    config = mapping_of(raw, str(path))
    llms, keys = config.get("llms"), config.get("api_keys")
    models = llms.get("models") if isinstance(llms, Mapping) else config.get("models")
    return parse_models(models), keys if isinstance(keys, Mapping) else {}


def _endpoint(
    entry: ModelEntry, keys: Mapping[str, Any], price: tuple[float, float] | None
) -> Endpoint:
    model = with_facts(entry.model(), entry.backend)
    if price is not None:
        model = replace(model, input_price=price[0], output_price=price[1])
    if entry.backend in IN_AIOS:
        raise ConfigError(
            f"{entry.name}: AIOS loads it into its own process, so it cannot be asked from here; "
            "name the others with --models"
        )
    speaks_http = entry.backend in HTTP_BACKENDS or (not entry.backend and entry.hostname)
    url = entry.hostname or HTTP_BACKENDS.get(entry.backend) if speaks_http else ""
    if speaks_http and not url:
        raise ConfigError(f"{entry.name}: backend {entry.backend} needs a hostname")
    provider = LITELLM_NAMES.get(entry.backend, entry.backend)
    return Endpoint(
        model=model,
        base_url=_base_url(url) if url else "",
        target=entry.name if url or not provider else f"{provider}/{entry.name}",
        api_base=None if url else entry.hostname,
        cached_price=entry.cache_read_input_token_cost,
        api_key=_key(entry, keys, provider),
    )


def _base_url(url: str) -> str:
    """AIOS writes `http://host:port/v1` for vLLM and `http://host:port` for Ollama."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") or "/v1"
    return parts._replace(path=path).geturl()


def _key(entry: ModelEntry, keys: Mapping[str, Any], provider: str) -> SecretStr | None:
    """The model's own key, else AIOS's for the provider, else the environment's."""
    if entry.api_key is not None:
        return entry.api_key
    for name in (entry.backend, provider):
        if isinstance(keys.get(name), str) and keys[name]:
            return SecretStr(keys[name])
    found = environment_key(provider) if provider == "openai" else None
    return SecretStr(found) if found else None


log = logging.getLogger("aios_eccos.collect.client")

#: Parameters that some models refuse, and what is sent instead (None: nothing).
ALTERNATIVES = {"max_tokens": "max_completion_tokens", "temperature": None}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a model is given: `attempts` requests for one question, `timeout_s` for an answer.

    The wait before the second request is `base_s`, doubled each time up to `cap_s`, with jitter,
    unless the server asks for another. A timeout is tried again once.
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
        self.endpoint, self.patience = endpoint, patience
        self._stop, self._slots = stop, slots
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
                return read_reply(body, request)
            except Exception as error:
                status = failure_of(error).status_code
                if status != 400 or not self._adapt(parameters, str(error)):
                    raise

    def _adapt(self, sent: dict[str, Any], complaint: str) -> bool:
        """Send another parameter where the model refuses one; False if there is none to try."""
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
    """HTTP where there is an address, else LiteLLM; ConfigError if that cannot be used."""
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else None
    try:
        if endpoint.base_url:
            return HttpProvider(endpoint.base_url, key)
        place = {"api_key": key, "api_base": endpoint.api_base}
        return LiteLLMProvider(endpoint.target, place, drop_params=True)
    except ConfigError as error:
        raise ConfigError(f"{endpoint.name}: {error}") from error
