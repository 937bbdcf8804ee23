"""When a trained head is fitted anew.

Once enough has been judged since it was, or has answers to compare; once a model that it does not
know has enough verdicts; and at once, where floors are certified and it was fitted on what
certificates rest on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aios_eccos.forecast.head.artifact import read_about
from aios_eccos.forecast.head.refit import (
    Asked,
    BackgroundRefit,
    compared_rows,
    is_unfit,
    judged_rows,
)
from aios_eccos.history.history import History
from aios_eccos.records import HistoryTable

log = logging.getLogger("aios_eccos.forecast.head.upkeep")

#: Judged records with text that must have come since the last fit: so many, and this share.
NEW_RECORDS, GROWTH = 50, 0.2
#: Seconds between two looks at how much there is. Each reads the whole history, so of a long one
#: they are farther apart: reading takes at most this share of the time.
LOOK_S, SHARE = 600.0, 0.01


class HeadUpkeep:
    """Looks after the head at `path`: fits it anew in the background. For one thread."""

    def __init__(self, path: Path, background: BackgroundRefit | None = None) -> None:
        self._path = path
        self._background = background or BackgroundRefit(path)
        self._look_at = 0.0
        self._seen: int | None = None
        self._tried: dict[str, int] = {}
        self._tried_for: dict[str, int] = {}
        self._asked: Asked | None = None
        self._unfit: str | None = None

    def tend(self, history: History, asked: Asked) -> bool:
        """Start a re-fit if one is due, take what one has come to; True: a new head is in place.

        Raises:
            ArtifactError: the head is damaged, or no process can be started.
            HistoryError: the history cannot be read.
        """
        result = self._background.poll()
        if result is not None:
            outcome = "taken" if result.taken else "not taken"
            log.info(
                "head fitted anew on %d records: %s (Brier on held-back records %s, before %s)%s",
                result.records, outcome, result.new, result.old,
                f": {result.error}" if result.error else "",
            )  # fmt: skip
            return result.taken
        if asked != self._asked:  # another mode: look at once
            self._asked, self._look_at = asked, 0.0
        if self._background.running or time.monotonic() < self._look_at or not self._path.exists():
            return False
        about = read_about(self._path)
        unfit = self._is_unfit(about, asked)
        begun = time.monotonic()
        self._look_at = begun + LOOK_S
        if unfit or history.version != self._seen:
            self._seen = history.version
            table = history.table()
            self._look_at += (time.monotonic() - begun) / SHARE
            if self._due(about, table) or unfit:
                self._tried, self._tried_for = _ages(table), _verdicts(table)
                self._background.start(table, asked)
        return False

    def close(self) -> None:
        """End a re-fit that is under way."""
        self._background.close()

    def _is_unfit(self, about: Mapping[str, Any], asked: Asked) -> bool:
        """Whether certificates want a head that this one is not; said once of each head."""
        head = str(about.get("arrays"))
        if not is_unfit(about, asked) or head == self._unfit:
            return False
        self._unfit = head
        return True

    def _due(self, about: Mapping[str, Any], table: HistoryTable) -> bool:
        """Whether a head of these facts is fitted anew on the table.

        One that was turned down is not fitted again on the same records, nor for the same model
        before that has twice the verdicts.
        """
        facts = about.get("facts", {})
        for age, count in _ages(table).items():
            before = max(int(facts.get(age, 0)), self._tried.get(age, 0))
            if count - before >= NEW_RECORDS and count >= (1 + GROWTH) * before:
                return True
        return any(
            count >= max(NEW_RECORDS, 2 * self._tried_for.get(name, 0))
            for name, count in _verdicts(table).items()
            if name not in about.get("models", ())
        )


def _ages(table: HistoryTable) -> dict[str, int]:
    """What tells a head's age, as in its facts."""
    return {"judged": judged_rows(table), "compared": compared_rows(table)}


def _verdicts(table: HistoryTable) -> dict[str, int]:
    """Number of verdicts by model."""
    counts = (~np.isnan(table.correctness)).sum(axis=0)
    return dict(zip(table.models, counts.tolist(), strict=True))
