"""What models' servers do just now: requests that fail one after another, or get no answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from aios_eccos.values import Failure

#: Failures in a row that are said, and for how long after the last.
IN_A_ROW, SAID_S = 3, 60.0
#: A server is silent after so many times what its answers usually take, and no sooner than so many
#: seconds.
SILENT, SILENT_S = 10.0, 2.0


@dataclass(slots=True)
class _Server:
    """Requests of one model under way, by their beginnings, and how the last ones ended."""

    waiting: list[float]
    failures: int = 0
    last: Failure | None = None
    ended: float = 0.0


class ModelHealth:
    """Follows requests to models' servers. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}

    def begun(self, model: str, at: float) -> None:
        """A request has begun at `at`, seconds of the monotonic clock."""
        with self._lock:
            self._servers.setdefault(model, _Server([])).waiting.append(at)

    def ended(self, model: str, begun: float, failure: Failure | None, *, own: bool) -> None:
        """That request is over; `own`: if it failed, that says nothing of the server."""
        with self._lock:
            server = self._servers[model]
            server.waiting.remove(begun)
            if failure is not None and (own or failure.refused is not None):
                return
            server.failures = 0 if failure is None else server.failures + 1
            server.last, server.ended = failure, time.monotonic()

    def warnings(self, usual_s: dict[str, float]) -> list[str]:
        """What is wrong with servers now; `usual_s`: seconds that models' answers take."""
        now = time.monotonic()
        with self._lock:
            said = (_of(name, each, now, usual_s.get(name)) for name, each in self._servers.items())
            return [text for text in said if text]


def _of(name: str, server: _Server, now: float, usual_s: float | None) -> str:
    if server.failures >= IN_A_ROW and server.last is not None and now < server.ended + SAID_S:
        why = f"{server.last.reason} ({server.last.status_code})"
        return f"{name}: its last {server.failures} requests have failed, {why}: look at its server"
    answered = server.ended if server.last is None else 0.0
    silent_s = now - max(answered, min(server.waiting, default=now))
    if usual_s is None or silent_s < max(SILENT * usual_s, SILENT_S):
        return ""
    waiting = f"{len(server.waiting)} request" + ("s" if len(server.waiting) > 1 else "")
    silent = f"{waiting} without an answer for {silent_s:.0f} s, which usually takes {usual_s:.1f}"
    return f"{name}: {silent}: look at its server"
