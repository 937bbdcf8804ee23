"""What a recorded pool can do, told before anything is run: its frontier, and a floor on it.

Prices of success are set on the history's rows; success and cost are those recorded for the test
rows, which no forecast has seen. All points are of the same rows.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aios_eccos import metrics
from aios_eccos.config import Floor
from aios_eccos.errors import DataError
from aios_eccos.history.embed.cache import CachedEmbedder
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.lab.dataset import Dataset, recorded
from aios_eccos.lab.metrics import Frontier
from aios_eccos.lab.problem import Arrival, problem_of
from aios_eccos.values import Model

#: Records embedded between two looks at the progress bar.
BATCH = 64


@dataclass(frozen=True, slots=True)
class Point:
    """Mean success (0..1) and cost per call of one choice on all test rows."""

    name: str
    success: float
    cost: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """A pool on its test rows.

    Attributes:
        calls: test rows that every model has an outcome of.
        ours: the router at the price that keeps the floor on history.
        error: half of the 95 % interval of its success, and of the ratio to the strongest's: what
            the draw of the rows leaves open.
        strongest: of `models`, the one that is strongest on history.
        frontier: what the router reaches at other prices.
        money: whether costs are dollars.
    """

    calls: int
    ours: Point
    error: float
    ratio_error: float
    strongest: Point
    models: tuple[Point, ...]
    frontier: Frontier
    money: bool

    @property
    def saved(self) -> float:
        """Share of the strongest's cost that the router does not spend."""
        return 1 - self.ours.cost / self.strongest.cost if self.strongest.cost else 0.0


def add_shipped(dataset: Dataset, embedder: CachedEmbedder, path: Path) -> None:
    """Spare the shipped data set's embedding: vectors that this very embedder has made lie there.

    Whatever does not fit is left alone, and costs seconds.
    """
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            fits = str(kept["identity"]) == embedder.identity and str(kept["data"]) == dataset.hash
            vectors = kept["vectors"].astype(np.float32)
        if fits:
            embedder.add([record.text for record in dataset.records], vectors)


def embed_all(dataset: Dataset, embedder: Embedder, progress: Callable[[int], None]) -> None:
    """Have an embedder that caches read all texts; `progress` gets how many were just read."""
    for start in range(0, len(dataset.records), BATCH):
        part = dataset.records[start : start + BATCH]
        embedder.embed([record.text for record in part])
        progress(len(part))


def outlook(
    dataset: Dataset, models: Sequence[Model], floor: Floor, embedder: Embedder
) -> Outlook | None:
    """The pool of a data set; None where its history is too short to price success."""
    data = recorded(dataset, models, embedder)
    try:
        problem = problem_of(data, 0, "retrieval", Arrival(order="file"))
    except DataError:
        return None
    means = problem.outcomes.mean(axis=0).tolist(), problem.spent.mean(axis=0).tolist()
    singles = [Point(*row) for row in zip(problem.models, *means, strict=True)]
    best = problem.book.strongest()
    if best is None:
        return None
    name, on_history = best
    choice = problem.calls.choose(problem.curve.price_for(floor.of(on_history)))
    column = problem.models.index(name)
    got, best_got = problem.outcomes[np.arange(problem.n), choice], problem.outcomes[:, column]
    ratio = float(got.mean() / best_got.mean()) if best_got.any() else 1.0
    # Both have answered the same rows, so their differences count.
    spread = float((got - ratio * best_got).std()) / (float(best_got.mean()) or 1.0)
    return Outlook(
        calls=problem.n,
        ours=Point("eccos", *problem.calls.came_to(choice)),
        error=metrics.Z * float(got.std()) / math.sqrt(problem.n),
        ratio_error=metrics.Z * spread / math.sqrt(problem.n),
        strongest=singles[column],
        models=tuple(singles),
        frontier=problem.frontier,
        money=data.prices.money,
    )
