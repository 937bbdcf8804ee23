"""The history in Chroma: kept, bounded, refused where it does not fit, noticed when damaged."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from history_world import (
    DIMENSION,
    MODELS,
    ChromaServer,
    Gate,
    ToyEmbedder,
    record,
    some_records,
    vectors,
)

from aios_eccos.errors import EmbedderError, HistoryError
from aios_eccos.history import chroma, client, history
from aios_eccos.history.history import History
from aios_eccos.history.index import is_sound
from aios_eccos.history.mend import mend
from aios_eccos.history.open import open_history, rebuild
from aios_eccos.history.places import Places
from aios_eccos.records import HistoryTable, Outcome, Record

DAY_S = 86_400.0
NOW = time.time()


def opened(state: Path, setting: str = "embedded", **options: object) -> History:
    return open_history(setting, state, ToyEmbedder(), **options)  # type: ignore[arg-type]


def fill(state: Path, n: int = 20) -> None:
    store = opened(state)
    store.add(some_records(n), vectors(n))
    store.close()


def live(name: str, created: float, **more: object) -> object:
    return record(name, source="live", created=created, **more)


def test_what_was_added_is_there_after_opening_again(tmp_path: Path) -> None:
    fill(tmp_path)
    store = opened(tmp_path)
    assert store.count() == 20
    found = store.nearest(vectors(20)[4:5], MODELS, 1)
    assert found.ids == (("r004",),)
    assert found.output_tokens[0, 0].tolist() == [104, 14]
    assert store.add(some_records(20), vectors(20)).total == 0
    store.close()


def test_more_rows_than_a_batch(
    clean_server: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma, "PAGE", 7)
    store = opened(tmp_path, clean_server.url)
    assert store.add(some_records(40), vectors(40)).total == 40
    assert store.count() == 40
    assert len(store.table()) == 40
    assert store.add(some_records(40), vectors(40)).total == 0
    store.close()


def test_the_oldest_live_rows_make_room(tmp_path: Path) -> None:
    store = opened(tmp_path, max_records=100)
    old = time.time() - DAY_S
    store.add([record(f"data{i}", created=1.0 + i) for i in range(60)], vectors(60))
    store.add([live(f"live{i}", old + i) for i in range(40)], vectors(40, seed=1))  # type: ignore[misc]
    assert store.count() == 100
    store.add([live("last", old + 99)], vectors(1, seed=2))  # type: ignore[list-item]
    ids = set(store.table().ids)
    assert len(ids) == store.count() == 98
    assert {"data0", "live3", "last"} <= ids
    assert not {"live0", "live1", "live2"} & ids
    store.close()


def test_data_sets_make_room_when_there_is_nothing_live(tmp_path: Path) -> None:
    store = opened(tmp_path, max_records=100)
    store.add([record(f"data{i:03}", created=1.0 + i) for i in range(120)], vectors(120))
    assert store.count() == 98
    assert min(store.table().ids) == "data022"
    store.close()


def test_opening_with_a_smaller_bound_removes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    store = opened(tmp_path, max_records=5, max_age_days=1.0)
    assert store.count() == 20
    store.close()


@pytest.mark.parametrize("asked_before", [False, True])
def test_live_rows_age_and_data_sets_do_not(tmp_path: Path, asked_before: bool) -> None:
    store = opened(tmp_path)
    now = time.time()
    rows = [live("old", now - 3 * DAY_S), live("young", now), record("data", created=1.0)]
    rows.append(replace(rows[0], id="old audit", source="audit"))
    store.add(rows, vectors(4))  # type: ignore[arg-type]
    store.close()
    store = opened(tmp_path, max_age_days=2.0)
    if asked_before:
        store.nearest(vectors(1), MODELS, 3)
    store.add([record("more")], vectors(1, seed=5))
    assert set(store.table().ids) == {"young", "data", "more"}
    store.close()


@pytest.mark.parametrize(
    "other", [ToyEmbedder("another"), ToyEmbedder(dimension=4)], ids=["name", "dimension"]
)
def test_another_embedder_is_refused_with_the_command(tmp_path: Path, other: ToyEmbedder) -> None:
    fill(tmp_path)
    with pytest.raises(EmbedderError, match="aios-eccos ingest --rebuild"):
        open_history("embedded", tmp_path, other)
    store = opened(tmp_path)
    assert store.count() == 20
    store.close()


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma, "SCHEMA", chroma.SCHEMA + 1)
    fill(tmp_path)
    monkeypatch.undo()
    with pytest.raises(HistoryError, match="upgrade aios-eccos"):
        opened(tmp_path)


def mixed(n: int) -> list[Record]:
    """Records of which every second is a live one without a verdict."""
    return [
        replace(each, source="live", outcomes=(Outcome("small", None, 9),), created=NOW)
        if i % 2
        else each
        for i, each in enumerate(some_records(n))
    ]


@pytest.mark.parametrize("schema", [1, 2, None])
def test_what_another_version_wrote_is_refused_and_can_be_carried_over(
    tmp_path: Path, schema: int | None
) -> None:
    fill(tmp_path)
    raw = client.open_folder(tmp_path / "history" / "chroma")
    known = {"embedder": "toy", "dimension": DIMENSION}
    raw.get_collection(chroma.NAME, embedding_function=None).modify(
        metadata=known if schema is None else {**known, "schema": schema}
    )
    client.close_client(raw)
    with pytest.raises(HistoryError, match=rf"(no format|format {schema}), .*--rebuild"):
        opened(tmp_path)
    assert rebuild("embedded", tmp_path, ToyEmbedder()).carried == 20
    store = opened(tmp_path)
    assert store.add(some_records(20), vectors(20)).total == 0
    store.close()


def test_a_move_that_broke_off_leaves_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the judged row was written, before the unjudged one was removed."""
    store = opened(tmp_path)
    store.add(mixed(2), vectors(2))
    monkeypatch.setattr(Places, "drop", lambda rows, ids: None)
    store.judge("r001", "small", 1.0)
    monkeypatch.undo()
    store.close()
    store = opened(tmp_path)
    table = store.table()
    assert table.correctness[table.ids.index("r001")].tolist()[1] == 1.0
    assert store.recall(["r001"])["r001"][0].outcomes[0].correctness == 1.0
    assert store.judge("r001", "small", 0.0)
    assert store.count() == 2
    store.close()


