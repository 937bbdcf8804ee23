"""Which model a conversation was last with. Hashes only, never text, and for ten minutes."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.kernel.sessions")

#: Seconds that a conversation is remembered after its last call.
REMEMBERED_S = 600.0
#: Conversations remembered at once in this process; about 20 MB.
MOST = 100_000
#: What kernels share is kept under this name and the conversation's hash.
NOTE = "session:"


class Sessions:
    """Model by conversation, oldest forgotten first; through Redis for other kernels too."""

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

    def share(self, key: str, model: str, shared: WorkloadStore) -> None:
        """Let other kernels know, too."""
        if not _reaches_others(shared):
            return
        try:
            shared.swap_note(NOTE + key, model, self._remembered_s)
        except WorkloadError as error:
            log.debug("a conversation is known to this kernel alone: %s", error)

    def recall(self, key: str | None, shared: WorkloadStore | None = None) -> str | None:
        """The model of the conversation; None if there was none, or too long ago."""
        if key is None:
            return None
        with self._lock:
            model, until = self._models.get(key, ("", 0.0))
        if until > time.monotonic():
            return model
        if shared is None or not _reaches_others(shared):
            return None
        try:
            return shared.notes([NOTE + key])[0]
        except WorkloadError as error:
            log.debug("what other kernels know of a conversation is out of reach: %s", error)
            return None


def _reaches_others(shared: WorkloadStore) -> bool:
    return not shared.degraded and not isinstance(shared, MemoryWorkload)
