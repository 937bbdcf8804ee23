"""Stub model servers in one process: OpenAI's chat completions, told what to do by the prompt.

Run by path with a JSON line on standard input, `{"models": {name: seconds per answer}}`; prints
`{"ports": {...}}` and ends when standard input closes. Directives stand in the last user message:

    [[delay 2.0]]  [[status 500]]  [[close]]  [[half]]  [[hang]]  [[empty]]  [[null]]  [[badjson]]
    [[tool NAME {"a": 1}]]  [[say TEXT]]  [[first DIRECTIVE]] (for the first request of that text)
    [[raw STATUS BODY]]  [[status 429 SECONDS]] (with Retry-After)

Everything else is answered with the model's name and the prompt's last words. `/stats` counts,
`/requests` returns the last bodies, `/answers` how many whole answers each prompt had, `/faults`
injects directives at random shares, `/refuse` drops all connections and takes none for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
from collections import Counter, deque
from typing import Any

DIRECTIVE = re.compile(r"\[\[(first )?(\w+)(?: (.*?))?\]\](?!\])", re.DOTALL)


class Server:
    """One model's server."""

    def __init__(self, name: str, delay_s: float, seed: int = 0) -> None:
        self.name = name
        self.delay_s = delay_s
        self.faults: dict[str, float] = {}
        #: Requests of others that its metrics tell of, and the name under which they do.
        self.others = 0
        self.gauge = f'vllm:num_requests_running{{model_name="{name}"}}'
        #: As Ollama: whether its model is loaded, and seconds that it takes to load it.
        self.loaded, self.load_s = True, 0.0
        self.random = random.Random(f"{seed}:{name}")
        self.requests: deque[dict[str, Any]] = deque(maxlen=5000)
        self.seen: set[str] = set()
        self.count = self.in_flight = self.peak = self.good = 0
        self.by_text: dict[str, list[str]] = {}
        #: Whole answers by prompt.
        self.answers: Counter[str] = Counter()
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Take connections; the port stays the same once it is known."""
        self._listener = await asyncio.start_server(
            self.connect, "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self, seconds: float) -> None:
        """Be as a server that has crashed and comes back."""
        assert self._listener is not None
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(seconds)
        await self.listen()

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.count,
            "good": self.good,
            "in_flight": self.in_flight,
            "peak": self.peak,
        }

    def reset(self) -> None:
        self.count = self.good = 0
        self.peak = self.in_flight
        self.requests.clear()
        self.by_text.clear()
        self.answers.clear()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self.exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        length = 0
        while (header := await reader.readline()) not in (b"\r\n", b""):
            key, _, value = header.decode().partition(":")
            if key.lower() == "content-length":
                length = int(value)
        body = json.loads(await reader.readexactly(length)) if length else {}
        if path.endswith("/chat/completions"):
            return await self.complete(body, reader, writer)
        if path == "/api/generate":
            return await self.generate(writer)
        if path == "/metrics":
            await send(writer, 200, f"{self.gauge} {self.in_flight + self.others}\n".encode())
            return True
        if path == "/refuse":
            await send(writer, 200, b"{}")
            self._writers.discard(writer)
            self.refusing = asyncio.create_task(self.refuse(body["seconds"]))
            return False
        status, answer = self.control(method, path, body)
        await send(writer, status, json.dumps(answer).encode())
        return True

    def control(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/stats":
            return 200, self.stats()
        if path == "/requests":
            return 200, list(self.requests)
        if path == "/texts":
            return 200, self.by_text
        if path == "/answers":
            return 200, self.answers
        if path == "/reset":
            self.reset()
            return 200, {}
        if path == "/faults":
            self.faults = body
            return 200, {}
        if path == "/others":
            self.others = body["requests"]
            self.gauge = body.get("gauge", self.gauge)
            return 200, {}
        if path == "/delay":
            self.delay_s = body["seconds"]
            return 200, {}
        if path.endswith("/models"):
            return 200, {"object": "list", "data": [{"id": self.name, "object": "model"}]}
        if path == "/api/ps":
            return 200, {"models": [{"name": self.name, "model": self.name}] * self.loaded}
        if path == "/loading":
            self.load_s, self.loaded = body["seconds"], False
            return 200, {}
        if path == "/api/tags":
            return 200, {"models": [{"name": self.name}]}
        return 404, {"error": {"message": f"no {method} {path}"}}

    async def generate(self, writer: asyncio.StreamWriter) -> bool:
        """Ollama's own way to ask; its model is loaded first."""
        self.count += 1
        waited = 0.0 if self.loaded else self.load_s
        await asyncio.sleep(waited + self.delay_s)
        self.loaded, self.good = True, self.good + 1
        counts = {"prompt_eval_count": 10, "eval_count": 20, "load_duration": int(waited * 1e9)}
        said = {"model": self.name, "response": f"{self.name}: yes", "done": True, **counts}
        await send(writer, 200, json.dumps(said).encode())
        return True

    async def complete(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.count += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.requests.append(body)
        text = last_user(body.get("messages", []))
        kind, argument = self.directive(text)
        self.by_text.setdefault(text, []).append(kind or "good")
        try:
            if kind == "status" and argument.startswith("429"):
                rest = argument[3:].strip()
                head = f"Retry-After: {rest}\r\n" if rest else ""
                await send(writer, 429, b'{"error": {"message": "slow down"}}', head)
                return True
            seconds = float(argument) if kind == "delay" else self.delay_s
            await answer_time(reader, 3600.0 if kind == "hang" else seconds)
            if kind == "close":
                return False
            if kind == "half":
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [{"mess')
                await writer.drain()
                return False
            if kind == "raw":
                status, _, raw = argument.partition(" ")
                await send(writer, int(status), raw.encode())
                return True
            if kind == "status":
                code = int(argument.split()[0])
                await send(writer, code, b'{"error": {"message": "the stub was told to fail"}}')
                return True
            if kind == "badjson":
                await send(writer, 200, b'{"choices": [{"mess')
                return True
            await send(writer, 200, json.dumps(answer(self.name, text, kind, argument)).encode())
            self.good += kind not in ("empty", "null")
            self.answers[text] += 1
            return True
        finally:
            self.in_flight -= 1

    def directive(self, text: str) -> tuple[str, str]:
        found = DIRECTIVE.search(text)
        if found and not (found[1] and text in self.seen):
            self.seen.add(text)
            return found[2], found[3] or ""
        draw = self.random.random()
        for fault, share in self.faults.items():
            draw -= share
            if draw < 0:
                kind, _, argument = fault.partition(" ")
                return kind, argument
        return "", ""


async def answer_time(reader: asyncio.StreamReader, seconds: float) -> None:
    """Take the answer's time, or end with the client, as a model server does."""
    with contextlib.suppress(asyncio.TimeoutError):
        # A client sends nothing before it has its answer: it has gone.
        await asyncio.wait_for(reader.read(1), seconds)
        raise ConnectionError("the client has gone")


def last_user(messages: list[Any]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            return " ".join(p.get("text", "") for p in content or [] if isinstance(p, dict))
    return ""


def answer(model: str, text: str, kind: str, argument: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": f"{model}: {text[-40:]}"}
    if kind == "say":
        message["content"] = argument
    elif kind == "null":
        message["content"] = None
    elif kind == "tool":
        name, _, arguments = argument.partition(" ")
        function = {"name": name, "arguments": arguments or "{}"}
        message["content"] = ""
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "stub",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [] if kind == "empty" else [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }


async def send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: str = "") -> None:
    head = (
        f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()


async def main() -> None:
    job = json.loads(sys.stdin.readline())
    servers = [Server(name, s, job.get("seed", 0)) for name, s in job["models"].items()]
    for server in servers:
        server.port = job.get("ports", {}).get(server.name, 0)
        await server.listen()
    print(json.dumps({"ports": {server.name: server.port for server in servers}}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
