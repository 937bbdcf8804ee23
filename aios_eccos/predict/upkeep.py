"""When a trained head is fitted anew: once enough has been judged since it was.

Or once, where it does not know a model that has verdicts, or where floors are certified and it was
fitted on what certificates rest on.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from aios_eccos.history.store import HistoryStore
from aios_eccos.predict.artifact import read_about
from aios_eccos.predict.refit import Asked, BackgroundRefit, judged_rows
from aios_eccos.values import HistoryTable

log = logging.getLogger("aios_eccos.predict.upkeep")

#: Judged records with text that must have come since the last fit: so many, and this share.
NEW_RECORDS, GROWTH = 50, 0.2
#: Seconds between two looks at how much there is. Each reads the whole history, so of a long one
#: they are farther apart: reading takes at most this share of the time.
LOOK_S, SHARE = 600.0, 0.01


class HeadUpkeep:
    """Looks after the head at `path`: fits it anew in the background. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._background = BackgroundRefit(path)
        self._look_at = 0.0
        self._seen: int | None = None
        self._tried = 0

    def tend(self, history: HistoryStore, asked: Asked) -> bool:
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
        if self._background.running or time.monotonic() < self._look_at or not self._path.exists():
            return False
        begun = time.monotonic()
        self._look_at = begun + LOOK_S
        if history.version != self._seen:
            self._seen = history.version
            table = history.table()
            self._look_at += (time.monotonic() - begun) / SHARE
            if self._due(table, asked):
                self._background.start(table, asked)
        return False

    def close(self) -> None:
        """End a re-fit that is under way."""
        self._background.close()

    def _due(self, table: HistoryTable, asked: Asked) -> bool:
        about, judged = read_about(self._path), judged_rows(table)
        fitted = int(about.get("facts", {}).get("judged", 0))
        # A head that was turned down is not fitted again on the same records.
        before = max(fitted, self._tried)
        verdicts = dict(
            zip(table.models, (~np.isnan(table.correctness)).sum(axis=0).tolist(), strict=True)
        )
        fresh = [n for n, count in verdicts.items() if count >= NEW_RECORDS]
        unknown = not set(fresh) <= set(about.get("models", ()))
        unfit = asked.calibrate and not about.get("apart")
        grown = judged - before >= NEW_RECORDS and judged >= (1 + GROWTH) * before
        due = grown or (self._tried == 0 and (unknown or unfit))
        if due:
            self._tried = judged
        return due
