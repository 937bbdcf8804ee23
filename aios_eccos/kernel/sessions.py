"""What is known of conversations between their calls: numbers and names by hashes, never text."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from aios_eccos.errors import WorkloadError
from aios_eccos.kernel.calls import conversation
from aios_eccos.kernel.tool_loops import calls_in, first_call, in_tool_loop, strained
from aios_eccos.values import CallResult, Model, Query, Session
from aios_eccos.workload.memory import MemoryWorkload
from aios_eccos.workload.notes import Finite, read_note
from aios_eccos.workload.store import WorkloadStore

log = logging.getLogger("aios_eccos.kernel.sessions")

#: Seconds that a conversation is remembered after its last call, and while a tool is at work.
REMEMBERED_S, TOOL_S = 600.0, 3600.0
#: Conversations remembered at once in this process; about 50 MB.
MOST = 100_000
#: Conversations that wait to be shared while Redis is out of reach, and told at once after that.
UNSHARED_MOST, AT_ONCE = 1000, 20
#: What kernels share is kept under this name and the conversation's hash.
NOTE = "session:"
#: Share of a model's context window from which on a growing conversation asks for a stronger one.
CROWDED = 0.8
#: A note's shape: the fields of `Known`.
_KNOWN = TypeAdapter(tuple[str, bool, str, bool, dict[str, tuple[int, Finite]]])


@dataclass(frozen=True, slots=True)
class Known:
    """A conversation after one of its calls.

    Attributes:
        model: that served it; escalated: as in `values.Session`.
        called: whether it called tools; call: the id of the first, "" = none.
        read: model -> tokens of the prompt that it has read, and when (since the epoch).
    """

    model: str
    called: bool = False
    call: str = ""
    escalated: bool = False
    read: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def text(self) -> str:
        """As a note for other kernels."""
        return json.dumps([self.model, self.called, self.call, self.escalated, self.read])

    @classmethod
    def of(cls, text: str | None) -> Known | None:
        """A note's inverse; None for what is none, as another version writes."""
        known = read_note(_KNOWN, text)
        return None if known is None else cls(*known)


class Sessions:
    """Conversations by their last call, oldest forgotten first; through Redis for other kernels."""

    def __init__(self, remembered_s: float = REMEMBERED_S, most: int = MOST) -> None:
        self._remembered_s = remembered_s
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Known, float]] = OrderedDict()
        self._unshared: OrderedDict[str, Known] = OrderedDict()

    def remember(self, key: str, known: Known) -> None:
        """The conversation's last call has ended so."""
        until = time.monotonic() + self._keep_s(known)
        with self._lock:
            for name in _names(key, known):
                self._known[name] = known, until
                self._known.move_to_end(name)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def share(self, key: str, known: Known, shared: WorkloadStore) -> None:
        """Let other kernels know, too; what they could not be told before is told with it."""
        if isinstance(shared, MemoryWorkload):
            return
        with self._lock:
            self._unshared[key] = known
            while len(self._unshared) > UNSHARED_MOST:
                self._unshared.popitem(last=False)
            count = 0 if shared.degraded else min(len(self._unshared), AT_ONCE)
            due = [self._unshared.popitem() for _ in range(count)]
        try:
            while due:
                for name in _names(*due[0]):
                    shared.swap_note(NOTE + name, due[0][1].text(), self._keep_s(due[0][1]))
                due.pop(0)
        except WorkloadError as error:
            log.debug("conversations are known to this kernel alone: %s", error)
            with self._lock:
                self._unshared.update(due)

    def recall(self, key: str, call: str = "", shared: WorkloadStore | None = None) -> Known | None:
        """The conversation's last call; None if there was none, or too long ago.

        `call`, the id of its first tool call, tells apart conversations that began alike.
        """
        names = [f"{key}:{call}", key] if call else [key]
        with self._lock:
            mine = [self._known.get(name) for name in names]
        now = time.monotonic()
        for found in mine[:1] if call else mine:
            if found is not None and found[1] > now:
                return found[0]
        noted = self._noted(names, shared)
        if noted is not None:
            return noted
        return next((found[0] for found in mine if found is not None and found[1] > now), None)

    def _noted(self, names: Sequence[str], shared: WorkloadStore | None) -> Known | None:
        """What other kernels know of the first name that any of them knows."""
        if shared is None or not _reaches_others(shared):
            return None
        try:
            notes = shared.notes([NOTE + name for name in names])
        except WorkloadError as error:
            log.debug("what other kernels know of a conversation is out of reach: %s", error)
            return None
        return next((known for note in notes if (known := Known.of(note)) is not None), None)

    def _keep_s(self, known: Known) -> float:
        return max(self._remembered_s, TOOL_S) if known.called else self._remembered_s


def session_of(
    query: Query,
    messages: Sequence[Any],
    sessions: Sessions,
    models: Sequence[Model],
    shared: WorkloadStore | None,
) -> Session | None:
    """The conversation that a call goes on with; None for one that opens it.

    Args:
        models: the pool, which says how long a prompt may be.
    """
    key, looping = conversation(query.agent, messages), in_tool_loop(messages)
    if key is None:
        return Session(in_tool_loop=True) if looping else None
    known = sessions.recall(key, first_call(messages), shared)
    if known is None:
        return Session(in_tool_loop=looping)
    window = next((m.context_window for m in models if m.name == known.model), None)
    crowded = window is not None and query.input_tokens > CROWDED * window
    looping = looping or known.called
    return Session(
        model=known.model,
        read=known.read,
        in_tool_loop=looping,
        strained=looping and (crowded or strained(messages)),
        escalated=known.escalated,
    )


def known_after(settled: CallResult) -> Known | None:
    """What is known of a conversation once a call of it is over; None where none answered."""
    model, query = settled.model, settled.query
    if model is None or settled.answer.failure is not None:
        return None
    before = query.session or Session()
    # A stronger model that has failed at once was the one try, too.
    tried = [attempt.model for attempt in settled.tries[:1]]
    calls = calls_in({"tool_calls": getattr(settled.answer.value, "tool_calls", None)})
    read = query.input_tokens, time.time()
    return Known(
        model=model,
        called=bool(calls),
        call=calls[0].id if calls else "",
        escalated=before.escalated or (before.escalates and tried != [before.stay]),
        read={**before.read, **dict.fromkeys((model, *settled.said), read)},
    )


def _names(key: str, known: Known) -> list[str]:
    return [key, f"{key}:{known.call}"] if known.call else [key]


def _reaches_others(shared: WorkloadStore) -> bool:
    return not shared.degraded and not isinstance(shared, MemoryWorkload)
