"""A steady flow of calls, which goes on whatever happens to what serves it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from integration.load import Client, Reply, percentile

#: Calls a second, evenly spaced, to the kernels in turn.
PER_S = 32.0
#: Each call's own time limit, seconds, and what it may take beyond that to hear so.
LIMIT_S, GRACE_S = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that was sent at `at`, seconds of the monotonic clock."""

    at: float
    reply: Reply

    @property
    def lost(self) -> bool:
        """Not answered, with or without an error, within its time limit."""
        return self.reply.response is None or self.reply.seconds > LIMIT_S + GRACE_S

    @property
    def error(self) -> str | None:
        """What its answer names as the cause, if it is an error."""
        response = self.reply.response or {}
        return str(response["error"]) if response.get("error") else None

    def wait_s(self, model_s: Mapping[str, float]) -> float:
        """How long it took beyond the answer's own time; of an error, all of it."""
        return self.reply.seconds - model_s.get(self.reply.model, 0.0)


class Flow:
    """Sends calls from `start` until `stop`. Their texts begin with `name`, and all differ."""

    def __init__(
        self, name: str, urls: Sequence[str], models: Sequence[str], per_s: float = PER_S
    ) -> None:
        self.sent: list[Sent] = []
        self._name, self._urls, self._models = name, urls, models
        self._every_s = 1 / per_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Sent]:
        """Send no more, and wait for the answers still due."""
        self._stopping.set()
        self._thread.join()
        return self.sent

    async def _run(self) -> None:
        begun, number, calls = time.monotonic(), 0, set[asyncio.Task[None]]()
        while not self._stopping.is_set():
            await asyncio.sleep(begun + number * self._every_s - time.monotonic())
            call = asyncio.create_task(self._call(number))
            calls.add(call)
            call.add_done_callback(calls.discard)
            number += 1
        await asyncio.gather(*calls)

    async def _call(self, number: int) -> None:
        at = time.monotonic()
        client = Client(self._urls[number % len(self._urls)], f"agent{number % 16}", at)
        text = f"{self._name}: what is {number} times {number % 7}?"
        reply = await client.ask(text, self._models, {"deadline_s": LIMIT_S})
        client.close()
        self.sent.append(Sent(at, reply))


def p99_s(calls: Sequence[Sent], model_s: Mapping[str, float]) -> float:
    """The wait that one call of a hundred exceeds, seconds; NaN of none."""
    return percentile([each.wait_s(model_s) for each in calls], 0.99)
