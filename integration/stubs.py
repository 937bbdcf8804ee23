"""Starts the stub model servers (`stub_child`) and reads what they counted."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("stub_child.py")


class Stubs:
    """Model servers by name; each answers after its delay. A context manager."""

    def __init__(self, models: dict[str, float], seed: int = 0) -> None:
        self.models = models
        self._job = {"models": models, "seed": seed}
        self._process: subprocess.Popen[str] | None = None
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Stubs:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._job) + "\n")
        self._process.stdin.flush()
        self._ports = json.loads(self._process.stdout.readline())["ports"]
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def url(self, model: str) -> str:
        """The model's OpenAI base URL."""
        return f"http://127.0.0.1:{self._ports[model]}/v1"

    def stats(self, model: str) -> dict[str, int]:
        """Requests, good answers, in flight and peak."""
        counted: dict[str, int] = self.control(model, "/stats")
        return counted

    def requests(self, model: str) -> list[dict[str, Any]]:
        """Bodies of the last requests."""
        bodies: list[dict[str, Any]] = self.control(model, "/requests")
        return bodies

    def texts(self, model: str) -> dict[str, list[str]]:
        """By prompt, what each request of it was given."""
        found: dict[str, list[str]] = self.control(model, "/texts")
        return found

    def faults(self, model: str, shares: dict[str, float]) -> None:
        """From now on, give shares of the requests these directives."""
        self.control(model, "/faults", shares)

    def reset(self) -> None:
        """Zero all counters."""
        for model in self.models:
            self.control(model, "/reset", {})

    def control(self, model: str, path: str, body: Any = None) -> Any:
        """A control request to the model's server."""
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self._ports[model]}{path}", data, 10) as response:
            return json.load(response)
