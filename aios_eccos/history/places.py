"""A Chroma collection by record id, in which removed rows leave their places to rows to come.

Chroma's index (1.5.9) gives no room back: whatever is removed, rows or collections, stays in memory
(2.7 kB a row) and makes searches slower. A vector that is written over another one takes no room.
So a row that goes is marked as free, and a later live record is written over it. Its row says whose
it is; a row that says nothing belongs to the record of its own id, as in earlier versions.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aios_eccos.history.rows import holder, read_row, to_metadata
from aios_eccos.history.store import PAGE, Embeddings, Row
from aios_eccos.records import LIVE, Record

#: Where other processes write too, a place rests for so many seconds before a row takes it: what
#: they still do to the row before has ended by then.
REST_S = 60.0
#: There, whoever opens the history takes over places that have been free for so long, as their
#: process has ended; one that goes on marks its places anew before.
RENEW_S, LEFT_S = 1800.0, 3600.0
#: Share of a searched collection's rows up to which those that go leave their places; more are
#: removed for good.
MOST_FREE = 0.5
#: A search finds free places, too: so many neighbors more are asked for, and so many times as many
#: at most.
SPARE, MORE = 4, 10.0
#: With fewer rows in the collection no place is taken: where an index has a single row, Chroma does
#: not write a vector to disk that was written over another.
LEAST = 16
#: Vectors read at a time.
HELD_PAGE = 5_000
#: What finds free rows, and those that belong to another record than the one of their id.
FREE, ELSEWHERE = {"id": ""}, {"elsewhere": True}


class Places:
    """Rows of one collection. One writer at a time in this process; readers at any time.

    Args:
        rows: Chroma's collection.
        shared: whether other processes write too.
        searched: whether `find` is asked.
    """

    def __init__(self, rows: Any, *, shared: bool, searched: bool) -> None:
        self.rows = rows
        self._shared, self._searched = shared, searched
        self._mine = uuid.uuid4().hex
        #: Free places of this process, and since when (monotonic); the longest free comes first.
        self._free: dict[str, float] | None = None
        #: Share of the rows that was free when they were last counted.
        self._share = 0.0
        #: Record ids by place, where they differ, if they are wanted.
        self._names: dict[str, str] | None = None

    def probe(self) -> None:
        """Read one row, and find it, since a lost index would only show as missing neighbors."""
        row = self.rows.get(limit=1, include=["embeddings"])["embeddings"]
        if self._searched and (wanted := min(8, int(self.rows.count()))):
            found = self.rows.query(query_embeddings=row, n_results=wanted, include=["distances"])
            if len(found["ids"][0]) < wanted:
                raise ValueError("the index does not hold the rows")

    def count(self) -> int:
        free = self.rows.get(where=FREE, include=[])["ids"] if self._shared else self._places()
        rows = int(self.rows.count())
        self._share = len(free) / max(rows, 1)
        return rows - len(free)

    def ids(self, where: Mapping[str, object]) -> list[str]:
        got = self.rows.get(where=where, include=["metadatas"])
        held = (holder(*row) for row in zip(got["ids"], got["metadatas"], strict=True))
        return [record_id for record_id in held if record_id]

    def know_names(self) -> None:
        """Once, before `find` is asked for ids alone; nobody writes meanwhile."""
        self._names = self._read_names()

    def records(self) -> Iterator[Record]:
        """All of them; by the page, as together they would be many objects."""
        places = self.rows.get(include=[])["ids"]
        for start in range(0, len(places), PAGE):
            got = self.rows.get(ids=places[start : start + PAGE], include=["metadatas"])
            found = (read_row(*row) for row in zip(got["ids"], got["metadatas"], strict=True))
            yield from (record for record in found if record is not None)

    def vectors(self) -> Iterator[tuple[list[str], Embeddings]]:
        """Record ids and their (n, d) vectors, by the page."""
        names, free = self._read_names(), self._places()
        places = [place for place in self.rows.get(include=[])["ids"] if place not in free]
        for start in range(0, len(places), HELD_PAGE):
            got = self.rows.get(ids=places[start : start + HELD_PAGE], include=["embeddings"])
            ids = [names.get(place, place) for place in got["ids"]]
            yield ids, np.asarray(got["embeddings"], dtype=np.float32)

    def read(self, ids: Sequence[str], *, vectors: bool) -> dict[str, Row]:
        """At most `PAGE` rows by record id."""
        wanted, found = set(ids), dict[str, Row]()
        for place, (metadata, vector) in self._look(ids, vectors=vectors).items():
            record = read_row(place, metadata)
            if record is not None and record.id in wanted:
                found[record.id] = record, np.asarray(vector, dtype=np.float32)
        return found

    def put(self, rows: Sequence[Row]) -> None:
        """Add or replace rows; new live ones take free places."""
        known, used = self._where([record.id for record, _ in rows])
        new = {record.id: record.source in LIVE for record, _ in rows if record.id not in known}
        live = [name for name, is_live in new.items() if is_live]
        taken = dict(zip(live, self._take(len(live)), strict=False))
        used.update(taken.values())
        places = {
            name: taken.get(name) or (name if name not in used else f"{name}#{uuid.uuid4().hex}")
            for name in new
        } | {name: found[0] for name, found in known.items()}
        named = {name: {"id": name, **ELSEWHERE} for name, at in places.items() if at != name}
        named |= {name: {"id": name, **ELSEWHERE} for name in taken}
        with self._doubted():
            self.rows.upsert(
                ids=[places[record.id] for record, _ in rows],
                embeddings=np.stack([vector for _, vector in rows]),
                metadatas=[to_metadata(record) | named.get(record.id, {}) for record, _ in rows],
            )
        for place in taken.values():
            self._places().pop(place, None)
        if self._names is not None:
            self._names |= {places[name]: name for name in named}
        # Two processes that wrote a record at a time may have written it twice.
        self._leave([place for found in known.values() for place in found[1:]])

    def drop(self, ids: Sequence[str]) -> None:
        """Remove rows by record id; unknown ids are none."""
        for start in range(0, len(ids), PAGE):
            known, _ = self._where(ids[start : start + PAGE])
            self._leave([*itertools.chain.from_iterable(known.values())])

    def find(
        self, queries: Embeddings, k: int, *, records: bool
    ) -> tuple[list[list[tuple[str, float]]], list[Record]]:
        """See `Rows.find`."""
        asked = k
        if self._share:
            asked = SPARE + math.ceil(k * min(1.0 / (1.0 - min(self._share, 0.99)), MORE))
        include = ["distances", "metadatas"] if records else ["distances"]
        got = self.rows.query(query_embeddings=queries, n_results=asked, include=include)
        if records:
            held: dict[str, Record | None] = {
                place: None if metadata is None else read_row(place, metadata)
                for pair in zip(got["ids"], got["metadatas"], strict=True)
                for place, metadata in zip(*pair, strict=True)
            }
            names = {place: record.id for place, record in held.items() if record is not None}
        else:
            held = {}
            gone, known = self._places(), self._names or {}
            names = {p: known.get(p, p) for row in got["ids"] for p in row if p not in gone}
        near = [
            [(names[p], 1.0 - far) for p, far in zip(*pair, strict=True) if p in names][:k]
            for pair in zip(got["ids"], got["distances"], strict=True)
        ]
        return near, [record for record in held.values() if record is not None]

    def _look(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, tuple[Any, Any]]:
        """Metadata and vectors by place: of these ids, and of where records of these ids are."""
        include = ["metadatas", "embeddings"] if vectors else ["metadatas"]
        found: dict[str, tuple[Any, Any]] = {}
        for asked in ({"ids": [*ids]}, {"where": {"id": {"$in": [*ids]}}}) if ids else ():
            got = self.rows.get(**asked, include=include)
            embeddings = got["embeddings"] if vectors else [()] * len(got["ids"])
            pairs = zip(got["metadatas"], embeddings, strict=True)
            found.update(zip(got["ids"], pairs, strict=True))
        return found

    def _where(self, ids: Sequence[str]) -> tuple[dict[str, list[str]], set[str]]:
        """The places of those records that are there; and all places that were come upon."""
        known: dict[str, list[str]] = {}
        used: set[str] = set()
        for start in range(0, len(ids), PAGE):
            part = ids[start : start + PAGE]
            found = self._look(part)
            used |= found.keys()
            for place, (metadata, _) in found.items():
                if (name := holder(place, metadata)) in part:
                    known.setdefault(name, []).append(place)
        return known, used

    def _leave(self, places: Sequence[str]) -> None:
        """Let rows go: their places become free, or are removed where enough are."""
        room = len(places)
        if self._searched:
            room = max(int(MOST_FREE * self.rows.count()) - len(self._places()), 0)
        self._mark(places[:room])
        if gone := [*places[room:]]:
            self.rows.delete(ids=gone)

    def _mark(self, places: Sequence[str]) -> None:
        """Mark places as free, and as this process's."""
        empty = to_metadata(Record("", "", 0, (), task=self._mine, created=time.time())) | FREE
        for start in range(0, len(places), PAGE):
            part = [*places[start : start + PAGE]]
            with self._doubted():
                self.rows.update(ids=part, metadatas=[empty] * len(part))
            for place in part:
                self._places().pop(place, None)
                self._places()[place] = time.monotonic()

    def _take(self, count: int) -> list[str]:
        """At most so many free places."""
        free, now = self._places(), time.monotonic()
        if self._shared:
            self._mark(self._mine_still([p for p, at in free.items() if now - at > RENEW_S]))
        if not free or not count or self.rows.count() < LEAST:
            return []
        rest = REST_S if self._shared else -math.inf
        rested = (place for place, since in free.items() if now - since >= rest)
        return self._mine_still([*itertools.islice(rested, count)])

    def _mine_still(self, places: Sequence[str]) -> list[str]:
        """Those that are still free, and of this process; it forgets the others."""
        kept = []
        for start in range(0, len(places), PAGE):
            got = self.rows.get(ids=[*places[start : start + PAGE]], include=["metadatas"])
            for place, metadata in zip(got["ids"], got["metadatas"], strict=True):
                mine = not self._shared or metadata["task"] == self._mine
                if mine and not holder(place, metadata):
                    kept.append(place)
        for place in {*places} - {*kept}:
            self._places().pop(place, None)
        return kept

    @contextlib.contextmanager
    def _doubted(self) -> Iterator[None]:
        """Where writing fails, Chroma may have written all the same: what is free is read again.

        Of a shared collection that is looked at before a place is taken.
        """
        try:
            yield
        except BaseException:
            if not self._shared:
                self._free = None
            raise

    def _places(self) -> dict[str, float]:
        """Free places; at first those that a process has left which has ended."""
        if self._free is None:
            if not self._shared:
                self._free = dict.fromkeys(self.rows.get(where=FREE, include=[])["ids"], 0.0)
            else:
                self._free = {}
                old = {"$and": [FREE, {"created": {"$lt": time.time() - LEFT_S}}]}
                self._mark(self.rows.get(where=old, include=[])["ids"])
        return self._free

    def _read_names(self) -> dict[str, str]:
        got = self.rows.get(where=ELSEWHERE, include=["metadatas"])
        return {p: str(row["id"]) for p, row in zip(got["ids"], got["metadatas"], strict=True)}
