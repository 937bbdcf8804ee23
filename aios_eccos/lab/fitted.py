"""Forecasts of rows that a predictor has not seen, fitted once and kept between runs.

What is kept lies in `evaluate` below the cache folder, as npz (never pickle) or safetensors,
under a key of the data's hash, the split, the predictor and the code that fits it; whatever
changes one of them makes a new file, and a damaged file is made anew.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aios_eccos import files
from aios_eccos.errors import ArtifactError
from aios_eccos.forecast.predictor import Predictor
from aios_eccos.forecast.retrieval import RetrievalPredictor, leave_one_out
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.records import HistoryTable, Record
from aios_eccos.values import FloatArray, Forecast, Model, Query

Kind = Literal["retrieval", "trained", "hybrid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Queries forecast at a time.
BLOCK = 256


class Cache:
    """Arrays by name in a folder; without a folder everything is made anew.

    Args:
        key: what everything here depends on (data, split); the code's hash is added.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder = folder
        self._key = hashlib.sha256(f"{key}:{code_hash()}".encode()).hexdigest()[:16]

    def path(self, name: str, suffix: str) -> Path | None:
        """Where `name` lies, None without a folder."""
        return None if self._folder is None else self._folder / f"{self._key}-{name}{suffix}"

    def arrays(
        self, name: str, make: Callable[[], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """The arrays kept under `name`, made first if they are not there or damaged."""
        path = self.path(name, ".npz")
        if path is None:
            return make()
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            made = make()
        # A full or read-only disk costs time, no more.
        with suppress(OSError):
            files.private_dir(path.parent)
            with files.replacing(path) as part, part.open("wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]
        return made


@cache
def code_hash() -> str:
    """Changes with any line that fits, forecasts or divides."""
    package = Path(__file__).parents[1]
    files = [*package.glob("forecast/**/*.py"), *package.glob("history/m*.py")]
    files += [package / "floor" / f"{name}.py" for name in ("curve", "certify", "control")]
    files += [package / "lab" / f"{name}.py" for name in ("fitted", "neighbors", "splits")]
    digest = hashlib.sha256(np.__version__.encode())
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Forecasts that have not seen the rows that they are about.

    Attributes:
        success, tokens: (n, m) of the test rows.
        past_success, past_tokens: (N, m) of the history's rows, left out or out of fold.
        past_correctness: (N, m), NaN = missing. past_input: (N,).
    """

    success: FloatArray
    tokens: FloatArray
    past_success: FloatArray
    past_tokens: FloatArray
    past_correctness: FloatArray
    past_input: FloatArray


@dataclass(frozen=True, slots=True)
class Known:
    """The history that everything is fitted on.

    Attributes:
        records, table: N rows, the same ones.
        layers: makes the rows' (N, 4 d) hidden layers; only heads want them.
    """

    records: Sequence[Record]
    table: HistoryTable
    layers: Callable[[], NDArray[np.float32]]


def fit(kind: Kind, known: Known, embedder: str, cache: Cache) -> Predictor:
    """A predictor that knows this history and nothing else.

    Raises:
        ArtifactError: there is too little history for a head.
    """
    store = MemoryHistory()
    store.add(list(known.records), known.table.embeddings)
    neighbors = RetrievalPredictor(store)
    neighbors.refresh(known.table)
    if kind == "retrieval":
        return neighbors
    from aios_eccos.forecast.hybrid import HybridPredictor

    return HybridPredictor(neighbors, _head(known, embedder, cache), kind)


def _head(known: Known, embedder: str, cache: Cache) -> Any:
    from aios_eccos.forecast.head.artifact import data_hash, load_head, save_head
    from aios_eccos.forecast.head.train import train

    path = cache.path("head", ".safetensors")
    if path is not None and path.is_file():
        try:
            return load_head(path, embedder=embedder)
        except ArtifactError:
            path.unlink(missing_ok=True)
    head = train(known.table, known.layers())
    if path is not None:
        save_head(path, head, embedder=embedder, data=data_hash(known.table))
    return head


def forecast(
    predictor: Predictor,
    models: Sequence[Model],
    texts: Sequence[str],
    input_tokens: FloatArray,
    embeddings: NDArray[np.float32],
    layers: NDArray[np.float32] | None,
) -> tuple[FloatArray, FloatArray]:
    """Success and output tokens, each (n, m)."""
    parts: list[Forecast] = []
    for start in range(0, len(texts), BLOCK):
        part = slice(start, start + BLOCK)
        queries = [
            Query(text=text, input_tokens=int(count))
            for text, count in zip(texts[part], input_tokens[part], strict=True)
        ]
        hidden = None if layers is None else layers[part]
        parts.append(predictor.forecast(queries, embeddings[part], models, hidden))
    return (
        np.concatenate([part.success for part in parts]),
        np.concatenate([part.output_tokens for part in parts]),
    )


def unseen(
    kind: Kind,
    known: Known,
    test: Known,
    models: Sequence[Model],
    embedder: str,
    cache: Cache,
) -> Unseen:
    """Forecasts of the test rows from the history, and of the history from the rest of itself."""

    def make() -> dict[str, NDArray[Any]]:
        predictor = fit(kind, known, embedder, cache)
        table = test.table
        layers = test.layers() if predictor.wants_layers else None
        success, tokens = forecast(
            predictor, models, table.texts, table.input_tokens, table.embeddings, layers
        )
        names = [model.name for model in models]
        if kind == "retrieval":
            past_success, past_tokens, _ = leave_one_out(known.table)
            columns = [known.table.models.index(name) for name in names]
            correctness, inputs = known.table.correctness, known.table.input_tokens
        else:
            head = getattr(predictor, "head")  # noqa: B009  (only the heads' predictors have one)
            columns = [head.models.index(name) for name in names]
            past_success = head.replay.alone if kind == "trained" else head.replay.success
            past_tokens, correctness = head.replay.tokens, head.replay.correctness
            inputs = head.replay.input_tokens
        return {
            "success": success,
            "tokens": tokens,
            "past_success": past_success[:, columns],
            "past_tokens": past_tokens[:, columns],
            "past_correctness": correctness[:, columns],
            "past_input": inputs,
        }

    return Unseen(**cache.arrays(kind, make))
