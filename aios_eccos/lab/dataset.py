"""Recorded answers and prices, read from files and embedded: what every measurement begins with."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import DataError
from aios_eccos.forecast.pricing import Prices, price_table, with_facts
from aios_eccos.history.dataset import read_records
from aios_eccos.history.embed.embedding import Embedder
from aios_eccos.history.mirror import build_table
from aios_eccos.locate import cache_dir
from aios_eccos.records import HistoryTable, Record
from aios_eccos.values import BoolArray, FloatArray, IntArray, Model

#: Shares of test and validation rows; the rest trains.
TEST_SHARE, VAL_SHARE = 0.3, 0.1
#: Texts embedded from one sign of progress to the next.
PART = 256
#: Slots of a model that no limit is given for.
DEFAULT_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """The good rows of some files, what was wrong with the others, and a hash of the bytes."""

    name: str
    records: tuple[Record, ...]
    bad: tuple[DataError, ...]
    hash: str

    @property
    def models(self) -> tuple[str, ...]:
        names = (outcome.model for record in self.records for outcome in record.outcomes)
        return tuple(dict.fromkeys(names))

    def split(self, *labels: str) -> list[Record]:
        return [record for record in self.records if record.split in labels]


def load_dataset(paths: Sequence[Path]) -> Dataset:
    """Read QAServe files whole; DataError if one cannot be read, or none has a good row."""
    rows: list[Record | DataError] = []
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise DataError(error.strerror or str(error), source=str(path)) from error
        rows += read_records(path)
    records = [row for row in rows if isinstance(row, Record)]
    bad = [row for row in rows if isinstance(row, DataError)]
    if not records:
        raise bad[0] if bad else DataError("holds no records", source=str(paths[0]))
    name = " ".join(path.name for path in paths)
    return Dataset(name, tuple(records), tuple(bad), digest.hexdigest()[:16])


@dataclass(frozen=True)
class Recorded:
    """A data set as arrays: N rows of m models' outcomes.

    `layers` makes the (N, 4 d) hidden layers of the rows' texts, once; only heads want them. What
    is fitted on the rows is kept in `folder` between runs; None keeps nothing.
    """

    name: str
    hash: str
    table: HistoryTable
    models: tuple[Model, ...]
    layers: Callable[[], NDArray[np.float32]]
    embedder: Embedder
    folder: Path | None = None

    @functools.cached_property
    def prices(self) -> Prices:
        return price_table(self.models)

    @functools.cached_property
    def spent(self) -> FloatArray:
        """(N, m) dollars that each answer cost, NaN = missing."""
        return self.prices.cost(self.table.input_tokens, self.table.output_tokens)

    @functools.cached_property
    def whole(self) -> BoolArray:
        """(N,) rows with every model's outcome and length: no other can be replayed."""
        unknown = np.isnan(self.table.correctness) | np.isnan(self.table.output_tokens)
        return np.asarray(~unknown.any(axis=1))

    def split(self, number: int, seed: int) -> tuple[IntArray, IntArray]:
        """Row numbers of the history (train and val), and of whole test rows; DataError if none."""
        t = self.table
        labels = split_labels(t.ids, t.tasks, t.texts, t.splits, number=number, seed=seed)
        test = np.array(labels) == "test"
        if not (test & self.whole).any() or test.all():
            raise DataError(
                f"split {number} has no test rows with every model's outcome and length, or none "
                "but test rows: name a split in the file, use --resplits, or leave out models "
                "that answered few questions"
            )
        return np.flatnonzero(~test), np.flatnonzero(test & self.whole)


def recorded(
    dataset: Dataset,
    models: Sequence[Model],
    embedder: Embedder,
    *,
    folder: Path | None = None,
    layers: bool = False,
    progress: Callable[[int], None] = lambda texts: None,
) -> Recorded:
    """Embed a data set; `layers`: make hidden layers at once, in the same pass.

    `progress` is told how many texts have just got theirs.
    """
    texts = [record.text for record in dataset.records]

    @functools.cache
    def hidden() -> NDArray[np.float32]:
        found = []
        for start in range(0, len(texts), PART):
            found.append(embedder.embed_with_layers(texts[start : start + PART])[1])
            progress(len(found[-1]))
        return np.concatenate(found)

    if layers:
        hidden()
    table = build_table(dataset.records, embedder.embed(texts))
    by_name = {model.name: model for model in models}
    pool = tuple(by_name[name] for name in table.models)
    return Recorded(dataset.name, dataset.hash, table, pool, hidden, embedder, folder)


