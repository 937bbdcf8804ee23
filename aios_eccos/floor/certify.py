"""The certified floor: a price that keeps it, with a stated confidence, on calls like these.

Learn-then-test with fixed-sequence testing (Angelopoulos et al. 2021, section 2.3): on calibration
rows that no fit has seen, walk a fixed grid of prices from the dearest down, while the
Clopper-Pearson lower bound of success at level delta is at least the floor. The last price that
passes keeps the floor with probability 1 - delta over the draw of the calibration rows, if later
calls are drawn like them and no limit changes the choices.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, with_config

from aios_eccos import files
from aios_eccos.decide.rule import choose
from aios_eccos.errors import ArtifactError, DataError, other_format
from aios_eccos.floor.curve import PriceBook, PriceCurve
from aios_eccos.values import FloatArray

#: Chance that a certificate is wrong.
DELTA = 0.1
#: From one price of the grid to the next, success is forecast to fall by this much. Steps even in
#: price would test again and again where success is flat, and every test is a chance to stop early.
STEP = 0.005


#: What a file says is checked as it stands: no number from a text, none that is not finite.
STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
Chance = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**9)]


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Certificate:
    """What anyone needs to recompute the claim.

    Attributes:
        floor: the claim; price: least price that carries it, in dollars per success.
        n: calibration rows; delta: chance that the claim is wrong.
        grid: prices walked, dearest first; successes: at each price that was walked.
        data: hash of the calibration rows. Void while limits bind.
    """

    floor: Chance
    price: float
    n: Count
    delta: Annotated[float, Field(gt=0, lt=1)]
    grid: tuple[float, ...]
    successes: tuple[Count, ...]
    data: str


@with_config(STRICT)
@dataclass(frozen=True, slots=True)
class Refusal:
    """No price passes. `reachable` is the highest floor that the dearest one would certify."""

    floor: Chance
    reachable: Chance
    n: Count
    delta: Annotated[float, Field(gt=0, lt=1)]


def success_bound(successes: int, n: int, delta: float) -> float:
    """Clopper-Pearson lower bound of a chance at one-sided level delta; 0 without successes."""
    from scipy.special import betaincinv

    return float(betaincinv(successes, n - successes + 1, delta)) if successes else 0.0


def price_grid(curve: PriceCurve) -> tuple[float, ...]:
    """Prices to walk, dearest first, from rows that were fitted on, so that no calibration row has
    a say in it; even in the success that those rows forecast.
    """
    rises = np.diff(curve.realised, prepend=-np.inf) > 0
    levels = np.arange(curve.reachable, float(curve.realised[0]), -STEP)
    log_price = np.log(np.maximum(curve.prices, curve.prices[1] / 10))[rises]
    found = np.exp(np.interp(levels, curve.realised[rises], log_price))
    return tuple(float(price) for price in dict.fromkeys(found)) or (float(curve.prices[-1]),)


def certify(
    success: FloatArray,
    outcomes: FloatArray,
    cost: FloatArray,
    floor: float,
    *,
    grid: tuple[float, ...],
    data: str,
    delta: float = DELTA,
) -> Certificate | Refusal:
    """Certify a floor on calibration rows.

    Args:
        success: (n, m) forecasts by what will serve, fitted without these rows.
        outcomes: (n, m); a partly right answer counts as wrong, a missing verdict too.
        cost: (n, m) expected cost, as the decisions will use it.
        grid: prices, dearest first, chosen without these rows (`price_grid`).
        data: hash of the calibration rows, for the certificate.
    """
    n, passed = len(success), 0
    counts: list[int] = []
    for price in grid:
        pick = choose(cost, success, price)
        right = np.nan_to_num(outcomes[np.arange(n), pick]) >= 1
        counts.append(int((right & (pick >= 0)).sum()))
        if not success_bound(counts[-1], n, delta) >= floor:
            break
        passed += 1
    if not passed:
        return Refusal(floor, success_bound(counts[0], n, delta), n, delta)
    walked = grid[: len(counts)]
    return Certificate(floor, grid[passed - 1], n, delta, walked, tuple(counts), data)


def verify(paper: Certificate) -> None:
    """Recompute a certificate's claim.

    Raises:
        DataError: it does not follow from the certificate's counts.
    """
    bounds = (success_bound(count, paper.n, paper.delta) for count in paper.successes)
    passed = len([*itertools.takewhile(lambda bound: bound >= paper.floor, bounds)])
    sound = max(paper.successes, default=0) <= paper.n
    falling = all(a > b for a, b in itertools.pairwise(paper.grid))
    walked = 0 < passed <= len(paper.grid)
    if not (sound and walked and falling and paper.price == paper.grid[passed - 1]):
        raise DataError("the certificate's claim does not follow from its counts")


#: Schema of a file of certificates.
SCHEMA = "aios-eccos/certificates/1"


def write_papers(path: Path, papers: Mapping[str, Certificate | Refusal]) -> None:
    """Write certificates and refusals by what they are for, atomically.

    Raises:
        ArtifactError: the file cannot be written.
    """
    try:
        files.write(path, papers_json(papers), synced=True)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error


def papers_json(papers: Mapping[str, Certificate | Refusal]) -> str:
    """The file's text."""
    floors = {
        key: {"certified": isinstance(paper, Certificate)} | asdict(paper)
        for key, paper in papers.items()
    }
    return json.dumps({"schema": SCHEMA, "floors": floors}, indent=1) + "\n"


