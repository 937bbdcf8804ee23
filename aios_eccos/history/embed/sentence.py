"""The embedder: sentence-transformers models on the CPU."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from aios_eccos.history.embed.embedding import EmbedderSource, clean_text, stacked
from aios_eccos.history.embed.encoders import (
    Encoder,
    load_encoder,
    read_json,
    read_modules,
)
from aios_eccos.history.store import Embeddings

#: Most tokens, padding included, in one forward pass: enough to use the processors fully; more
#: would be slower (more padding, and no room in the processors' caches).
PASS_TOKENS = 512
#: What is read of a long text: changed whenever other vectors come of the same text.
READING = "gist 3"
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
        """See `Embedder.identity`: name, hash of the weights' ends, and what is read of texts."""
        digest = hashlib.sha256()
        for path in sorted(self.source.path.glob("*.safetensors")):
            size = path.stat().st_size
            with path.open("rb") as file:
                digest.update(f"{path.name} {size}".encode() + file.read(HASHED))
                file.seek(max(size - HASHED, 0))
                digest.update(file.read())
        return f"{self.name} {digest.hexdigest()} {READING}"

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
        found: dict[int, tuple[Embeddings, Embeddings]] = {}

        def one_pass(group: list[int]) -> None:
            ids, mask = _pad([rows[row] for row in group])
            found.update(zip(group, zip(*encoder.forward(ids, mask), strict=True), strict=True))

        groups = _passes([len(row) for row in rows])
        if len(groups) > 1 and encoder.passes > 1:
            with ThreadPoolExecutor(encoder.passes, "eccos-embed") as threads:
                list(threads.map(one_pass, groups))
        else:
            for group in groups:
                one_pass(group)
        embeddings = stacked([found[row][0] for row in range(len(rows))], self.dimension)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-12
        return embeddings, stacked([found[row][1] for row in range(len(rows))], 4 * self.dimension)


def _ends(tokens: list[int], most: int) -> list[int]:
    """The tokens, or as many of both ends as the model reads."""
    if len(tokens) <= most:
        return tokens
    return tokens[: most // 2] + tokens[most // 2 - most :]


def _passes(lengths: Sequence[int]) -> list[list[int]]:
    """Rows that go through the model together: of like length, so that little is padding."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if not groups or (len(groups[-1]) + 1) * lengths[groups[-1][0]] > PASS_TOKENS:
            groups.append([])
        groups[-1].append(row)
    return groups


def _pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask, (n, longest)."""
    shape = len(rows), max(len(row) for row in rows)
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return ids, mask