def test_a_move_that_fails_halfway_is_found_among_the_judged_once_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, judged = opened(tmp_path), some_records(2)

    def fails(rows: Places, ids: list[str]) -> None:
        raise HistoryError("the disk is full")

    store.add([judged[0], replace(judged[1], outcomes=())], vectors(2))
    monkeypatch.setattr(Places, "drop", fails)
    with pytest.raises(HistoryError):
        store.add(judged, vectors(2))
    monkeypatch.undo()
    store.add(judged, vectors(2))
    (found,) = store.nearest(vectors(2)[1:], MODELS, 1).ids
    assert found == (judged[1].id,)
    store.close()


def test_rows_may_leave_until_few_are_left(tmp_path: Path) -> None:
    store = opened(tmp_path)
    live = [replace(each, agent="ann" if i > 2 else "") for i, each in enumerate(mixed(2600))]
    live = [replace(each, outcomes=(Outcome("small", None, 9),)) for each in live]
    store.add(live, vectors(2600))
    assert store.forget(agent="ann") == 2597
    store.close()
    store = opened(tmp_path)
    assert store.count() == 3
    assert store.nearest(vectors(1), MODELS, 3).ids == ((),)
    assert store.judge("r000", "small", 1.0)
    assert store.nearest(vectors(1), MODELS, 3).ids == (("r000",),)
    store.close()


