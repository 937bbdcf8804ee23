"""Which model a conversation was last with. Hashes only, never text, and for ten minutes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

#: Seconds that a conversation is remembered after its last call.
REMEMBERED_S = 600.0
#: Conversations remembered at once; about 20 MB.
MOST = 100_000


class Sessions:
    """Model by conversation, oldest forgotten first."""

    def __init__(self, remembered_s: float = REMEMBERED_S, most: int = MOST) -> None:
        self._remembered_s = remembered_s
        self._most = most
        self._lock = threading.Lock()
        self._models: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def remember(self, key: str, model: str) -> None:
        """The conversation's last call was served by `model`."""
        with self._lock:
            self._models[key] = (model, time.monotonic() + self._remembered_s)
            self._models.move_to_end(key)
            while len(self._models) > self._most:
                self._models.popitem(last=False)

    def recall(self, key: str | None) -> str | None:
        """The model of the conversation; None if there was none, or too long ago."""
        if key is None:
            return None
        with self._lock:
            model, until = self._models.get(key, ("", 0.0))
        return model if until > time.monotonic() else None
