"""The replay servers' process: one OpenAI-compatible HTTP server per model, standard library only.

`replay_server.ReplayServers` runs this file by its path, isolated (`python -I`), so that it starts
in a fraction of a second whatever the package imports. It reads one JSON line from stdin (see
`ReplayServers._job`), writes one JSON line `{"ports": {model: port}}`, and ends when stdin does:
the kernel closes that pipe also when the parent is killed.

A protocol with timers, not a thread per connection: a thousand answers may be waiting at once and
each is due at its own time. asyncio sets TCP_NODELAY by itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

HEADER_END = b"\r\n\r\n"
#: Larger requests are refused, so that a runaway client cannot fill the memory.
MAX_REQUEST_BYTES = 64 * 1024 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 411: "Length Required"}
REASONS |= {413: "Content Too Large", 429: "Too Many Requests"}
REASONS |= {500: "Internal Server Error", 503: "Service Unavailable"}


class Replay:
    """One model's recorded answers, its faults and its counters.

    Args:
        name: the model's name.
        job: what the parent sent: answers, default answer, seconds_per_token, faults, seed.
    """

    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.name = name
        self.answers: dict[str, dict[str, Any]] = job["answers"].get(name, {})
        self.default: dict[str, Any] = job["default"]
        self.seconds_per_token: float = job["seconds_per_token"]
        self.retry_after_s: float | None = job["retry_after_s"]
        self.faults: dict[str, float] = job["faults"]
        self.random = random.Random(f"{job['seed']}:{name}")
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start counting anew; calls in flight stay in flight."""
        self.requests = self.answered = self.unknown = self.repeated = self.abandoned = 0
        self.peak_in_flight = self.in_flight
        self.injected: dict[str, int] = {}
        self.seen: set[str] = set()

    def stats(self) -> dict[str, Any]:
        names = ("requests", "answered", "unknown", "repeated", "abandoned", "in_flight")
        return {n: getattr(self, n) for n in (*names, "peak_in_flight")} | {
            "faults": dict(self.injected)
        }

    def enter(self, text: str) -> dict[str, Any]:
        """Count a request in and return its recorded answer."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self.repeated += text in self.seen
        self.seen.add(text)
        answer = self.answers.get(text)
        self.unknown += answer is None
        return answer or self.default

    def draw_fault(self) -> str | None:
        """The fault of this request, if it gets one; draws once, in order of arrival."""
        point = self.random.random()
        for kind, share in self.faults.items():
            if point < share:
                self.injected[kind] = self.injected.get(kind, 0) + 1
                return kind
            point -= share
        return None


def question_of(body: dict[str, Any]) -> str:
    """The last user message's text; parts of a list content are joined."""
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return "".join(str(part.get("text", "")) for part in content)
            return str(content or "")
    return ""


def completion(model: str, number: int, answer: dict[str, Any]) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": answer["content"]}
    finish = "length" if answer["truncated"] else "stop"
    used = {"prompt_tokens": answer["input_tokens"], "completion_tokens": answer["output_tokens"]}
    return {
        "id": f"replay-{model}-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": used | {"total_tokens": sum(used.values())},
    }


