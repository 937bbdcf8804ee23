"""The replay servers' process: one OpenAI-compatible HTTP server per model, standard library only.

`replay_server.ReplayServers` runs this file by its path, isolated (`python -I`), so that it starts
in a fraction of a second whatever the package imports. It reads one JSON line from stdin (see
`ReplayServers._job`), writes one JSON line `{"ports": {model: port}}`, and ends when stdin does:
the kernel closes that pipe also when the parent is killed.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Larger requests are refused, so that a runaway client cannot fill the memory.
MAX_REQUEST_BYTES = 64 * 1024 * 1024


class Replay:
    """One model's recorded answers, faults and counters; `job` is what the parent sent."""

    def __init__(self, name: str, job: dict[str, Any]) -> None:
        self.name = name
        self.answers: dict[str, dict[str, Any]] = job["answers"].get(name, {})
        self.default: dict[str, Any] = job["default"]
        self.seconds_per_token: float = job["seconds_per_token"]
        self.retry_after_s: float | None = job["retry_after_s"]
        self.faults: dict[str, float] = job["faults"]
        self.random = random.Random(f"{job['seed']}:{name}")
        self.lock = threading.Lock()
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start counting anew; calls in flight stay in flight."""
        with self.lock:
            self.requests = self.answered = self.unknown = self.repeated = self.abandoned = 0
            self.peak_in_flight = self.in_flight
            self.injected: dict[str, int] = {}
            self.seen: set[str] = set()

    def stats(self) -> dict[str, Any]:
        names = ("requests", "answered", "unknown", "repeated", "abandoned", "in_flight",
                 "peak_in_flight")  # fmt: skip
        with self.lock:
            return {n: getattr(self, n) for n in names} | {"faults": dict(self.injected)}

    def enter(self, text: str) -> tuple[int, dict[str, Any], str | None]:
        """Count a request in; its number, its recorded answer, and its fault if it gets one."""
        with self.lock:
            self.requests += 1
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            self.repeated += text in self.seen
            self.seen.add(text)
            answer = self.answers.get(text)
            self.unknown += answer is None
            point = self.random.random()
            for kind, share in self.faults.items():
                if point < share:
                    self.injected[kind] = self.injected.get(kind, 0) + 1
                    return self.requests, answer or self.default, kind
                point -= share
            return self.requests, answer or self.default, None

    def leave(self, *, answered: bool, abandoned: bool) -> None:
        """Count a request out, before its answer is sent: who has an answer sees it counted."""
        with self.lock:
            self.in_flight -= 1
            self.answered += answered
            self.abandoned += abandoned


def question_of(body: dict[str, Any]) -> str:
    """The last user message's text; parts of a list content are joined."""
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return "".join(str(part.get("text", "")) for part in content)
            return str(content or "")
    return ""


def completion(model: str, number: int, answer: dict[str, Any], fault: str | None) -> bytes:
    """The body of a chat completion, spoiled by the fault if there is one."""
    if fault == "invalid_json":
        return b'{"id": "replay", "choices": [{'
    content = None if fault == "null_content" else answer["content"]
    finish = "length" if answer["truncated"] else "stop"
    message = {"role": "assistant", "content": content}
    if answer.get("tool_calls"):
        message["tool_calls"] = answer["tool_calls"]
    choice = {"index": 0, "message": message}
    used = {"prompt_tokens": answer["input_tokens"], "completion_tokens": answer["output_tokens"]}
    body = {
        "id": f"replay-{model}-{number}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [] if fault == "empty_choices" else [choice | {"finish_reason": finish}],
        "usage": used | {"total_tokens": sum(used.values())},
    }
    return json.dumps(body).encode()


class Server(ThreadingHTTPServer):
    """One model's server; `all` are the models' replays by name."""

    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, replay: Replay, everyone: dict[str, Replay]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replay, self.all = replay, everyone

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep standard error for what goes wrong."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            model = {"id": self.server.replay.name, "object": "model", "owned_by": "aios-eccos"}
            self.send(200, {"object": "list", "data": [model]})
        elif self.path == "/stats":
            self.send(200, {"models": {n: r.stats() for n, r in self.server.all.items()}})
        else:
            self.send(404, {"error": {"message": f"no such path: GET {self.path}"}})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        self.close_connection = True
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            return self.send(411, {"error": {"message": "send Content-Length"}})
        if int(length) > MAX_REQUEST_BYTES:
            return self.send(413, {"error": {"message": "request too large"}})
        self.close_connection = False
        body = self.rfile.read(int(length))
        if self.path == "/v1/chat/completions":
            self.complete(body)
        elif self.path == "/reset":
            for replay in self.server.all.values():
                replay.reset()
            self.send(200, {})
        elif self.path == "/faults":
            self.server.replay.faults = json.loads(body)
            self.send(200, {})
        elif self.path == "/answers":
            self.server.replay.answers = json.loads(body)
            self.send(200, {})
        else:
            self.send(404, {"error": {"message": f"no such path: POST {self.path}"}})
        return None

    def complete(self, body: bytes) -> None:
        """Answer a chat completion after its recorded time, or with the fault drawn for it."""
        try:
            request = json.loads(body)
            text, streams = question_of(request), request.get("stream")
        except (ValueError, AttributeError, TypeError):
            return self.send(400, {"error": {"message": "the body is no chat completion request"}})
        if streams:
            return self.send(400, {"error": {"message": "the replay server does not stream"}})
        replay = self.server.replay
        number, answer, fault = replay.enter(text)
        gone = False
        if fault == "hang":  # it ends when its client gives up
            gone = self.hangs_up(None)
        elif fault not in ("429", "500", "503", "close"):
            gone = self.hangs_up(answer["output_tokens"] * replay.seconds_per_token)
        replay.leave(answered=fault is None and not gone, abandoned=gone)
        if gone or fault == "close":
            self.close_connection = True
        elif fault in ("429", "500", "503"):
            wait = replay.retry_after_s if fault == "429" else None
            extra = {} if wait is None else {"Retry-After": f"{wait:g}"}
            error = {"message": "injected fault", "code": int(fault)}
            self.send(int(fault), {"error": error}, extra)
        else:
            self.send_bytes(200, completion(replay.name, number, answer, fault))
        return None

    def hangs_up(self, seconds: float | None) -> bool:
        """Let time pass (None: without end); True as soon as the client has hung up."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            return False
        return not self.connection.recv(1, socket.MSG_PEEK)

    def send(self, status: int, body: dict[str, Any], extra: dict[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(body).encode(), extra)

    def send_bytes(self, status: int, body: bytes, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def serve(job: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    replays = {name: Replay(name, job) for name in job["models"]}
    servers = {name: Server(replay, replays) for name, replay in replays.items()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = {name: server.server_address[1] for name, server in servers.items()}
    sys.stdout.write(json.dumps({"ports": ports}) + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    # Answers that still wait are given up.
    os._exit(0)


if __name__ == "__main__":
    # Ctrl-C reaches the whole terminal group; the parent decides when its servers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that is ended half-way closes stdin before the line is whole: then nobody asks.
    if (job := sys.stdin.buffer.readline()).endswith(b"\n"):
        serve(json.loads(job))
