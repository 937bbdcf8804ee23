"""A call of the kernel under way, and how it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aios_eccos.kernel.aios_types import Syscall
from aios_eccos.kernel.calls import Caller, turn
from aios_eccos.values import CallResult, Query


@dataclass(frozen=True)
class Ticket:
    """A call under way: the kernel's side and ours.

    Attributes:
        query: what is served; in observe mode it allows AIOS's choice and nothing else.
        asked: what the agent asked for.
    """

    syscall: Syscall
    query: Query
    caller: Caller | None
    asked: Query

    @cached_property
    def turn(self) -> str:
        """Key under which the conversation's next call finds this one's model."""
        return turn(self.query.agent, self.syscall.query.messages)


def settle(syscall: Syscall, response: Any) -> None:
    """End a kernel's call: as `done`, whatever the response says, and the event last.

    Any other status makes AIOS submit the call again; an event that comes first lets the agent
    read a call that is half ended.
    """
    now = time.time()
    if syscall.get_start_time() is None:
        syscall.set_start_time(now)
    syscall.set_response(response)
    syscall.set_end_time(now)
    syscall.set_status("done")
    syscall.event.set()


def summary(settled: CallResult) -> dict[str, Any]:
    """What is shown of a call that is over; none of its text."""
    decision, failure = settled.decision, settled.answer.failure
    return {
        "id": settled.query.id,
        "agent": settled.query.agent[:64],
        "model": decision.model if decision is not None else None,
        "reason": decision.reason if decision is not None else "never decided",
        "error": failure.reason if failure is not None else None,
        "attempts": settled.attempts,
        "waited_s": round(settled.waited_s, 4),
        "served_s": round(settled.served_s, 4),
    }