def read_papers(raw: str) -> dict[str, Certificate | Refusal]:
    """The papers of a file's text, each certificate recomputed (`verify`).

    Raises:
        DataError: it is no such file, or a claim does not follow from its counts.
    """
    papers: dict[str, Certificate | Refusal] = {}
    try:
        body = json.loads(raw)
        if body["schema"] != SCHEMA:
            raise DataError(other_format("it", body["schema"], SCHEMA, "certify anew"))
        for key, fields in body["floors"].items():
            kind = Certificate if fields.pop("certified") else Refusal
            papers[key] = TypeAdapter[Certificate | Refusal](kind).validate_json(json.dumps(fields))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"not a file of certificates: {error}") from error
    for paper in papers.values():
        if isinstance(paper, Certificate):
            verify(paper)
    return papers


class Certifier:
    """Certificates at today's prices, each made at its first use.

    Args:
        models: m names in use.
        success: (n, m) forecasts of the calibration rows by what serves.
        outcomes: (n, m), NaN = nobody judged. cost: (n, m).
        book: made from rows that were fitted on; its curves give the prices walked.
        data: hash of the calibration rows.
    """

    def __init__(
        self,
        models: Sequence[str],
        success: FloatArray,
        outcomes: FloatArray,
        cost: FloatArray,
        book: PriceBook,
        data: str,
    ) -> None:
        self.models = tuple(models)
        self._success, self._outcomes, self._cost = success, outcomes, cost
        self._book, self._data = book, data
        columns = zip(models, outcomes.T, strict=True)
        self._judged = {name for name, column in columns if not np.isnan(column).all()}
        self._made: dict[tuple[float, frozenset[str]], Certificate | Refusal] = {}
        self._lock = threading.Lock()

    def at(self, floor: float, allowed: Sequence[str] | None = None) -> Certificate | Refusal:
        """The certificate of an absolute floor over the allowed models, or why there is none."""
        key = floor, frozenset(self.open(self.models if allowed is None else allowed))
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(*key)
            return self._made[key]

    def open(self, names: Sequence[str]) -> list[str]:
        """The models that the price may choose: with calibration verdicts; all where none has.

        One without could only spoil a certificate: each choice of it counts as wrong.
        """
        return [name for name in names if name in self._judged] or [*names]

    def _make(self, floor: float, allowed: frozenset[str]) -> Certificate | Refusal:
        curve = self._book.curve(sorted(allowed))
        if curve is None:
            return Refusal(floor, 0.0, len(self._success), DELTA)
        mask = np.array([name in allowed for name in self.models], dtype=bool)
        success = np.where(mask, self._success, np.nan)
        grid = price_grid(curve)
        return certify(success, self._outcomes, self._cost, floor, grid=grid, data=self._data)