def index_of(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.is_dir())


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "garbage": lambda f: overwrite(f / "chroma.sqlite3", b"garbage" * 1000),
    "cut off": lambda f: overwrite(
        f / "chroma.sqlite3", (f / "chroma.sqlite3").read_bytes()[:100_000]
    ),
    "database gone": lambda f: (f / "chroma.sqlite3").unlink(),
    "index gone": lambda f: shutil.rmtree(index_of(f)),
    "index garbage": lambda f: overwrite(index_of(f) / "header.bin", b"\xff" * 100),
    "index cut off": lambda f: overwrite(index_of(f) / "data_level0.bin", b"\0" * 10),
}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A history large enough that Chroma has written its index to disk."""
    state = tmp_path_factory.mktemp("indexed")
    fill(state, 1100)
    yield state


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_with_the_repair(indexed: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(indexed, tmp_path, dirs_exist_ok=True)
    DAMAGE[damage](tmp_path / "history" / "chroma")
    with pytest.raises(HistoryError, match="aios-eccos ingest --rebuild"):
        opened(tmp_path)
    shutil.rmtree(tmp_path / "history" / "chroma")
    opened(tmp_path).close()


def test_files_that_would_crash_chroma_are_refused(indexed: Path, tmp_path: Path) -> None:
    """Whatever is damaged of the index, the process lives: it is refused, or harmless."""
    shutil.copytree(indexed / "history" / "chroma", tmp_path / "chroma")
    folder = index_of(tmp_path / "chroma")
    names = ("header.bin", "data_level0.bin", "link_lists.bin", "length.bin")
    assert is_sound(tmp_path / "chroma")
    for name in names:
        whole = (folder / name).read_bytes()
        for part in (b"", whole[:-1], whole + b"\0", whole[: len(whole) // 2]):
            overwrite(folder / name, part)
            assert not is_sound(tmp_path / "chroma"), (name, len(part))
        (folder / name).unlink()
        assert is_sound(tmp_path / "chroma") == (name == "header.bin")
        overwrite(folder / name, whole)
    header = (folder / "header.bin").read_bytes()
    fields = (4, 12, 20, 28, 36, 44, 52, 56, 60, 68, 76, 89, 92)  # the third byte of each
    for at in (field + 2 for field in fields):
        overwrite(folder / "header.bin", header[:at] + b"\xfe" + header[at + 1 :])
        assert not is_sound(tmp_path / "chroma"), at
    overwrite(folder / "header.bin", header)
    for name, at in (("data_level0.bin", 4), ("data_level0.bin", 0), ("link_lists.bin", 0)):
        whole = (folder / name).read_bytes()
        overwrite(folder / name, whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :])
        assert not is_sound(tmp_path / "chroma"), (name, at)
        overwrite(folder / name, whole)
    assert is_sound(tmp_path / "chroma")


#: Files of an index, in the order in which Chroma writes them; the last says which row is where.
INDEX = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")


@pytest.mark.parametrize("written", [0, 60])
@pytest.mark.parametrize("at", range(5))
def test_a_kill_while_chroma_first_writes_an_index_loses_nothing(
    indexed: Path, tmp_path: Path, at: int, written: int
) -> None:
    """Up to a thousand changes all vectors lie in the database: the index is made anew of them."""
    fill(tmp_path)
    index, whole = index_of(tmp_path / "history/chroma"), index_of(indexed / "history/chroma")
    for name in INDEX[at:]:
        overwrite(index / name, b"")
    for name in INDEX[:at]:
        shutil.copy(whole / name, index)
    overwrite(index / INDEX[at], (whole / INDEX[at]).read_bytes()[:written])
    store = opened(tmp_path)
    assert store.count() == 20
    assert store.table().embeddings.shape == (20, DIMENSION)
    assert store.nearest(vectors(20)[4:5], MODELS, 1).ids == (("r004",),)
    store.close()


@pytest.fixture(scope="module")
def written_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, HistoryTable]:
    """A history before and after Chroma writes its index for the second time; its rows before."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    rows = [
        replace(each, agent="ann" if i < 50 else "") for i, each in enumerate(some_records(2000))
    ]
    store = opened(before)
    store.add(rows[:1100], vectors(1100))
    store.add(rows[1100:], vectors(900, seed=1))
    assert store.forget(agent="ann") == 50
    whole = store.table()
    store.close()
    shutil.copytree(before, after, dirs_exist_ok=True)
    store = opened(after)
    store.add([record(f"more{i}") for i in range(60)], vectors(60, seed=2))
    store.close()
    return before, after, whole


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("at", range(5))
def test_a_kill_while_chroma_writes_an_index_again_loses_nothing(
    written_twice: tuple[Path, Path, HistoryTable], tmp_path: Path, at: int, share: float
) -> None:
    before, after = (each / "history/chroma" for each in written_twice[:2])
    shutil.copytree(written_twice[0], tmp_path, dirs_exist_ok=True)
    index, old, new = index_of(tmp_path / "history/chroma"), index_of(before), index_of(after)
    for name in INDEX[:at]:
        shutil.copy(new / name, index)
    was, to = (each / INDEX[at] for each in (old, new))
    assert was.read_bytes() != to.read_bytes()
    part = to.read_bytes()[: int(share * to.stat().st_size)]
    rest = b"" if at == 4 else was.read_bytes()[len(part) :]  # the others are written in place
    overwrite(index / INDEX[at], part + rest)
    store, whole = opened(tmp_path), written_twice[2]
    assert store.table().ids == whole.ids
    assert np.allclose(store.table().embeddings, whole.embeddings, atol=1e-6)
    store.close()


