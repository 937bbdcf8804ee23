"""Our embedder as Chroma wants one, under the name that AIOS's collection is stored with."""

from __future__ import annotations

from typing import Any

from chromadb import Documents, EmbeddingFunction, Embeddings

from aios_eccos.history.open import open_embedder

_embedder = None


class SharedEmbedding(EmbeddingFunction[Documents]):  # type: ignore[misc]
    """all-MiniLM-L6-v2, the model that Chroma's default would download."""

    def __init__(self) -> None:
        pass

    def __call__(self, input: Documents) -> Embeddings:
        global _embedder
        if _embedder is None:
            _embedder = open_embedder()
        return list(_embedder.embed(list(input)))

    @staticmethod
    def name() -> str:
        """As Chroma's default is stored."""
        return "default"

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> SharedEmbedding:
        """Nothing is configured."""
        return SharedEmbedding()

    def get_config(self) -> dict[str, Any]:
        """Nothing is configured."""
        return {}
