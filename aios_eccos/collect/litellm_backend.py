"""The other providers, through LiteLLM (extra `collect`)."""

from __future__ import annotations

import os
from typing import Any

from aios_eccos.collect.client import CallFailed, failed
from aios_eccos.collect.endpoints import Endpoint
from aios_eccos.errors import ConfigError


class LiteLLMBackend:
    """A provider that LiteLLM knows; keys that AIOS's config does not hold are LiteLLM's affair.

    Raises:
        ConfigError: LiteLLM is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        # Its import would fetch prices from the network.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        try:
            import litellm
        except ImportError as error:
            raise ConfigError(
                f"{endpoint.name}: backend {endpoint.backend} needs LiteLLM; install it with "
                "pip install 'aios-eccos[collect]'"
            ) from error
        litellm.telemetry = False
        litellm.suppress_debug_info = True
        self._litellm = litellm
        key = endpoint.api_key
        self._place = {
            "api_key": key.get_secret_value() if key else None,
            "api_base": endpoint.api_base,
        }

    def send(self, request: dict[str, Any], timeout_s: float) -> object:
        """One completion; LiteLLM's own retries are off, as they would not be counted."""
        exceptions = self._litellm.exceptions
        try:
            response = self._litellm.completion(
                **request,
                **self._place,
                timeout=timeout_s,
                num_retries=0,
                max_retries=0,
                drop_params=True,
            )
        except exceptions.Timeout as error:
            raise CallFailed("timeout", str(error)) from error
        except tuple(exceptions.LITELLM_EXCEPTION_TYPES) as error:
            status = getattr(error, "status_code", None)
            if not isinstance(status, int):
                raise CallFailed("connection", str(error)) from error
            response = getattr(error, "response", None)
            headers = getattr(response, "headers", {})
            raise failed(status, str(error), headers.get("retry-after")) from error
        body: object = response.model_dump()
        return body

    def close(self) -> None:
        """LiteLLM keeps its connections itself."""
