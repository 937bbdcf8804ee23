"""The history: what is done with records, wherever their rows lie (`Rows`)."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import ExitStack

import numpy as np

from aios_eccos.errors import DataError, EccosError, HistoryError
from aios_eccos.history.embed.embedding import stacked
from aios_eccos.history.merge import (
    check_embeddings,
    finite,
    is_same_row,
    kept_apart,
    mend,
    storable,
    update_row,
    verdict,
)
from aios_eccos.history.mirror import Mirror, build_table, expired, read_mirror
from aios_eccos.history.store import (
    AuditedCalls,
    Changes,
    Embeddings,
    Given,
    Neighbors,
    Row,
    Rows,
)
from aios_eccos.records import HistoryTable, Record

log = logging.getLogger("aios_eccos.history")

#: Share of `max_records` removed at once when the history is full, so that it is rarely done.
PRUNE_SHARE = 0.02
#: Seconds between two removals of what is too old.
AGE_S = 3600.0
#: Seconds between two looks at whether another process has changed a shared history.
STAMP_S = 2.0
#: Seconds for which calls do not ask a server again that has just failed.
REST_S = 5.0
#: Records whose verdicts are kept until they come, at most so many for so many seconds. The record
#: of a call comes seconds after its answer; that of a call without text never comes.
EARLY_MOST, EARLY_S = 10_000, 900.0


class History:
    """Past queries by nearness; made by `open_history`. Safe to use from several threads.

    Every method raises `HistoryError` where the history cannot be read or written.

    Args:
        rows: where they lie.
        dimension: of the embeddings; None: that of the first one.
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.
        max_records: most records kept; the oldest live ones go first.
        max_age_days: live records older than this are removed.
        closing: what is closed with the history, taken over once that is open.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        dimension: int | None = None,
        store_text: bool | None = None,
        max_records: int = sys.maxsize,
        max_age_days: float = math.inf,
        closing: ExitStack | None = None,
    ) -> None:
        self._rows = rows
        self._dimension = dimension
        self._store_text = store_text
        self._max_records, self._max_age_days = max_records, max_age_days
        self._lock = threading.RLock()
        self._version = 0
        self._stamp, self._looked = "", -STAMP_S
        self._failed, self._aged = -REST_S, -AGE_S
        self._mirror: Mirror | None = None
        #: By record id: when the first came (monotonic), and verdicts by model.
        self._early: OrderedDict[str, tuple[float, dict[str, Record]]] = OrderedDict()
        self._judged, self._count = rows.counts()
        self._closing = (closing or ExitStack()).pop_all()

    @property
    def version(self) -> int:
        """Changes whenever rows change, so that what was fitted on them can be fitted anew.

        That of a shared history is at most `STAMP_S` seconds old.
        """
        if self._rows.shared and time.monotonic() - self._looked >= STAMP_S:
            with self._lock:
                self._looked = time.monotonic()
                try:
                    stamp = self._rows.stamp()
                except HistoryError as error:
                    log.debug("no news of the history: %s", error)
                else:
                    self._version += stamp != self._stamp
                    self._stamp = stamp
        return self._version

    def add(self, records: Sequence[Record], embeddings: Embeddings | None = None) -> Changes:
        """Add records or, by id, update them (outcomes are merged per model, see `merge`).

        Two questions are never merged: one whose id another question has gets an id of its own.
        A record that cannot be stored keeps no other one out.

        Args:
            embeddings: (n, d) rows of unit length. None is allowed where all ids are known.

        Raises:
            HistoryError: embeddings of another shape: nothing is stored. Or records that cannot
                be, such as an unknown id without an embedding: all others are stored.
        """
        if embeddings is not None:
            if self._dimension is None:
                self._dimension = int(np.asarray(embeddings).shape[-1])
            embeddings = check_embeddings(embeddings, len(records), self._dimension)
        changes = Changes()
        faults: list[EccosError] = []
        for start in range(0, len(records), self._rows.batch):
            part = slice(start, start + self._rows.batch)
            vectors = None if embeddings is None else embeddings[part]
            with self._lock:
                changes += self._put(records[part], vectors, faults)
        if changes.total:
            with self._lock:
                self._touch()
                self._prune()
        if faults:
            said = f"{len(faults)} of {len(records)} records cannot be stored: {faults[0]}"
            raise HistoryError(said) from faults[0]
        return changes

    def _put(
        self, records: Sequence[Record], embeddings: Embeddings | None, faults: list[EccosError]
    ) -> Changes:
        """Write what is new or changed, of at most one batch; what cannot be is a fault."""
        given: list[Given] = []
        for row, record in enumerate(records):
            try:
                given.append((storable(record), finite(embeddings, row)))
            except DataError as error:
                faults.append(error)
        before = self._rows.read([record.id for record, _ in given])
        apart = kept_apart(given, before)
        ids = [(old.id, new.id) for (old, _), (new, _) in zip(given, apart, strict=True)]
        renamed = [pair for pair in dict.fromkeys(ids) if pair[0] != pair[1]]
        before |= self._rows.read([name for _, name in renamed])
        waiting = (self._early.get(record.id, (0.0, {}))[1] for record, _ in apart)
        early = [(one, None) for verdicts in waiting for one in verdicts.values()]
        after = dict(before)
        for record, vector in [*apart, *early]:
            try:
                updated = update_row(after.get(record.id), record, vector, self._store_text)
            except HistoryError as error:
                faults.append(error)
            else:
                after[record.id] = updated
        changed = {i: row for i, row in after.items() if not is_same_row(row, before.get(i))}
        if changed:
            self._rows.write(changed)
        for record, _ in changed.values():
            self._early.pop(record.id, None)
            if self._mirror is not None:
                self._mirror.put(record)
        added = len(changed.keys() - before.keys())
        return Changes(added, len(changed) - added, tuple(renamed))

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """The k judged records nearest to each of the (n, d) unit rows, by cosine.

        Live calls without a verdict (see `is_judged`) say nothing about success, and would take
        the places of those that do. A server that has just failed is not asked again at once.
        """
        queries = check_embeddings(embeddings, None, self._dimension or embeddings.shape[-1])
        if not np.isfinite(queries).all():
            raise HistoryError("embeddings hold numbers that are not finite")
        shared = self._rows.shared
        if shared and time.monotonic() - self._failed < REST_S:
            raise HistoryError("the Chroma server has just failed, and is left alone for a while")
        if not len(queries) or not (shared or self._judged):
            return Mirror().neighbors([[] for _ in queries], models, k)
        try:
            k = k if shared else min(k, self._judged)
            near, records = self._rows.find(queries, k, records=shared)
            mirror = Mirror(records) if shared else self._read_mirror()
            return mirror.neighbors(near, models, k)
        except HistoryError:
            self._failed = time.monotonic()
            raise

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        """The history as arrays: at most `limit` rows; only `splits` if given.

        Judged records come first, of those the newest day. Within a day (UTC) the order is as good
        as random but always the same, so that the first rows are a sample of a data set and not
        the end of its file.
        """
        order = self._read_mirror().newest(splits)[:limit]
        rows = self._rows.read(order)
        kept = [rows[record_id] for record_id in order if record_id in rows]
        vectors = stacked([vector for _, vector in kept], self._dimension or 0)
        return build_table([record for record, _ in kept], vectors)

    def compared(self) -> dict[str, str]:
        """`question_key`s, in the order of `table`, of records with more than one model judged."""
        return self._read_mirror().compared()

    def audited(self) -> AuditedCalls:
        """What audits' records say, beside the verdicts on their calls."""
        return self._read_mirror().audited()

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        """Store a verdict (0..1) on what `model` did; False if the record is not known yet.

        A verdict that comes before its record is kept for a while, and joins it.
        """
        given = verdict(record_id, model, correctness)
        faults: list[EccosError] = []
        with self._lock:
            if self._put([given], None, faults).total:
                self._touch()
            if not faults:
                return True
            now, early = time.monotonic(), self._early
            while len(early) >= EARLY_MOST or now - next(iter(early.values()), (now,))[0] > EARLY_S:
                early.popitem(last=False)
            early.setdefault(record_id, (now, {}))[1][model] = given
        return False

    def recall(self, ids: Sequence[str]) -> dict[str, Row]:
        """Records with their (d,) embeddings, by id; unknown ids are left out."""
        return self._rows.read(ids)

    def count(self) -> int:
        """Number of records."""
        return self._rows.counts()[1] if self._rows.shared else self._count

    def forget(self, *, agent: str) -> int:
        """Remove every record of an agent; returns how many there were."""
        with self._lock:
            gone = self._rows.ids({"agent": mend(agent)})
            self._delete(gone)
            return len(gone)

    def close(self) -> None:
        """Release files, locks and connections; harmless when repeated."""
        with self._lock:
            closing = self._closing.pop_all()
        closing.close()

    def _read_mirror(self) -> Mirror:
        """Outcomes and labels of every row; read once where no other process writes.

        With every search they would have to be read for the rows found, which takes three times
        as long as the search itself.
        """
        if self._mirror is not None:
            return self._mirror
        with self._lock:
            mirror = self._mirror or read_mirror(self._rows)
            self._mirror = None if self._rows.shared else mirror
            return mirror

    def _delete(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        self._rows.delete(ids)
        if self._mirror is not None:
            for record_id in ids:
                self._mirror.drop(record_id)
        self._touch()

    def _touch(self) -> None:
        """Note that rows have changed, for this process and, if shared, for the others."""
        self._version += 1
        self._judged, self._count = self._rows.counts()
        if self._rows.shared:
            self._stamp = self._rows.restamp()

    def _prune(self) -> None:
        """Remove what is too old and, where there is too much, the oldest: live rows first."""
        if time.monotonic() - self._aged >= AGE_S and math.isfinite(self._max_age_days):
            self._aged = time.monotonic()
            self._delete(expired(self._rows, self._max_age_days))
        if self._count > self._max_records:
            keep = int(self._max_records * (1 - PRUNE_SHARE))
            self._delete(self._read_mirror().surplus(keep))
