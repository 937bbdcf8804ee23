"""The embedder: sentence-transformers models on the CPU."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aios_eccos.history.embed.embedding import EmbedderSource, clean_text, stacked
from aios_eccos.history.embed.encoders import ARITHMETIC, Encoder, load_encoder
from aios_eccos.history.embed.folder import read_json, read_modules
from aios_eccos.history.store import Embeddings

#: What is read of a long text: changed whenever other vectors come of the same text.
READING = "gist 4"
#: Bytes hashed at either end of the weights: enough to tell two models apart, and quick.
HASHED = 1 << 20


class SentenceEmbedder:
    """See `Embedder`. The model is loaded at the first text.

    Raises:
        EmbedderError: the folder holds no sentence-transformers model (weights that are damaged
            are noticed at the first text).
    """

    def __init__(self, source: EmbedderSource) -> None:
        self.source, self.name = source, source.name
        dense = [
            read_json(source.path / module["path"] / "config.json")["out_features"]
            for module in read_modules(source.path)
            if str(module["type"]).endswith(".Dense")
        ]
        config = source.path / "config.json"
        self.dimension = int(dense[-1] if dense else read_json(config)["hidden_size"])
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None

    @property
    def identity(self) -> str:
        """See `Embedder.identity`: name, hash of the weights' ends, what is read, and how."""
        digest = hashlib.sha256()
        for path in sorted(self.source.path.glob("*.safetensors")):
            size = path.stat().st_size
            with path.open("rb") as file:
                digest.update(f"{path.name} {size}".encode() + file.read(HASHED))
                file.seek(max(size - HASHED, 0))
                digest.update(file.read())
        return f"{self.name} {digest.hexdigest()} {READING} {ARITHMETIC}"

    def load(self) -> Encoder:
        """Load the model now, if it is not yet; `EmbedderError` where it is damaged."""
        with self._lock:
            if self._encoder is None:
                self._encoder = load_encoder(self.source.path)
            return self._encoder

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return self.embed_with_layers(texts)[0]

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        encoder = self.load()
        rows = [_ends(encoder.tokens(clean_text(text)), encoder.most) for text in texts]
        if len(rows) > 1 and encoder.passes > 1:
            with ThreadPoolExecutor(encoder.passes, "eccos-embed") as threads:
                found = list(threads.map(encoder.forward, rows))
        else:
            found = [encoder.forward(row) for row in rows]
        embeddings = stacked([vector for vector, _ in found], self.dimension)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-12
        return embeddings, stacked([layers for _, layers in found], 4 * self.dimension)


def _ends(tokens: list[int], most: int) -> list[int]:
    """The tokens, or as many of both ends as the model reads."""
    if len(tokens) <= most:
        return tokens
    return tokens[: most // 2] + tokens[most // 2 - most :]
