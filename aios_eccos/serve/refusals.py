"""What models' servers have refused: calls like it are not sent there again while others may serve.

A refusal is believed for an hour, in this process: each kernel learns it by one request that costs
nothing.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from aios_eccos.values import Failure, Query, Refused

#: Seconds for which a refusal is believed: a server may be started anew with a larger window.
BELIEVED_S = 3600.0
#: Shortest prompt whose refusal tells of its length where the server names no window, tokens: no
#: model's window is smaller, so that a shorter one was refused for something else.
LONG_TOKENS = 2048
_LENGTHS = {"context": "more than {} tokens", "output": "answers of {} tokens"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that one model refuses.

    Attributes:
        tokens: for `context` the most that it takes, prompt and answer together; for `output` the
            answer's length that it refuses.
    """

    model: str
    kind: Refused
    tokens: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def words(self) -> str:
        """What is refused, in words that follow the model's name."""
        return f"has refused {_LENGTHS.get(self.kind, self.kind).format(self.tokens)}"

    def concerns(self, query: Query) -> bool:
        """Whether the model would refuse this call, too."""
        answer = query.max_output_tokens or 0
        if self.kind == "context":
            return query.input_tokens + answer > self.tokens
        return answer >= self.tokens if self.kind == "output" else self.kind in query.needs


class Refusals:
    """What was refused lately. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, Refused], Refusal] = {}

    def note(self, model: str, query: Query, failure: Failure) -> None:
        """A model's server has refused a call; keep it if other calls may be like it."""
        kind, tokens = failure.refused, 0
        if kind == "context":
            wanted = query.input_tokens + (query.max_output_tokens or 0)
            tokens = failure.window or (wanted - 1 if query.input_tokens >= LONG_TOKENS else 0)
        elif kind == "output":
            tokens = query.max_output_tokens or 0
        if kind is not None and (tokens or kind in query.needs):
            with self._lock:
                self._known[model, kind] = Refusal(model, kind, tokens)

    def of(self, query: Query) -> dict[str, str]:
        """Models that would refuse a call, and what, in words that follow their names."""
        return {each.model: each.words for each in self.known() if each.concerns(query)}

    def known(self) -> list[Refusal]:
        """All that is believed now."""
        oldest = time.monotonic() - BELIEVED_S
        with self._lock:
            return [each for each in self._known.values() if each.since > oldest]

    def forget(self) -> None:
        """The models may be other ones now."""
        with self._lock:
            self._known.clear()
