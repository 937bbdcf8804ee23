"""Endpoint: where a configured model is asked, and what its tokens cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import SecretStr

from aios_eccos.config import ModelEntry, parse_models
from aios_eccos.errors import ConfigError
from aios_eccos.forecast.pricing import with_facts
from aios_eccos.locate import Location, environment_key, read_yaml
from aios_eccos.values import Model

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

    Attributes:
        base_url: of the OpenAI-compatible API; empty where LiteLLM finds the way.
        target: the name that the server knows the model by.
        api_base: address that LiteLLM is told, if the configuration names one.
        cached_price: dollars per cached prompt token; None = the full input price.
    """

    model: Model
    backend: str
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
        wanted: names; None means all.
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
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if isinstance(raw, list):
        return parse_models(raw), {}
    config = read_yaml(path)
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
        backend=entry.backend,
        base_url=_base_url(entry.name, url) if url else "",
        target=entry.name if url or not provider else f"{provider}/{entry.name}",
        api_base=None if url else entry.hostname,
        cached_price=entry.cache_read_input_token_cost,
        api_key=_key(entry, keys, provider),
    )


def _base_url(name: str, url: str) -> str:
    """AIOS writes `http://host:port/v1` for vLLM and `http://host:port` for Ollama."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name}: hostname = {url!r}: wanted http(s)://host:port/v1")
    path = parts.path.rstrip("/") or "/v1"
    return parts._replace(path=path).geturl()


def _key(entry: ModelEntry, keys: Mapping[str, Any], provider: str) -> SecretStr | None:
    """The model's own key, else AIOS's for the provider, else the environment's."""
    if entry.api_key is not None:
        return entry.api_key
    for name in (entry.backend, provider):
        if isinstance(keys.get(name), str) and keys[name]:
            return SecretStr(keys[name])
    found = environment_key(provider) if provider in ("openai",) else None
    return SecretStr(found) if found else None
