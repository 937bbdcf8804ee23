"""The history: what is done with records, wherever their rows lie (`Rows`)."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from aios_eccos.errors import DataError, EccosError, HistoryError
from aios_eccos.history.merge import (
    check_embeddings,
    is_same_question,
    is_same_row,
    mend,
    other_id,
    storable,
    update_row,
    verdict,
)
from aios_eccos.history.mirror import Mirror, build_table
from aios_eccos.history.store import PAGE, Changes, Embeddings, Neighbors, Row, Rows
from aios_eccos.records import HistoryTable, Record

log = logging.getLogger("aios_eccos.history")

DAY_S = 86_400.0
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
    """See `HistoryStore`. Made by `open_history`.

    Args:
        rows: where they lie.
        dimension: of the embeddings; None: that of the first one.
        store_text: whether texts are kept; None: those of data sets are, those of live calls not.
        max_records: most records kept; the oldest live ones go first.
        max_age_days: live records older than this are removed.
        on_close: called once, to close what the rows lie in.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        dimension: int | None = None,
        store_text: bool | None = None,
        max_records: int = sys.maxsize,
        max_age_days: float = math.inf,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._rows = rows
        self._dimension = dimension
        self._store_text = store_text
        self._max_records = max_records
        self._max_age_days = max_age_days
        self._on_close: Callable[[], None] | None = on_close
        self._lock = threading.RLock()
        self._version = 0
        self._stamp, self._looked = "", -STAMP_S
        self._failed, self._aged = -REST_S, -AGE_S
        self._mirror: Mirror | None = None
        #: By record id: when the first came (monotonic), and verdicts by model.
        self._early: OrderedDict[str, tuple[float, dict[str, Record]]] = OrderedDict()
        self._judged, self._count = rows.counts()

    @property
    def version(self) -> int:
        """See `HistoryStore.version`; of a shared history at most `STAMP_S` seconds old."""
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
            raise HistoryError(
                f"{len(faults)} of {len(records)} records cannot be stored: {faults[0]}"
            ) from faults[0]
        return changes

    def _put(
        self, records: Sequence[Record], embeddings: Embeddings | None, faults: list[EccosError]
    ) -> Changes:
        """Write what is new or changed, of at most one batch; what cannot be is a fault."""
        given: list[tuple[Record, Embeddings | None]] = []
        for row, record in enumerate(records):
            try:
                given.append((storable(record), _finite(embeddings, row)))
            except DataError as error:
                faults.append(error)
        before = self._rows.read(list(dict.fromkeys(record.id for record, _ in given)))
        apart = _kept_apart(given, before)
        renamed = [(old.id, new.id) for (old, _), (new, _) in zip(given, apart, strict=True)]
        renamed = [pair for pair in dict.fromkeys(renamed) if pair[0] != pair[1]]
        before |= self._rows.read([name for _, name in renamed])
        early = [one for record, _ in apart for one in self._early_of(record.id)]
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

    def _early_of(self, record_id: str) -> list[tuple[Record, None]]:
        """The verdicts that came before their record, as records."""
        _, verdicts = self._early.get(record_id, (0.0, {}))
        return [(one, None) for one in verdicts.values()]

    def nearest(self, embeddings: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        """See `HistoryStore.nearest`. A server that has just failed is not asked again at once."""
        queries = check_embeddings(embeddings, None, self._dimension or embeddings.shape[-1])
        if not np.isfinite(queries).all():
            raise HistoryError("embeddings hold numbers that are not finite")
        if self._rows.shared and time.monotonic() - self._failed < REST_S:
            raise HistoryError("the Chroma server has just failed, and is left alone for a while")
        try:
            return self._nearest(queries, models, k)
        except HistoryError:
            self._failed = time.monotonic()
            raise

    def _nearest(self, queries: Embeddings, models: Sequence[str], k: int) -> Neighbors:
        if not len(queries) or not (self._rows.shared or self._judged):
            return Mirror().neighbors([[] for _ in queries], models, k)
        if self._rows.shared:
            near, records = self._rows.find(queries, k, records=True)
            return Mirror(records).neighbors(near, models, k)
        near, _ = self._rows.find(queries, min(k, self._judged), records=False)
        return self._read_mirror().neighbors(near, models, k)

    def table(
        self, *, limit: int | None = None, splits: Collection[str] | None = None
    ) -> HistoryTable:
        order = self._read_mirror().newest(splits)[:limit]
        rows = self._rows.read(order)
        kept = [rows[record_id] for record_id in order if record_id in rows]
        matrix = np.array([vector for _, vector in kept], dtype=np.float32)
        return build_table(
            [record for record, _ in kept], matrix.reshape(len(kept), self._dimension or 0)
        )

    def compared(self) -> dict[str, str]:
        return self._read_mirror().compared()

    def judge(self, record_id: str, model: str, correctness: float) -> bool:
        given = verdict(record_id, model, correctness)
        faults: list[EccosError] = []
        with self._lock:
            if self._put([given], None, faults).total:
                self._touch()
            if faults:
                now = time.monotonic()
                self._early.setdefault(record_id, (now, {}))[1][model] = given
                while len(self._early) > EARLY_MOST or now - self._first_early() > EARLY_S:
                    self._early.popitem(last=False)
        return not faults

    def _first_early(self) -> float:
        return next(iter(self._early.values()))[0]

    def recall(self, ids: Sequence[str]) -> dict[str, Row]:
        return self._rows.read(list(dict.fromkeys(ids)))

    def count(self) -> int:
        return self._rows.counts()[1] if self._rows.shared else self._count

    def forget(self, *, agent: str) -> int:
        with self._lock:
            gone = self._rows.ids({"agent": mend(agent)})
            self._delete(gone)
            return len(gone)

    def close(self) -> None:
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _read_mirror(self) -> Mirror:
        """Outcomes and labels of every row; read once where no other process writes.

        With every search they would have to be read for the rows found, which takes three times
        as long as the search itself.
        """
        if self._mirror is not None:
            return self._mirror
        with self._lock:
            if self._mirror is None:
                ids = self._rows.ids()
                mirror = Mirror()
                # A page at a time: together they would be millions of objects.
                for start in range(0, len(ids), PAGE):
                    page = self._rows.read(ids[start : start + PAGE], vectors=False)
                    for record, _ in page.values():
                        mirror.put(record)
                if self._rows.shared:
                    return mirror
                self._mirror = mirror
            return self._mirror

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
            before = time.time() - self._max_age_days * DAY_S
            self._delete(self._rows.ids({"source": "live", "created": {"$lt": before}}))
        if self._count > self._max_records:
            keep = int(self._max_records * (1 - PRUNE_SHARE))
            self._delete(self._read_mirror().surplus(keep))


def _finite(embeddings: Embeddings | None, row: int) -> Embeddings | None:
    """One of the embeddings, if there are any.

    Raises:
        DataError: it holds a number that is not finite.
    """
    if embeddings is not None and not np.isfinite(embeddings[row]).all():
        raise DataError("its embedding holds numbers that are not finite")
    return None if embeddings is None else embeddings[row]


def _kept_apart(
    given: Sequence[tuple[Record, Embeddings | None]], known: Mapping[str, Row]
) -> list[tuple[Record, Embeddings | None]]:
    """The records, each under an id that no other question has."""
    first: dict[str, tuple[Record, Embeddings | None]] = {**known}
    apart = []
    for record, vector in given:
        if not is_same_question(first.setdefault(record.id, (record, vector)), record, vector):
            record = replace(record, id=other_id(record))
        apart.append((record, vector))
    return apart
