"""The sentence-transformers embedder."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import EmbedderError

from .embedding import EmbedderSource, clean_text
from .store import Embeddings

log = logging.getLogger("aios_eccos.history")

#: Most tokens, padding included, in one forward pass: bounds the memory that attention takes.
PASS_TOKENS = 4096
#: Bytes hashed at either end of the weights: enough to tell two models apart, and quick.
HASHED = 1 << 20


class Runner(Protocol):
    """One forward pass over padded token ids."""

    def __call__(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> tuple[Any, Any]:
        """From (n, length) ids and mask: (n, d) unit embeddings and (n, 4 d) layers, float32."""
        ...


class SentenceEmbedder:
    """Embeds with a sentence-transformers model from a folder; loads it at first use.

    Args:
        source: where the model lies, from `find_embedder`.
    """

    def __init__(self, source: EmbedderSource) -> None:
        self.source = source
        settings = _read_json(source.path / "config.json")
        self._dimension = _dimension(source.path, settings)
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Runner] | None = None

    @property
    def name(self) -> str:
        """See `Embedder.name`."""
        return self.source.name

    @property
    def dimension(self) -> int:
        """See `Embedder.dimension`."""
        return self._dimension

    def identity(self) -> str:
        """The name and a hash of the weights' ends: equal for equal vectors."""
        digest = hashlib.sha256()
        for path in sorted(self.source.path.glob("*.safetensors")):
            size = path.stat().st_size
            with path.open("rb") as file:
                digest.update(f"{path.name} {size}".encode() + file.read(HASHED))
                file.seek(max(size - HASHED, 0))
                digest.update(file.read())
        return f"{self.name} {digest.hexdigest()}"

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """See `Embedder.embed`."""
        return self.embed_with_layers(texts)[0]

    def embed_with_layers(self, texts: Sequence[str]) -> tuple[Embeddings, Embeddings]:
        """See `Embedder.embed_with_layers`."""
        embeddings = np.zeros((len(texts), self._dimension), dtype=np.float32)
        layers = np.zeros((len(texts), 4 * self._dimension), dtype=np.float32)
        tokenizer, run = self._load()
        encoded = [row.ids for row in tokenizer.encode_batch([clean_text(t) for t in texts])]
        for rows in passes([len(ids) for ids in encoded]):
            ids, mask = pad([encoded[row] for row in rows])
            embeddings[rows], layers[rows] = run(ids, mask)
        return embeddings, layers

    def _load(self) -> tuple[Any, Runner]:
        with self._lock:
            if self._loaded is None:
                self._loaded = load_torch(self.source.path)
            return self._loaded


def passes(lengths: Sequence[int]) -> list[NDArray[np.int64]]:
    """Rows that go through the model together: of like length, so that little is padding."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        full = not groups or (len(groups[-1]) + 1) * lengths[groups[-1][0]] > PASS_TOKENS
        if full:
            groups.append([])
        groups[-1].append(row)
    return [np.array(group) for group in groups]


def pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask, (n, longest)."""
    shape = len(rows), max(len(row) for row in rows)
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for position, row in enumerate(rows):
        ids[position, : len(row)] = row
        mask[position, : len(row)] = 1
    return ids, mask


def load_torch(path: Path) -> tuple[Any, Runner]:
    """Tokenizer and forward pass by PyTorch, for any model of sentence-transformers.

    Raises:
        EmbedderError: the folder holds no such model, or a damaged one.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True).eval()
        tokenizer = model.tokenizer.backend_tokenizer
        body, heads = model[0].auto_model, list(model)[1:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise EmbedderError(f"embedder {path} cannot be loaded: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(model.max_seq_length or tokenizer.model_max_length)

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> tuple[Any, Any]:
        with torch.inference_mode():
            seen = torch.from_numpy(mask)
            out = body(
                input_ids=torch.from_numpy(ids), attention_mask=seen, output_hidden_states=True
            )
            features = {"token_embeddings": out.last_hidden_state, "attention_mask": seen}
            for head in heads:
                features = head(features)
            embedding = torch.nn.functional.normalize(features["sentence_embedding"], dim=1)
            depth = len(out.hidden_states) - 1
            weight = seen.unsqueeze(-1).to(embedding.dtype)
            pooled = [
                (out.hidden_states[at] * weight).sum(1) / weight.sum(1)
                for at in (depth // 3, 2 * depth // 3, depth)
            ]
            pooled.append(out.last_hidden_state.masked_fill(weight == 0, -torch.inf).amax(1))
            return embedding.numpy(), torch.cat(pooled, 1).numpy()

    return tokenizer, run


def _dimension(path: Path, settings: dict[str, Any]) -> int:
    modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
    for module in reversed(modules):
        part = path / module["path"] / "config.json"
        if "Dense" in module["type"] and part.is_file():
            return int(_read_json(part)["out_features"])
    return int(settings["hidden_size"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderError(f"embedder: {path}: {error}") from error
    if not isinstance(raw, dict):
        raise EmbedderError(f"embedder: {path}: wanted a mapping")
    return raw
