"""Which records a head is fitted on, which compare heads, and which a certificate rests on.

By hash of their question, so that it stays on its side whatever comes after it and under whatever
ids: in `train`, in every re-fit, and among the neighbors while floors are certified.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from aios_eccos.forecast.head.train import usable, usable_rows
from aios_eccos.records import HistoryTable
from aios_eccos.values import BoolArray, IntArray

#: One record in this many is never fitted on, to compare an old head with a new one.
HELD_BACK = 12
#: Where floors are certified, one record in this many is neither fitted on nor a neighbor. Half as
#: many make the promise 1.4 times as wide; twice as many leave the forecasts less to learn from.
CALIBRATE = 4
#: Records of either kind that are used at most: their bounds are then within .01.
MOST = 5_000


def _drawn(salt: str, one_in: int, keys: Iterable[str]) -> BoolArray:
    """(n,) of n `question_key`s, those drawn."""
    digests = (hashlib.sha256(f"{salt}:{key}".encode()).digest() for key in keys)
    drawn = [int.from_bytes(digest[:4], "big") % one_in == 0 for digest in digests]
    return np.array(drawn, dtype=bool)


#: Which of n `question_key`s compare heads, and which certificates rest on: (n,).
held_back = functools.partial(_drawn, "held", HELD_BACK)
calibration = functools.partial(_drawn, "calibrate", CALIBRATE)


def calibrating(table: HistoryTable, models: Sequence[str] | None = None) -> BoolArray:
    """(N,) rows that can calibrate: drawn for it, with more than one model in use judged.

    One model's verdict, as a live call has, says nothing of what another choice had come to. An
    audit says what is better, but not what is right.

    Args:
        models: in use; default: the table's.
    """
    columns = [j for j, name in enumerate(table.models) if models is None or name in models]
    compared: BoolArray = (~np.isnan(table.correctness[:, columns])).sum(axis=1) > 1
    graded: BoolArray = np.array(table.sources, dtype=str) != "audit"
    found: BoolArray = calibration(table.keys) & compared & graded
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """Row numbers of a table, each rising: fitted on, comparing heads, calibrating."""

    fitted: IntArray
    held: IntArray
    apart: IntArray

    def only(self, table: HistoryTable) -> tuple[HistoryTable, Parts]:
        """The rows of any part, and where the parts lie among them: no other need be embedded."""
        rows = np.unique(np.concatenate([self.fitted, self.held, self.apart]))
        places = (np.searchsorted(rows, part) for part in (self.fitted, self.held, self.apart))
        return table.rows(rows), Parts(*places)


def parts_of(
    table: HistoryTable, *, labels: Sequence[str] | None = None, calibrate: bool, seed: int = 0
) -> Parts:
    """Divide a table's usable rows.

    Args:
        labels: rows of `test` are neither fitted on nor compared on; default: the table's splits.
        calibrate: whether calibration rows are set apart, because floors are certified.
    """
    fine = usable(table)
    test = np.array([label == "test" for label in labels or table.splits], dtype=bool)
    apart = calibrating(table) & calibrate
    held = held_back(table.keys) & ~apart
    rows = np.flatnonzero(fine & ~test & ~apart & ~held)
    return Parts(
        fitted=rows[usable_rows(table.rows(rows), seed)],
        held=np.flatnonzero(fine & ~test & held)[:MOST],
        apart=np.flatnonzero(fine & apart)[:MOST],
    )
