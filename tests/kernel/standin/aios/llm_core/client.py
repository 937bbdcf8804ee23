"""As much of an OpenAI client as the adapter uses, over the standard library."""

import json
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any


class APIStatusError(Exception):
    def __init__(self, code: int, text: str, headers: Any) -> None:
        super().__init__(text)
        self.status_code = code
        self.response = SimpleNamespace(status_code=code, headers=headers)


class APIConnectionError(Exception):
    pass


class APITimeoutError(APIConnectionError):
    pass


class OpenAI:
    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.chat = SimpleNamespace(completions=self)

    def with_options(self, max_retries: int) -> "OpenAI":
        return self

    def create(self, model: str, timeout: Any = None, **body: Any) -> Any:
        data = json.dumps({"model": model, **body}).encode()
        url = f"{self.base_url}/chat/completions"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout.read) as answer:
                return json.load(answer, object_hook=lambda found: Lenient(**found))
        except urllib.error.HTTPError as error:
            raise APIStatusError(error.code, error.read().decode(), error.headers) from error
        except TimeoutError as error:
            raise APITimeoutError("timed out") from error
        except OSError as error:
            raise APIConnectionError(str(error)) from error


class Lenient(SimpleNamespace):
    def __getattr__(self, name: str) -> None:
        return None