def open_recorded(
    dataset: Dataset,
    prices: Path | None,
    *,
    limits: Mapping[str, int] | None = None,
    layers: bool = False,
    progress: Callable[[int], None] = lambda texts: None,
) -> Recorded:
    """Embed a data set with the default embedder; embeddings and fits are kept between runs.

    Models that the file of prices does not name are looked up as in a kernel.
    """
    from aios_eccos.history.open import open_embedder

    known = {} if prices is None else load_prices(prices)
    models = [with_facts(m) for m in pool(dataset.models, known, limits or {}, DEFAULT_LIMIT)]
    embedder = open_embedder(cache_dir=cache_dir())
    folder = cache_dir() / "evaluate"
    return recorded(dataset, models, embedder, folder=folder, layers=layers, progress=progress)


def load_prices(path: Path) -> dict[str, tuple[float, float]]:
    """Input and output price by model, dollars per token, from dollars per million in the file.

    The file is `{"models": {NAME: {"input": 0.05, "output": 0.1}}}`. DataError: it is not.
    """
    source = str(path)
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        found = {name: (float(p["input"]), float(p["output"])) for name, p in models.items()}
    except OSError as error:
        raise DataError(error.strerror or str(error), source=source) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        wanted = '{"models": {NAME: {"input": PRICE, "output": PRICE}}}'
        raise DataError(f"wanted {wanted}", source=source) from error
    for name, prices in found.items():
        if not all(0 <= price < math.inf for price in prices):
            raise DataError(f"{name}: prices {prices}, allowed 0 or more", source=source)
    return {name: (read / 1e6, write / 1e6) for name, (read, write) in found.items()}


def pool(
    names: Sequence[str],
    prices: Mapping[str, tuple[float, float]],
    limits: Mapping[str, int],
    default_limit: int,
) -> list[Model]:
    """Models of a data set, with prices and limits; DataError names a limit that is none."""
    for name, limit in limits.items():
        if name not in names:
            raise DataError(f"limit for {name!r}: the data knows only {', '.join(names)}")
        if limit < 1:
            raise DataError(f"limit for {name!r}: {limit}, wanted 1 or more")
    return [
        Model(
            name=name,
            limit=limits.get(name, default_limit),
            input_price=prices[name][0] if name in prices else None,
            output_price=prices[name][1] if name in prices else None,
        )
        for name in names
    ]


def split_labels(
    ids: Sequence[str],
    tasks: Sequence[str],
    texts: Sequence[str],
    own: Sequence[str],
    *,
    number: int = 0,
    seed: int = 0,
) -> tuple[str, ...]:
    """The label (train, val or test) of each row in split `number`.

    Number 0 is the file's own (a row without a label trains). Number r >= 1 sorts the ids of each
    task by sha256("seed:r:id"): the first 30 % test, the next 10 % validate. Rows of equal text
    follow the first of them in that order (in the file's order for number 0), so that no text
    stands on both sides.
    """
    if number < 0:
        raise ValueError(f"split number is {number}, wanted 0 (the file's own) or higher")
    if not len(ids) == len(tasks) == len(texts) == len(own):
        raise ValueError("ids, tasks, texts and own labels differ in length")
    order, labels = list(range(len(ids))), [label or "train" for label in own]
    if number:
        digest = [hashlib.sha256(f"{seed}:{number}:{name}".encode()).hexdigest() for name in ids]
        order.sort(key=digest.__getitem__)
        groups: dict[str, list[int]] = defaultdict(list)
        for row in order:
            groups[tasks[row]].append(row)
        for rows in groups.values():
            test, val = round(TEST_SHARE * len(rows)), round(VAL_SHARE * len(rows))
            named = ["test"] * test + ["val"] * val + ["train"] * (len(rows) - test - val)
            for row, label in zip(rows, named, strict=True):
                labels[row] = label
    first: dict[str, str] = {}
    for row in order:
        first.setdefault(texts[row], labels[row])
    return tuple(first[text] if text else label for text, label in zip(texts, labels, strict=True))