def test_a_database_that_names_foreign_folders_has_none_removed(tmp_path: Path) -> None:
    fill(tmp_path)
    kept = tmp_path / "history/kept"
    kept.mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "history/chroma/chroma.sqlite3")) as base:
        named = "INSERT INTO segments SELECT ?, type, scope, collection FROM segments LIMIT 1"
        for name in ("../kept", "..", ".", "", str(kept)):
            base.execute(named, (name,))
        base.commit()
    mend(tmp_path / "history/chroma")
    assert kept.exists() and (tmp_path / "history/chroma/chroma.sqlite3").exists()


def test_few_records_that_are_changed_often_stay_readable(tmp_path: Path) -> None:
    """Chroma lays an index out for a hundred elements, and writes it after a thousand changes."""
    store = opened(tmp_path)
    for tokens in range(25):
        changed = [replace(each, outcomes=(Outcome("small", 1.0, tokens),)) for each in mixed(50)]
        store.add(changed, vectors(50))
    store.close()
    assert list((tmp_path / "history/chroma").glob("*/index_metadata.pickle")), "it was written"
    store = opened(tmp_path)
    assert store.nearest(vectors(50)[4:5], MODELS, 1).output_tokens[0, 0, 1] == 24
    store.close()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("in the way")
    with pytest.raises(HistoryError, match="folder cannot be used"):
        opened(tmp_path)


# A server that several processes share.


