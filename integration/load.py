"""Sends LLM calls to a kernel's HTTP side and times them, without costing the kernel much."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

#: A call that takes longer is lost.
LOST_S = 120.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One call as its agent saw it.

    Attributes:
        model: that the call was pinned to, or that answered.
        started: seconds since the run's start.
        seconds: from sending to the whole answer.
        response: the LLMResponse, None if the call was lost.
    """

    text: str
    model: str
    started: float
    seconds: float
    response: dict[str, Any] | None

    @property
    def good(self) -> bool:
        """Whether it was answered without an error."""
        return self.response is not None and not self.response.get("error")


@dataclass(slots=True)
class Client:
    """One agent with one kept-alive connection."""

    url: str
    agent: str = "agent"
    begun: float = field(default_factory=time.monotonic)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self,
        text: str,
        llms: Sequence[str] | None = None,
        hints: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Reply:
        """One call; lost calls have no response. With `hints`, naming models pins it to none."""
        more = {"eccos": hints} if hints else {}
        data = {
            "messages": [{"role": "user", "content": text}],
            "llms": [{"name": name, **more} for name in llms] if llms else None,
            "action_type": "chat",
            **fields,
        }
        body = {"query_type": "llm", "agent_name": self.agent, "query_data": data}
        started = time.monotonic()
        try:
            raw = await asyncio.wait_for(self._post(json.dumps(body).encode()), LOST_S)
            response = json.loads(raw).get("response")
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.TimeoutError):
            self._streams, response = None, None
        seconds = time.monotonic() - started
        model = llms[0] if llms and not hints else served_by(response)
        return Reply(text, model, started - self.begun, seconds, response)

    async def _post(self, body: bytes) -> bytes:
        parts = urlsplit(self.url)
        if self._streams is None:
            self._streams = await asyncio.open_connection(parts.hostname, parts.port)
        reader, writer = self._streams
        head = (
            f"POST /query HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        status = await reader.readline()
        if not status:
            raise ConnectionError("closed")
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            key, _, value = line.decode().partition(":")
            if key.lower() == "content-length":
                length = int(value)
        return await reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def served_by(response: dict[str, Any] | None) -> str:
    """Which stub answered: its answers begin with its model's name."""
    text = (response or {}).get("response_message") or ""
    return str(text).split(":")[0]


def run(work: Coroutine[Any, Any, list[Reply]]) -> list[Reply]:
    """Run a load to its end."""
    return asyncio.run(work)


def order(calls: int, share: dict[str, float], seed: int | None) -> list[str]:
    """The models of a trace's calls, in the order of their arrival.

    In exact shares: shuffled by `seed`, or, without one, at every call the model that is furthest
    behind its share.
    """
    if seed is not None:
        models = [name for name, part in share.items() for _ in range(round(calls * part))]
        random.Random(seed).shuffle(models)
        return models
    mixed: list[str] = []
    for number in range(1, calls + 1):
        mixed.append(max(share, key=lambda name: share[name] * number - mixed.count(name)))
    return mixed


async def trace(
    url: str,
    calls: int,
    per_second: float,
    share: dict[str, float],
    seed: int | None,
    pinned: bool = True,
) -> list[Reply]:
    """Open load: calls at even spaces of time, each pinned to the model that `order` gives it."""
    models = order(calls, share, seed)
    begun = time.monotonic()

    async def one(index: int, model: str) -> Reply:
        await asyncio.sleep(begun + index / per_second - time.monotonic())
        client = Client(url, f"agent{index % 8}", begun)
        try:
            return await client.ask(f"call {index}", [model] if pinned else None)
        finally:
            client.close()

    return list(await asyncio.gather(*(one(i, model) for i, model in enumerate(models))))


async def closed(url: str, clients: int, seconds: float, model: str) -> list[Reply]:
    """Closed load: every client sends its next call when the last is answered."""
    begun = time.monotonic()

    async def one(number: int) -> list[Reply]:
        client = Client(url, f"agent{number}", begun)
        replies: list[Reply] = []
        while time.monotonic() < begun + seconds:
            replies.append(await client.ask(f"client {number} call {len(replies)}", [model]))
        client.close()
        return replies

    return [reply for part in await asyncio.gather(*map(one, range(clients))) for reply in part]


async def burst(url: str, calls: int, model: str) -> list[Reply]:
    """All calls at once."""
    begun = time.monotonic()
    clients = [Client(url, f"agent{i}", begun) for i in range(calls)]
    replies = await asyncio.gather(
        *(client.ask(f"burst {i}", [model]) for i, client in enumerate(clients))
    )
    for client in clients:
        client.close()
    return list(replies)


async def lone(url: str, calls: int, model: str) -> list[Reply]:
    """Calls to one model, one after the other."""
    return await each(url, [f"lone {i}" for i in range(calls)], [model])


async def each(url: str, texts: Sequence[str], models: Sequence[str] | None = None) -> list[Reply]:
    """One call for each text, one after the other."""
    client = Client(url)
    replies = [await client.ask(text, models) for text in texts]
    client.close()
    return replies


async def agents(url: str, count: int, calls: int, models: Sequence[str] | None) -> list[Reply]:
    """Agents that each send `calls` calls, one after the other, with unlike texts."""
    begun = time.monotonic()

    async def one(number: int) -> list[Reply]:
        client = Client(url, f"agent{number}", begun)
        replies = [await client.ask(f"agent {number} call {i}", models) for i in range(calls)]
        client.close()
        return replies

    return [reply for part in await asyncio.gather(*map(one, range(count))) for reply in part]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def median(values: Sequence[float]) -> float:
    """The median; NaN of none."""
    return statistics.median(values) if values else float("nan")


def rate(replies: Sequence[Reply]) -> float:
    """Answers per second, from the first sending to the last answer."""
    ends = [reply.started + reply.seconds for reply in replies]
    starts = [reply.started for reply in replies]
    return len(replies) / (max(ends) - min(starts))
