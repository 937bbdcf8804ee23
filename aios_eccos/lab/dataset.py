"""Recorded answers and prices, read from files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aios_eccos.errors import DataError
from aios_eccos.history.dataset import read_records
from aios_eccos.records import Record
from aios_eccos.values import Model


@dataclass(frozen=True, slots=True)
class Dataset:
    """The good rows of some files.

    Attributes:
        name: the files' names.
        records: in file order.
        bad: what was wrong with the other rows.
        hash: sha256 of the files' bytes, 16 hex digits.
    """

    name: str
    records: tuple[Record, ...]
    bad: tuple[DataError, ...]
    hash: str

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that occur, in order of appearance."""
        names = (outcome.model for record in self.records for outcome in record.outcomes)
        return tuple(dict.fromkeys(names))

    def split(self, *labels: str) -> list[Record]:
        """The records of these splits."""
        return [record for record in self.records if record.split in labels]


def load_dataset(paths: Sequence[Path]) -> Dataset:
    """Read QAServe files whole.

    Raises:
        DataError: a file cannot be read, or none has a good row.
    """
    records: list[Record] = []
    bad: list[DataError] = []
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise DataError(error.strerror or str(error), source=str(path)) from error
        for row in read_records(path):
            if isinstance(row, DataError):
                bad.append(row)
            else:
                records.append(row)
    if not records:
        raise bad[0] if bad else DataError("holds no records", source=str(paths[0]))
    name = " ".join(path.name for path in paths)
    return Dataset(name, tuple(records), tuple(bad), digest.hexdigest()[:16])


def load_prices(path: Path) -> dict[str, tuple[float, float]]:
    """Input and output price by model, dollars per token, from dollars per million in the file.

    The file is `{"models": {NAME: {"input": 0.05, "output": 0.1}}}`.

    Raises:
        DataError: unreadable, of another shape, or a price that is negative or not a number.
    """
    source = str(path)
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {str(name): _price(name, entry, source) for name, entry in models.items()}
    except OSError as error:
        raise DataError(error.strerror or str(error), source=source) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            'wanted {"models": {NAME: {"input": PRICE, "output": PRICE}}}', source=source
        ) from error


def _price(name: str, entry: Mapping[str, float], source: str) -> tuple[float, float]:
    prices = float(entry["input"]), float(entry["output"])
    if not all(price >= 0 and math.isfinite(price) for price in prices):
        raise DataError(f"{name}: prices {prices}, allowed 0 or more", source=source)
    return prices[0] / 1e6, prices[1] / 1e6


def pool(
    names: Sequence[str],
    prices: Mapping[str, tuple[float, float]],
    limits: Mapping[str, int],
    default_limit: int,
) -> list[Model]:
    """Models of a data set, with prices and limits.

    Raises:
        DataError: a limit names no model of the data set, or is below 1.
    """
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
