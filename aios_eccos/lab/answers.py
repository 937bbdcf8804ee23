"""Recorded answers as keys, compared for equality: in records, or in a file beside them."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aios_eccos.errors import DataError
from aios_eccos.forecast.pricing import Prices, price_table
from aios_eccos.lab.dataset import Dataset, Recorded
from aios_eccos.records import Record
from aios_eccos.values import Float32Array, FloatArray, Model

#: The default judge is the cheapest model whose success is at least this share of the strongest's.
GOOD_JUDGE = 0.9
NO_KEYS = "no answer has a key: records carry them as `answer`, or --answers names a file"
#: question id -> model -> key of its answer, None = it has no normal form.
Keys = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True)
class Answers:
    """Recorded answers of n questions by m models.

    Attributes:
        success: (n, m) 0..1. tokens: (n, m) of the answers. asked: (n,) of the questions.
        keys: (n, m) objects, equal where answers are; None where an answer has no normal form.
        embeddings: (n, d).
    """

    models: tuple[Model, ...]
    success: FloatArray
    tokens: FloatArray
    asked: FloatArray
    keys: NDArray[np.object_]
    embeddings: Float32Array

    @cached_property
    def prices(self) -> Prices:
        return price_table(self.models)

    @cached_property
    def spent(self) -> FloatArray:
        """(n, m) dollars that each answer cost."""
        return self.prices.cost(self.asked, self.tokens)

    @cached_property
    def strongest(self) -> int:
        """Column of the model with the highest mean success."""
        means = self.success.mean(axis=0)
        return min(range(len(means)), key=lambda j: (-means[j], self.models[j].name))

    @cached_property
    def judge(self) -> int:
        """Column of the default judge."""
        means = self.success.mean(axis=0)
        good = np.flatnonzero(means >= GOOD_JUDGE * means[self.strongest])
        return int(min(good, key=lambda j: (self.spent[:, j].mean(), self.models[j].name)))


def keys_of(dataset: Dataset) -> Keys:
    """The final answers that the records carry."""
    return {
        record.id: {outcome.model: outcome.answer for outcome in record.outcomes}
        for record in dataset.records
    }


def with_answers(dataset: Dataset, path: Path) -> Dataset:
    """The data set with answers from a file beside it (see `keys_in_file`), no others."""
    keys = keys_in_file(path)

    def keyed(record: Record) -> Record:
        known = keys.get(record.id, {})
        outcomes = (replace(o, answer=known.get(o.model) or None) for o in record.outcomes)
        return replace(record, outcomes=tuple(outcomes))

    digest = hashlib.sha256(dataset.hash.encode() + path.read_bytes()).hexdigest()[:16]
    return replace(dataset, records=tuple(map(keyed, dataset.records)), hash=digest)


def keys_in_file(path: Path) -> Keys:
    """From a file `{query_id: {model: answer}}`, .json or .json.gz.

    Raises:
        DataError: it cannot be read, or is of another shape.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            raw = json.loads(file.read())
        return {
            str(name): {str(model): _key(key) for model, key in keys.items()}
            for name, keys in raw.items()
        }
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", source=str(path)) from error
    except (ValueError, AttributeError) as error:
        wanted = "wanted {query_id: {model: answer}}"
        raise DataError(f"{wanted} ({error})", source=str(path)) from error


def _key(raw: object) -> str | None:
    """An answer as a key; whatever is no text is compared by its JSON."""
    if raw is None or isinstance(raw, str):
        return raw
    return json.dumps(raw, sort_keys=True)


def answers_of(data: Recorded, keys: Keys) -> Answers:
    """The rows that have every model's outcome, with their answers' keys.

    Raises:
        DataError: no answer has a key, so that nothing could agree.
    """
    rows, table = np.flatnonzero(data.whole), data.table
    if not len(rows):
        raise DataError("no question has every model's outcome and length", source=data.name)
    found = np.full((len(rows), len(table.models)), None, dtype=object)
    for at, row in enumerate(rows.tolist()):
        known = keys.get(table.ids[row], {})
        found[at] = [known.get(model) for model in table.models]
    if all(key is None for key in found.ravel()):
        raise DataError(NO_KEYS, source=data.name)
    return Answers(
        models=data.models,
        success=table.correctness[rows],
        tokens=table.output_tokens[rows],
        asked=table.input_tokens[rows],
        keys=found,
        embeddings=table.embeddings[rows],
    )
