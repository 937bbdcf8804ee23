"""Rows that go leave their places to rows that come, so that Chroma's index stops growing."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_world import DIMENSION, MODELS, ChromaServer, ToyEmbedder, record, unit, vectors

from aios_eccos.errors import HistoryError
from aios_eccos.history import chroma, client, places
from aios_eccos.history.history import History
from aios_eccos.history.index import HEADER
from aios_eccos.history.memory import MemoryRows
from aios_eccos.history.open import open_history, rebuild
from aios_eccos.history.places import Places
from aios_eccos.history.store import Embeddings
from aios_eccos.records import Outcome, Record

MOST = 300
#: Of the random test, which was run with more.
STEPS, SEED = 60, 7
#: None of the records is so old that it is removed for that.
NOW = float(int(time.time()))


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server and the folder of its files."""
    folder = tmp_path_factory.mktemp("chroma")
    server = ChromaServer(folder)
    yield server.url, folder
    server.close()


@pytest.fixture(params=["embedded", "server"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path]:
    """What `history` is set to, and where Chroma's files lie."""
    if request.param == "embedded":
        return "embedded", tmp_path / "history/chroma"
    monkeypatch.setattr(places, "REST_S", 0.0)
    request.getfixturevalue("clean_own_server")
    found: tuple[str, Path] = request.getfixturevalue("own_server")
    return found


@pytest.fixture
def clean_own_server(own_server: tuple[str, Path]) -> None:
    raw = client.open_server(own_server[0])
    for collection in raw.list_collections():
        raw.delete_collection(collection.name)
    client.close_client(raw)


def opened(setting: str, state: Path, **options: object) -> History:
    return open_history(setting, state, ToyEmbedder(), **options)  # type: ignore[arg-type]


def calls(first: int, n: int, *, judged: bool = False, **more: object) -> list[Record]:
    """Live records, of which each says in its vector which one it is (see `vectors_of`)."""
    outcome = Outcome("small", 1.0 if judged else None, 9)
    numbers = range(first, first + n)
    live = {"source": "live", "text": "", **more}
    return [record(f"call{i}", outcome, created=NOW + i, **live) for i in numbers]


def vectors_of(records: list[Record]) -> Embeddings:
    made = [np.random.default_rng([*each.id.encode()]).normal(size=DIMENSION) for each in records]
    return unit([row.tolist() for row in made])


def put(store: History, records: list[Record]) -> None:
    store.add(records, vectors_of(records))


def elements(folder: Path, before: set[Path]) -> int:
    """Rows that the largest new index on disk keeps room for, the removed ones among them."""
    headers = [path.read_bytes() for path in {*folder.glob("*/header.bin")} - before]
    return max(struct.unpack(HEADER, each)[3] for each in headers)


@pytest.mark.parametrize("judged", [False, True], ids=["unjudged", "judged"])
def test_the_index_holds_no_more_than_the_rows_however_many_come_and_go(
    place: tuple[str, Path], tmp_path: Path, judged: bool
) -> None:
    setting, folder = place
    known = {*folder.glob("*/header.bin")}
    store = opened(setting, tmp_path, max_records=MOST)
    for first in range(0, 1200, 60):
        put(store, calls(first, 60, judged=judged))
    store.close()
    assert MOST < elements(folder, known) <= MOST + 70
    store = opened(setting, tmp_path)
    assert 290 <= store.count() <= MOST
    table = store.table()
    assert sorted(int(each[4:]) for each in table.ids) == [*range(1200 - store.count(), 1200)]
    expected = vectors_of([record(each) for each in table.ids])
    assert np.allclose(table.embeddings, expected, atol=1e-5)
    store.close()


@pytest.mark.parametrize(
    ("place", "exact"),
    [("embedded", True), ("embedded", False), ("server", False)],
    indirect=["place"],
    ids=["embedded, in memory", "embedded, by Chroma", "server"],
)
def test_whatever_happens_the_rows_are_those_of_a_history_in_memory(
    place: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    """Many kinds of changes in a random order, at which both say the same."""
    if not exact:
        monkeypatch.setattr(chroma, "EXACT_MOST", 0)
    bounds = {"max_records": 120}
    store, plain = opened(place[0], tmp_path, **bounds), History(MemoryRows(), **bounds)
    rng = random.Random(SEED)
    number = 0
    for step in range(STEPS):
        what = rng.choice(["call", "call", "call", "data", "judge", "judge", "again", "forget"])
        ids = sorted(plain.table().ids)
        given: list[Record] = []
        if what == "call":
            given = calls(number, rng.randint(1, 12), judged=rng.random() < 0.2, agent="ann")
        elif what == "data":
            given = [record(f"data{i}", created=NOW + 1e6 + i) for i in range(number, number + 3)]
        elif what == "again" and ids:
            given = [replace(record(each), source="live") for each in rng.sample(ids, 1)]
        elif what == "judge":
            for each in rng.sample(ids, min(5, len(ids))):
                assert store.judge(each, "small", 1.0) == plain.judge(each, "small", 1.0)
        elif what == "forget" and step % 5 == 0:
            assert store.forget(agent="ann") == plain.forget(agent="ann")
        number += 12
        if given:
            # Some ids come again that were there before, as those of data sets do.
            given += calls(max(number - 400, 0), 2, agent="bob")
            put(store, given)
            put(plain, given)
        if step % 25 == 24 and place[0] == "embedded":
            store.close()
            store = opened(place[0], tmp_path, **bounds)
        if step % 4 == 3:
            same(store, plain)
    store.close()


def same(store: History, plain: History) -> None:
    assert store.count() == plain.count()
    one, two = store.table(), plain.table()
    assert one.ids == two.ids
    assert len(one) == 0 or np.allclose(one.embeddings, two.embeddings, atol=1e-5)
    assert store.compared() == plain.compared()
    some = [*one.ids][::7]
    assert {i: row for i, (row, _) in store.recall(some).items()} == {
        i: row for i, (row, _) in plain.recall(some).items()
    }
    if len(some) and (near := plain.nearest(two.embeddings[:3], MODELS, 3)).ids[0]:
        found = store.nearest(two.embeddings[:3], MODELS, 3)
        assert np.allclose(found.similarity, near.similarity, atol=1e-5, equal_nan=True)
        assert found.ids == near.ids


def test_two_kernels_that_remove_the_same_rows_write_over_no_row_of_the_other(
    own_server: tuple[str, Path],
    clean_own_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = [opened(own_server[0], tmp_path) for _ in range(2)]
    put(stores[0], calls(0, 200, agent="ann"))
    both = threading.Barrier(2)

    def work(store: History, first: int) -> None:
        both.wait(60)
        store.forget(agent="ann")
        both.wait(60)
        monkeypatch.setattr(places, "REST_S", 0.0)  # none removes a row from here on
        for start in range(first, first + 120, 20):
            put(store, calls(start, 20))

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work, s, 1000 * i) for i, s in enumerate(stores, 1)]:
            done.result()
    expected = [*calls(1000, 120), *calls(2000, 120)]
    table = stores[1].table()
    assert sorted(table.ids) == sorted(each.id for each in expected)
    assert np.allclose(table.embeddings, vectors_of([record(i) for i in table.ids]), atol=1e-5)
    for store in stores:
        store.close()
    assert rows_of(own_server[0]) < 200 + 240, "places were taken"


def rows_of(url: str) -> int:
    """Rows that nobody has judged on a server, free ones among them."""
    raw = client.open_server(url)
    count = int(raw.get_collection(chroma.UNJUDGED, embedding_function=None).count())
    client.close_client(raw)
    return count


def test_a_place_rests_where_other_processes_write(
    own_server: tuple[str, Path],
    clean_own_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "REST_S", 3600.0)
    store = opened(own_server[0], tmp_path)
    put(store, calls(0, 100, agent="ann"))
    store.forget(agent="ann")
    put(store, calls(100, 20))
    assert store.count() == 20
    assert rows_of(own_server[0]) == 120
    store.close()


def test_places_of_a_kernel_that_has_ended_are_taken_over(
    own_server: tuple[str, Path],
    clean_own_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "REST_S", 0.0)
    store = opened(own_server[0], tmp_path)
    put(store, calls(0, 100, agent="ann"))
    store.forget(agent="ann")
    store.close()

    def rows_after(first: int) -> int:
        store = opened(own_server[0], tmp_path)
        put(store, calls(first, 20))
        assert store.count() == len(store.table()) == first - 80
        store.close()
        return rows_of(own_server[0])

    assert rows_after(100) == 120, "its process may go on"
    monkeypatch.setattr(places, "LEFT_S", -1.0)
    assert rows_after(120) == 120


def test_a_history_of_before_goes_on_and_is_refused_to_the_version_of_before(
    place: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma, "SCHEMA", chroma.BEFORE)
    store = opened(place[0], tmp_path)
    store.add([record(f"r{i}") for i in range(30)], vectors(30))
    put(store, calls(0, 100))
    store.close()
    monkeypatch.undo()
    monkeypatch.setattr(places, "REST_S", 0.0)
    store = opened(place[0], tmp_path, max_records=100)
    assert store.count() == 130
    found = store.nearest(vectors(30)[4:5], MODELS, 1)
    assert found.ids == (("r4",),)
    store.close()
    monkeypatch.setattr(chroma, "SCHEMA", chroma.BEFORE)
    opened(place[0], tmp_path).close()  # nothing was changed
    monkeypatch.undo()
    monkeypatch.setattr(places, "REST_S", 0.0)
    store = opened(place[0], tmp_path, max_records=100)
    put(store, calls(100, 20))
    assert store.judge("call119", "small", 1.0)
    assert store.count() == 98
    store.close()
    monkeypatch.setattr(chroma, "SCHEMA", chroma.BEFORE)
    with pytest.raises(HistoryError, match=r"has format 4, .* upgrade aios-eccos"):
        opened(place[0], tmp_path)


def test_a_rebuilt_history_has_every_row_under_its_records_id(
    place: tuple[str, Path], tmp_path: Path
) -> None:
    store = opened(place[0], tmp_path, max_records=200)
    for first in range(0, 400, 50):
        put(store, calls(first, 50))
    before = store.table()
    assert store.count() < 200
    store.close()
    report = rebuild(place[0], tmp_path, ToyEmbedder())
    assert (report.carried, report.lost) == (len(before), 0)
    store = opened(place[0], tmp_path)
    assert store.table().ids == before.ids
    assert np.allclose(store.table().embeddings, before.embeddings, atol=1e-5)
    store.close()


class Fails:
    """A collection of Chroma that raises when rows are written, once it was told to."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.before = self.after = False

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._rows, name)
        if name not in ("upsert", "update"):
            return act

        def written(**rows: Any) -> None:
            if self.before:
                raise OSError("disk is full")
            act(**rows)
            if self.after:
                raise OSError("the server's answer was lost")

        return written


@pytest.mark.parametrize("when", ["before", "after"])
def test_where_writing_fails_no_row_and_no_place_is_lost(tmp_path: Path, when: str) -> None:
    raw = client.open_folder(tmp_path)
    fails = Fails(raw.get_or_create_collection("rows", embedding_function=None))
    rows = Places(fails, shared=False, searched=False)

    def put(first: int, n: int) -> None:
        records = calls(first, n)
        rows.put([*zip(records, vectors_of(records), strict=True)])

    put(0, 60)
    rows.drop([f"call{i}" for i in range(30)])
    for change in (lambda: rows.drop(["call30"]), lambda: put(60, 10)):
        setattr(fails, when, True)
        with pytest.raises(OSError, match=r"disk|lost"):
            change()
        setattr(fails, when, False)
        left = {record.id for record in rows.records()}
        assert rows.count() == len(left)
        assert len(left & {f"call{i}" for i in range(31, 60)}) == 29
        change()
    put(70, 20)
    assert rows.count() == 29 + 10 + 20
    ids = [record.id for record in rows.records()]
    assert sorted(ids) == sorted(f"call{i}" for i in range(31, 90))
    for record_id, (_, vector) in rows.read(ids, vectors=True).items():
        assert np.allclose(vector, vectors_of([record(record_id)])[0], atol=1e-5)
    assert fails.count() == 60, "the places were taken"
    client.close_client(raw)