class Connection(asyncio.Protocol):
    """One client connection, kept alive; one request at a time (no pipelining)."""

    def __init__(self, replay: Replay, all_replays: dict[str, Replay]) -> None:
        self.replay = replay
        self.all = all_replays
        self.buffer = bytearray()
        self.timer: asyncio.TimerHandle | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """A client that hangs up gives its slot back, as a real server's would."""
        if self.timer is not None:
            self.timer.cancel()
        if self.busy:
            self.busy = False
            self.replay.in_flight -= 1
            self.replay.abandoned += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self.next_request()

    def next_request(self) -> None:
        """Serve the next request, if the buffer holds a whole one."""
        end = self.buffer.find(HEADER_END)
        if end < 0:
            return
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (li.partition(":") for li in lines)}
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit():
            self.send(411, {"error": {"message": "send Content-Length"}}, close=True)
        elif int(length) > MAX_REQUEST_BYTES:
            self.send(413, {"error": {"message": "request too large"}}, close=True)
        elif len(self.buffer) >= end + len(HEADER_END) + int(length):
            start = end + len(HEADER_END)
            body = bytes(self.buffer[start : start + int(length)])
            del self.buffer[: start + int(length)]
            method, _, rest = first.partition(" ")
            self.serve(method, rest.partition(" ")[0], body)

    def serve(self, method: str, path: str, body: bytes) -> None:
        if (method, path) == ("POST", "/v1/chat/completions"):
            self.complete(body)
        elif (method, path) == ("GET", "/v1/models"):
            model = {"id": self.replay.name, "object": "model", "owned_by": "aios-eccos"}
            self.send(200, {"object": "list", "data": [model]})
        elif (method, path) == ("GET", "/stats"):
            self.send(200, {"models": {n: r.stats() for n, r in self.all.items()}})
        elif (method, path) == ("POST", "/reset"):
            for replay in self.all.values():
                replay.reset()
            self.send(200, {})
        elif (method, path) == ("POST", "/faults"):
            self.replay.faults = json.loads(body)
            self.send(200, {})
        else:
            self.send(404, {"error": {"message": f"no such path: {method} {path}"}})

    def complete(self, body: bytes) -> None:
        """Answer a chat completion after its recorded time, or with the fault drawn for it."""
        try:
            request = json.loads(body)
            text, streams = question_of(request), request.get("stream")
        except (ValueError, AttributeError, TypeError):
            self.send(400, {"error": {"message": "the body is not a chat completion request"}})
            return
        if streams:
            self.send(400, {"error": {"message": "the replay server does not stream"}})
            return
        answer = self.replay.enter(text)
        self.busy = True
        fault = self.replay.draw_fault()
        delay = answer["output_tokens"] * self.replay.seconds_per_token
        if fault in ("429", "500", "503"):
            self.finish(lambda: self.refuse(int(fault)))
        elif fault == "close":
            self.finish(self.transport.abort)
        elif fault != "hang":  # a hanging call ends when its client gives up
            number = self.replay.requests
            self.timer = asyncio.get_running_loop().call_later(
                delay, self.finish, lambda: self.answer(number, answer, fault)
            )

    def finish(self, send: Callable[[], None]) -> None:
        """Count the request out, then send; so a client that has its answer sees it counted."""
        self.timer = None
        self.busy = False
        self.replay.in_flight -= 1
        send()
        if self.buffer and not self.transport.is_closing():
            self.next_request()

    def refuse(self, status: int) -> None:
        wait = self.replay.retry_after_s
        extra = {"Retry-After": f"{wait:g}"} if status == 429 and wait is not None else {}
        self.send(status, {"error": {"message": "injected fault", "code": status}}, extra)

    def answer(self, number: int, answer: dict[str, Any], fault: str | None) -> None:
        self.replay.answered += fault is None
        body = completion(self.replay.name, number, answer)
        if fault == "empty_choices":
            body["choices"] = []
        elif fault == "null_content":
            body["choices"][0]["message"]["content"] = None
        if fault == "invalid_json":
            self.send_bytes(200, b'{"id": "replay", "choices": [{')
        else:
            self.send(200, body)

    def send(
        self,
        status: int,
        body: dict[str, Any],
        extra: dict[str, str] | None = None,
        *,
        close: bool = False,
    ) -> None:
        self.send_bytes(status, json.dumps(body).encode(), extra)
        if close:
            self.transport.close()

    def send_bytes(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {REASONS[status]}"]
        lines += [f"{name}: {value}" for name, value in (headers | (extra or {})).items()]
        self.transport.write("\r\n".join(lines).encode("latin-1") + HEADER_END + body)


async def serve(job: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    replays = {name: Replay(name, job) for name in job["models"]}
    ports = {}
    for name, replay in replays.items():
        server = await loop.create_server(
            partial(Connection, replay, replays), "127.0.0.1", 0, backlog=1024
        )
        ports[name] = server.sockets[0].getsockname()[1]
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    sys.stdout.write(json.dumps({"ports": ports}) + "\n")
    sys.stdout.flush()
    await ended.wait()


if __name__ == "__main__":
    # Ctrl-C reaches the whole terminal group; the parent decides when its servers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that is ended half-way closes stdin before the line is whole: then nobody asks.
    if (job := sys.stdin.buffer.readline()).endswith(b"\n"):
        asyncio.run(serve(json.loads(job)))
