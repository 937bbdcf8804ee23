"""Ollama's models, which it unloads when nobody asks them: what loading one again takes.

Ollama tells which are loaded, off the path of calls. How long loading takes is measured on our own
requests: LiteLLM, through which AIOS asks Ollama, drops what Ollama's answers say of that.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from aios_eccos.config import ModelEntry
from aios_eccos.providers.wire import mapping
from aios_eccos.values import CallResult

#: Where Ollama is if the configuration does not say.
USUAL_PLACE = "http://localhost:11434"
#: Seconds for which a look counts; seconds per output token where none was measured.
COUNTS_S, USUAL_PACE = 5.0, 0.02


@dataclass(slots=True)
class Seen:
    """One model: whether it is loaded, since when that is known (`time.monotonic()`), last look."""

    loaded: bool
    since: float
    at: float


@dataclass(slots=True)
class Loading:
    """Which models are loaded, and how long loading takes. Safe to use from any thread.

    Attributes:
        hosts: by model, the address of its Ollama.
    """

    hosts: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, Seen] = field(default_factory=dict)
    #: Seconds and output tokens of the last request that had to wait for loading.
    _waited: dict[str, tuple[float, int]] = field(default_factory=dict)
    #: Fewest seconds per output token of a request that had not.
    _pace: dict[str, float] = field(default_factory=dict)

    def use(self, entries: Sequence[ModelEntry]) -> None:
        """Look at these models from now on, as far as they are Ollama's."""
        self.hosts = {e.name: _host(e) for e in entries if e.backend == "ollama"}

    def look(self, host: str, fetch: Callable[[str], str]) -> None:
        """Ask a host which of its models are loaded; raises what `fetch` does, and ValueError."""
        loaded = loaded_in(fetch(f"{host}/api/ps"))
        now = time.monotonic()
        for name in [name for name, at in self.hosts.items() if at == host]:
            is_loaded = not loaded.isdisjoint((name, f"{name}:latest"))
            before = self._seen.get(name)
            if before is not None and before.loaded == is_loaded:
                before.at = now
            else:
                self._seen[name] = Seen(is_loaded, -math.inf if before is None else now, now)

    def note(self, result: CallResult) -> None:
        """A call has just been settled: learn from its last request."""
        last = result.tries[-1] if result.tries else None
        seen = self._seen.get(last.model) if last is not None else None
        if last is None or seen is None or last.failure is not None or not last.output_tokens:
            return
        begun = time.monotonic() - last.seconds
        # A request that began before its model was loaded has waited for that.
        if (begun < seen.since) is seen.loaded:
            self._waited[last.model] = last.seconds, last.output_tokens
        else:
            pace = last.seconds / last.output_tokens
            self._pace[last.model] = min(pace, self._pace.get(last.model, pace))

    def tokens(self) -> Mapping[str, float]:
        """For models not loaded now, output tokens that they could write in the time of loading."""
        oldest = time.monotonic() - COUNTS_S
        unloaded = [n for n, seen in [*self._seen.items()] if not seen.loaded and seen.at >= oldest]
        return {name: self._tokens(name) for name in unloaded if name in self._waited}

    def _tokens(self, name: str) -> float:
        seconds, tokens = self._waited[name]
        pace = self._pace.get(name, USUAL_PACE)
        return max(seconds - tokens * pace, 0.0) / pace


def loaded_in(text: str) -> set[str]:
    """The names of loaded models in the answer to /api/ps.

    Raises:
        ValueError: it is none.
    """
    try:
        listed = mapping(json.loads(text)).get("models")
    except RecursionError as error:
        raise ValueError("nested past all use") from error
    if not isinstance(listed, list):
        raise ValueError("no models of Ollama")
    found = [mapping(each).get(key) for each in listed for key in ("name", "model")]
    return {name for name in found if isinstance(name, str)}


def _host(entry: ModelEntry) -> str:
    parts = urlsplit(entry.hostname or USUAL_PLACE)
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))
