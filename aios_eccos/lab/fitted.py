"""Forecasts of rows that a predictor has not seen, fitted once and kept between runs.

Files lie in `evaluate` below the cache folder, under a key of the data, the split, the predictor
and the code that fits it; a damaged one is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aios_eccos import files
from aios_eccos.errors import ArtifactError
from aios_eccos.floor.learn import past_of, replayed
from aios_eccos.forecast.head.artifact import data_hash, load_head, save_head
from aios_eccos.forecast.head.train import Trained, train
from aios_eccos.forecast.hybrid import HybridPredictor
from aios_eccos.forecast.plans import Past
from aios_eccos.forecast.predictor import Predictor
from aios_eccos.forecast.retrieval import RetrievalPredictor, leave_one_out
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.lab.dataset import Recorded
from aios_eccos.records import HistoryTable, Outcome, Record
from aios_eccos.values import FloatArray, IntArray, Query

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


@functools.cache
def code_hash() -> str:
    """Changes with any line that fits, forecasts or divides."""
    package = Path(__file__).parents[1]
    sources = [*package.glob("forecast/**/*.py"), *package.glob("history/m*.py")]
    fitting = ("fitted", "baselines", "paper", "dataset")
    sources += [package / "lab" / f"{name}.py" for name in fitting]
    digest = hashlib.sha256(np.__version__.encode())
    for file in sorted(sources):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


class Fitted:
    """All that is fitted on some rows of a data set, each part once.

    Args:
        key: of the rows and of what is known of them, for the cache; None keeps nothing.
        table: what is known of the rows, where that is less than everything.
        head: instead of one fitted on these rows.
    """

    def __init__(
        self,
        data: Recorded,
        rows: IntArray,
        *,
        key: str | None = None,
        table: HistoryTable | None = None,
        head: Trained | None = None,
    ) -> None:
        self.data, self.rows = data, rows
        self.table = data.table.rows(rows) if table is None else table
        folder = data.folder if key else None
        self.cache = Cache(folder, f"{data.hash}:{key}:{data.embedder.identity}")
        self._given = head

    @functools.cached_property
    def head(self) -> Trained:
        if self._given is not None:
            return self._given
        embedder, path = self.data.embedder.name, self.cache.path("head", ".safetensors")
        if path is not None and path.is_file():
            try:
                return load_head(path, embedder=embedder)
            except ArtifactError:
                path.unlink(missing_ok=True)
        head = train(self.table, self.data.layers()[self.rows])
        if path is not None:
            save_head(path, head, embedder=embedder, data=data_hash(self.table))
        return head

    @functools.cached_property
    def neighbors(self) -> RetrievalPredictor:
        history = MemoryHistory()
        history.add(records_of(self.table), self.table.embeddings)
        return RetrievalPredictor(history, self.table)

    def predictor(self, kind: Kind) -> Predictor:
        """A predictor that knows these rows and nothing else."""
        if kind == "retrieval":
            return self.neighbors
        return HybridPredictor(self.neighbors, self.head, kind)

    def forecast(
        self,
        kind: Kind,
        texts: Sequence[str],
        input_tokens: FloatArray,
        vectors: tuple[NDArray[np.float32], NDArray[np.float32] | None] | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Success and output tokens of n texts, each (n, m).

        Args:
            vectors: (n, d) embeddings and (n, 4 d) layers; default: made anew.
        """
        predictor = self.predictor(kind)
        if vectors is None:
            embedder = self.data.embedder
            vectors = (
                embedder.embed_with_layers(texts)
                if predictor.wants_layers
                else (embedder.embed(texts), None)
            )
        embeddings, layers = vectors
        counts = map(int, input_tokens)
        queries = [Query(text, input_tokens=n) for text, n in zip(texts, counts, strict=True)]
        found = []
        for start in range(0, len(texts), BLOCK):
            part = slice(start, start + BLOCK)
            hidden = None if layers is None else layers[part]
            args = queries[part], embeddings[part], self.data.models, hidden
            forecast = predictor.forecast(*args)
            found.append((forecast.success, forecast.output_tokens))
        success, tokens = (np.concatenate(values) for values in zip(*found, strict=True))
        return success, tokens

    def of_rows(self, kind: Kind, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Success and output tokens, each (n, m), of rows of the data set; kept between runs."""

        def make() -> dict[str, NDArray[Any]]:
            table = self.data.table.rows(rows)
            layers = None if kind == "retrieval" else self.data.layers()[rows]
            vectors = table.embeddings, layers
            success, tokens = self.forecast(kind, table.texts, table.input_tokens, vectors)
            return {"success": success, "tokens": tokens}

        digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:8]
        kept = self.cache.arrays(f"{kind}-{digest}", make)
        return kept["success"], kept["tokens"]

    def past(self, kind: Kind) -> Past:
        """Forecasts of the known rows that have not seen them: what success is priced on."""
        if kind == "retrieval":
            success, tokens, _ = leave_one_out(self.table)
            return past_of(self.table, success, tokens, self.data.prices)
        return replayed(self.head, self.data.prices, kind)


def records_of(table: HistoryTable) -> list[Record]:
    """The table's rows as records; what is masked there has no outcome here."""

    def outcome(i: int, j: int) -> Outcome:
        right, length = table.correctness[i, j], table.output_tokens[i, j]
        correctness = None if np.isnan(right) else float(right)
        return Outcome(table.models[j], correctness, None if np.isnan(length) else int(length))

    known = ~(np.isnan(table.correctness) & np.isnan(table.output_tokens))
    facts = zip(table.ids, table.texts, map(int, table.input_tokens), strict=True)
    return [
        Record(
            *fact,
            tuple(outcome(i, int(j)) for j in np.flatnonzero(known[i])),
            task=table.tasks[i],
            split=table.splits[i],
        )
        for i, fact in enumerate(facts)
    ]