def test_processes_see_each_others_rows(
    clean_server: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(tmp_path, clean_server.url), opened(tmp_path, clean_server.url)
    assert two.version == two.version
    before = two.version
    one.add(some_records(3), vectors(3))
    assert two.count() == 3
    monkeypatch.setattr(history, "STAMP_S", 0.0)
    assert two.version != before
    assert two.judge("r001", "small", 0.5)
    assert one.nearest(vectors(3)[1:2], ("small",), 1).correctness[0, 0, 0] == 0.5
    two.forget(agent="")
    assert one.nearest(vectors(1), MODELS, 3).ids == ((),)
    one.close()
    two.close()


def test_a_shared_history_is_bounded_too(clean_server: ChromaServer, tmp_path: Path) -> None:
    store = opened(tmp_path, clean_server.url, max_records=100)
    store.add([record(f"d{i:03}", created=1.0 + i) for i in range(110)], vectors(110))
    assert store.count() == 98
    store.close()


def test_a_servers_history_of_another_embedder_is_refused(
    clean_server: ChromaServer, tmp_path: Path
) -> None:
    opened(tmp_path, clean_server.url).close()
    with pytest.raises(EmbedderError, match="--rebuild"):
        open_history(clean_server.url, tmp_path, ToyEmbedder("another"))


@pytest.mark.parametrize(
    ("user", "password"), [("eccos", "pw"), ("", "token"), ("a b", "p@ss/w:rd#?"), ("ü", "ключ")]
)
def test_user_and_password_in_the_url_are_used(
    clean_server: ChromaServer, tmp_path: Path, user: str, password: str
) -> None:
    gate = Gate(clean_server.url, user, password)
    try:
        store = opened(tmp_path, f"http://{quote(user, '')}:{quote(password, '')}@{gate.at}")
        store.add(some_records(5), vectors(5))
        assert store.count() == 5
        store.close()
        for wrong in ("", "eccos@", "eccos:hunter2@"):
            with pytest.raises(HistoryError, match=r"history = .* user and password") as error:
                opened(tmp_path, f"http://{wrong}{gate.at}")
            assert "hunter2" not in str(error.value)
    finally:
        gate.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "http://",
        "chroma",
        "http://host:port",
        "http://[::1",
        "http://chroma:8000/prefix",
        "http://chroma:8000?token=hunter2",
    ],
)
def test_what_is_no_url_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(HistoryError, match="history = "):
        opened(tmp_path, url)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        said = f"history = '{url}': .*does not answer: .*Connection refused"
        with pytest.raises(HistoryError, match=said):
            opened(tmp_path, url)


def test_what_panics_in_chromas_core_is_no_end_of_a_thread(tmp_path: Path) -> None:
    class PanicException(BaseException):
        """As PyO3 has it."""

    class Panics:
        def get_or_create_collection(self, *args: object, **options: object) -> None:
            raise PanicException("database disk image is malformed")

    with pytest.raises(HistoryError, match="--rebuild"):
        chroma.ChromaRows(Panics(), ToyEmbedder(), shared=False)
    with pytest.raises(KeyboardInterrupt), client.translated():
        raise KeyboardInterrupt


def test_a_server_of_no_known_name(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="does not answer") as error:
        opened(tmp_path, "http://chroma.invalid:8000")
    assert "--rebuild" not in str(error.value), "its files are not damaged"


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HTTP_TIMEOUT_S", 0.2)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        # Otherwise the test does not end.
        with pytest.raises(HistoryError, match="does not answer"):
            opened(tmp_path, f"http://127.0.0.1:{mute.getsockname()[1]}")


def test_a_server_that_dies_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ChromaServer(tmp_path)
    store = opened(tmp_path, server.url)
    store.add([record("a", Outcome("small", 1.0, 5))], vectors(1))
    server.close()
    version = store.version
    with pytest.raises(HistoryError, match="does not answer"):
        store.nearest(vectors(1), MODELS, 1)
    with pytest.raises(HistoryError, match="left alone"):
        store.nearest(vectors(1), MODELS, 1)
    monkeypatch.setattr(history, "REST_S", 0.0)
    with pytest.raises(HistoryError, match="does not answer"):
        store.nearest(vectors(1), MODELS, 1)
    for call in (store.count, store.table, lambda: store.judge("a", "small", 1.0)):
        with pytest.raises(HistoryError, match="does not answer"):
            call()
    monkeypatch.setattr(history, "STAMP_S", 0.0)
    assert store.version == version
    store.close()


def test_dimension_is_the_embedders(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(HistoryError, match=str(DIMENSION)):
        store.nearest(vectors(1)[:, :3], MODELS, 1)
    store.close()
