"""Records, vectors, a toy embedder and a real Chroma server for the history's tests."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np

from aios_eccos.history.client import close_client
from aios_eccos.history.history import History
from aios_eccos.history.store import Embeddings
from aios_eccos.records import Outcome, Record

DIMENSION = 8
MODELS = ("large", "small")

#: Opens a store; keyword arguments as for `open_history`.
Open = Callable[..., History]


class ToyEmbedder:
    """Vectors from a hash of the text: equal texts are near, others are anywhere."""

    def __init__(
        self, name: str = "toy", dimension: int = DIMENSION, weights: str | None = None
    ) -> None:
        self.name = name
        self.weights = weights
        self.dimension = dimension
        self.embedded: list[str] = []

    @property
    def identity(self) -> str:
        return self.weights or self.name

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.embedded += texts
        return unit([self._numbers(text) for text in texts]).reshape(-1, self.dimension)

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        vectors = self.embed(texts)
        return vectors, np.tile(vectors, 4)

    def _numbers(self, text: str) -> list[float]:
        digest = hashlib.sha256(text.encode()).digest()
        return [byte - 127.5 for byte in digest[: self.dimension]]


def unit(rows: Sequence[Sequence[float]]) -> Embeddings:
    array = np.array(rows, dtype=np.float32)
    return array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-9)


def vectors(n: int, seed: int = 0) -> Embeddings:
    return unit(np.random.default_rng(seed).normal(size=(n, DIMENSION)).tolist())


def record(name: str, *outcomes: Outcome, **more: object) -> Record:
    fields: dict[str, object] = {"text": f"text of {name}", "input_tokens": 7, **more}
    return Record(id=name, outcomes=outcomes or (Outcome("small", 1.0, 50),), **fields)  # type: ignore[arg-type]


def some_records(n: int) -> list[Record]:
    return [
        record(
            f"r{i:03}",
            Outcome("small", float(i % 2), 10 + i),
            Outcome("large", 1.0, 100 + i),
            task=f"t{i % 3}",
            split=("train", "val", "test")[i % 3],
            created=1000.0 + i,
        )
        for i in range(n)
    ]


class ChromaServer:
    """`chroma run` on a free port of the loopback; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        run = "import sys; from chromadb.cli.cli import app; sys.argv[0] = 'chroma'; app()"
        arguments = ["run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", run, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ANONYMIZED_TELEMETRY": "False"},
        )
        self.url = f"http://127.0.0.1:{self.port}"
        end = time.monotonic() + 90
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/api/v2/heartbeat", timeout=1).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        self.close()
        raise RuntimeError("no Chroma server came up")

    def wipe(self) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.HttpClient(
            "127.0.0.1", self.port, settings=Settings(anonymized_telemetry=False)
        )
        for collection in client.list_collections():
            client.delete_collection(collection.name)
        close_client(client)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Gate:
    """A proxy before a Chroma server that lets only one user in; `close` ends it."""

    def __init__(self, url: str, user: str, password: str) -> None:
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline()
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = 401, b"{}"
                if self.headers.get("Authorization") == wanted:
                    kind = {"Content-Type": self.headers.get("Content-Type") or "text/plain"}
                    answer = httpx.request(
                        self.command, url + self.path, content=body, headers=kind
                    )
                    status, content = answer.status_code, answer.content
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
