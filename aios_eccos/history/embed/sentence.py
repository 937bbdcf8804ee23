"""The embedder: sentence-transformers models on the CPU."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aios_eccos.history.embed.embedding import EmbedderSource, clean_text, stacked
from aios_eccos.history.embed.encoders import ARITHMETIC, Encoder, load_encoder
from aios_eccos.history.embed.folder import (
    Dense,
    Sized,
    read,
    read_modules,
    refusing,
    refusing_texts,
    wrong,
)
from aios_eccos.history.store import Embeddings

#: What is read of a long text: changed whenever other vectors come of the same text.
READING = "gist 4"
#: Bytes hashed at either end of the weights: enough to tell two models apart, and quick.
HASHED = 1 << 20
#: What a model is tried on when it is loaded: nothing, letters that it cannot know, one letter and
#: many words; and the longest text that it reads, or one of so many tokens.
TRIED = ("", "\u0378\U000f0000 \u2603\U0001f600", "a" * 400 + "!", " ".join(("a word, 12",) * 30))
TRIED_MOST = 514


class SentenceEmbedder:
    """See `Embedder`. The model is loaded, and tried, at the first text.

    Raises:
        EmbedderError: the folder holds no sentence-transformers model (what is wrong with its
            weights and its tokenizer is noticed at the first text).
    """

    def __init__(self, source: EmbedderSource) -> None:
        self.source, self.name = source, source.name
        with refusing(source.path):
            dense = [part for part in read_modules(source.path) if part.kind == "Dense"]
            self.dimension = (
                read(source.path / dense[-1].path / "config.json", Dense).out_features
                if dense
                else read(source.path / "config.json", Sized).hidden_size
            )
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None

    @property
    def identity(self) -> str:
        """See `Embedder.identity`: name, hash of the weights' ends, what is read, and how."""
        digest = hashlib.sha256()
        with refusing(self.source.path):
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
                with refusing(self.source.path):
                    encoder = load_encoder(self.source.path)
                    rows = [_ends(encoder.tokens(text), encoder.most) for text in TRIED]
                    rows.append((rows[-1] * TRIED_MOST)[: min(encoder.most, TRIED_MOST)])
                    self._vectors(encoder, rows)
                self._encoder = encoder
            return self._encoder

    def embed(self, texts: Sequence[str]) -> Embeddings:
        return self.embed_with_layers(texts)[0]

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        encoder = self.load()
        with refusing_texts(self.source.path):
            rows = [_ends(encoder.tokens(clean_text(text)), encoder.most) for text in texts]
            return self._vectors(encoder, rows)

    def _vectors(self, encoder: Encoder, rows: list[list[int]]) -> tuple[Embeddings, Embeddings]:
        """Of the rows' token ids; `EmbedderError` where they are not as they must be."""
        if len(rows) > 1 and encoder.passes > 1:
            with ThreadPoolExecutor(encoder.passes, "eccos-embed") as threads:
                found = list(threads.map(encoder.forward, rows))
        else:
            found = [encoder.forward(row) for row in rows]
        embeddings = stacked([vector for vector, _ in found], self.dimension)
        layers = stacked([layers for _, layers in found], 4 * self.dimension)
        if embeddings.shape[1] != self.dimension:
            has = f"its vectors have {embeddings.shape[1]} numbers"
            raise wrong(self.source.path, f"{has}, not {self.dimension} as its settings say")
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all() and np.isfinite(layers).all()):
            raise wrong(self.source.path, "its vectors are zero, or not finite")
        embeddings /= lengths + 1e-12
        return embeddings, layers


def _ends(tokens: list[int], most: int) -> list[int]:
    """The tokens, or as many of both ends as the model reads."""
    if len(tokens) <= most:
        return tokens
    return tokens[: most // 2] + tokens[most // 2 - most :]
