"""A model's folder, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aios_eccos.errors import EmbedderError


def read_modules(path: Path) -> list[dict[str, Any]]:
    """The parts of a sentence-transformers model in a folder, in order."""
    modules = _read(path / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(part, dict) for part in modules):
        raise EmbedderError(f"embedder: {path / 'modules.json'}: wanted a list of objects")
    for kind in (str(part.get("type")) for part in modules):
        # Of a folder, sentence-transformers would run the code that it holds itself.
        if not kind.startswith("sentence_transformers."):
            known = "only parts of sentence_transformers are loaded"
            raise EmbedderError(f"embedder: {path / 'modules.json'}: {kind!r:.100}: {known}")
    return modules


def read_json(path: Path) -> dict[str, Any]:
    """One of a model's settings files; `EmbedderError` where it is missing or no mapping."""
    raw = _read(path)
    if not isinstance(raw, dict):
        raise EmbedderError(f"embedder: {path}: wanted an object")
    return raw


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderError(f"embedder: {path}: {error}") from error
