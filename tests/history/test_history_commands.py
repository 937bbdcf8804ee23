"""`aios-eccos ingest` and `forget`, and beginning the history anew, with the real embedder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_world import ChromaServer, ToyEmbedder, record, some_records, vectors

from aios_eccos.cli.main import main
from aios_eccos.errors import EmbedderError, HistoryError, HistoryOwned
from aios_eccos.history.history import History
from aios_eccos.history.ingest import drain_inbox
from aios_eccos.history.open import open_embedder, open_history, rebuild
from aios_eccos.records import Outcome


def rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "query_id": f"q{i}",
            "task": "sums",
            "split": "train" if i % 2 else "test",
            "query": f"What is {i} plus {i}?",
            "input_token_length": 8,
            "outputs": [{"model_name": "small", "correctness": 1, "output_token_length": i}],
        }
        for i in range(n)
    ]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of the commands, which see neither AIOS nor the user's folders."""
    monkeypatch.delenv("AIOS_HOME", raising=False)
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state" / "standalone"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def history(state: Path) -> History:
    return open_history("embedded", state, open_embedder())


def test_a_file_is_ingested_once(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "data.jsonl", rows(6))
    assert run("ingest", path) == 0
    assert "added 6, unchanged 0, bad 0" in capsys.readouterr().out
    assert run("ingest", path, "--json", "-") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["schema"] == "aios-eccos/ingest/1"
    assert (out["added"], out["unchanged"], out["bad"]) == (0, 6, [])
    store = history(state)
    found = store.nearest(open_embedder().embed(["What is 3 plus 3?"]), ("small",), 1)
    assert found.ids == (("q3",),)
    assert store.table().texts.count("What is 3 plus 3?") == 1
    store.close()


def test_a_changed_grade_is_an_update_and_the_next_run_changes_nothing(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ingest", write(tmp_path / "data.jsonl", rows(6)))
    regraded = rows(6)
    regraded[3]["outputs"][0]["correctness"] = 0
    path = write(tmp_path / "again.jsonl", regraded)
    capsys.readouterr()
    assert run("ingest", path) == 0
    assert "added 0, updated 1, unchanged 5, bad 0" in capsys.readouterr().out
    assert run("ingest", path, "--json", "-") == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["added"], out["updated"], out["unchanged"]) == (0, 0, 6)


def test_two_state_folders_keep_other_keys_of_the_same_answers(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = rows(1)[0]
    row["outputs"] = [
        {"model_name": name, "correctness": 1, "answer": answer}
        for name, answer in (("a", "four it is"), ("b", "four it is"), ("c", "five"), ("d", None))
    ]
    path, kept = write(tmp_path / "data.jsonl", [row]), []
    for folder in (state, tmp_path / "other" / "standalone"):
        monkeypatch.setenv("AIOS_ECCOS_STATE", str(folder.parent))
        assert run("ingest", path) == run("ingest", path, "--rebuild") == 0
        store = history(folder)
        ((found, _),) = store.recall(["q0"]).values()
        store.close()
        kept.append([outcome.answer for outcome in found.outcomes])
        assert not [p for p in folder.rglob("*") if p.is_file() and b"four it is" in p.read_bytes()]
    one, other = kept
    assert one[0] == one[1] != one[2]
    assert one[3] is other[3] is None
    assert not {*one[:3]} & {*other[:3]}


def test_two_grades_of_one_query_in_a_file_are_named_every_time(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = ({k: v for k, v in rows(2)[1].items() if k != "query_id"} for _ in range(2))
    other["outputs"] = [{**other["outputs"][0], "correctness": 0}]
    path = write(tmp_path / "data.jsonl", [good, other])
    for added, unchanged in ((1, 0), (0, 1), (0, 1)):
        assert run("ingest", path) == 1
        seen = capsys.readouterr()
        assert f"added {added}, unchanged {unchanged}, bad 1" in seen.out
        assert "stands twice, with different outputs of 'small'" in seen.err


def test_numbered_rows_of_two_files_are_kept_apart(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name in ("law", "maths", "code"):
        lines = [{**row, "query_id": i, "query": f"A {name} question, number {i}"}
                 for i, row in enumerate(rows(3))]  # fmt: skip
        files.append(write(tmp_path / f"{name}.jsonl", lines))
    assert run("ingest", *files, "--json", "-") == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["added"], len(out["kept_apart"])) == (9, 6)
    assert run("ingest", *files) == 0
    seen = capsys.readouterr().out
    assert "added 0, unchanged 9, bad 0" in seen
    assert "kept apart 6 records whose query_id another question has" in seen
    store = history(state)
    assert store.count() == len(set(store.table().texts)) == 9
    store.close()


def test_bad_rows_are_named_and_the_good_ones_kept(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write(tmp_path / "one.jsonl", [rows(3)[0], "{broken", rows(3)[1]])
    two = write(tmp_path / "two.jsonl", [{**rows(1)[0], "outputs": []}, rows(3)[2]])
    target = tmp_path / "report.json"
    assert run("ingest", one, tmp_path / "gone.jsonl", two, "--json", target) == 1
    seen = capsys.readouterr()
    assert f"{one}:2: no JSON" in seen.err
    assert f"{two}:1: outputs" in seen.err
    assert "gone.jsonl: No such file" in seen.err
    assert "added 3, unchanged 0, bad 3" in seen.out
    report = json.loads(target.read_text())
    assert [(bad["file"], bad["line"]) for bad in report["bad"]] == [
        (str(one), 2),
        (str(tmp_path / "gone.jsonl"), None),
        (str(two), 1),
    ]
    store = history(state)
    assert set(store.table().ids) == {"q0", "q1", "q2"}
    store.close()


def test_only_some_splits(state: Path, tmp_path: Path) -> None:
    assert run("ingest", write(tmp_path / "d.jsonl", rows(6)), "--split", "train, val") == 0
    store = history(state)
    assert set(store.table().splits) == {"train"}
    assert store.count() == 3
    store.close()


def test_thousands_of_bad_rows_do_not_flood_the_screen(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ingest", write(tmp_path / "d.jsonl", ["{"] * 500)) == 1
    assert "and 400 more bad rows" in capsys.readouterr().err


def test_ingest_wants_a_file(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ingest") == 1
    assert "at least one FILE" in capsys.readouterr().err


def test_an_agent_is_forgotten(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ingest", write(tmp_path / "d.jsonl", rows(1)))
    store, embedder = history(state), open_embedder()
    live = [record(f"l{i}", source="live", agent="coder/x") for i in range(3)]
    store.add(live, embedder.embed(["a", "b", "c"]))
    store.close()
    capsys.readouterr()
    assert run("forget", "--agent", "coder/x", "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["schema"], out["removed"]) == ("aios-eccos/forget/1", 3)
    assert run("forget", "--agent", "coder/x") == 0
    assert "removed 0 records" in capsys.readouterr().out


# Beside a running kernel.


@pytest.fixture
def owned(state: Path) -> Iterator[History]:
    store = history(state)
    yield store
    store.close()


@pytest.mark.usefixtures("patient_redis")
def test_beside_the_owner_records_are_handed_over(
    owned: History, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aios_eccos.workload.connect import open_workload

    path = write(tmp_path / "d.jsonl", [*rows(5), "{broken"])
    workload = open_workload("embedded", state_dir=state)
    try:
        assert run("ingest", path, "--split", "test") == 1
        assert "handed over 3 records, bad 1" in capsys.readouterr().out
        assert owned.count() == 0
        assert drain_inbox(workload, owned, open_embedder()) == 3
        assert run("forget", "--agent", "") == 0
        assert "asked the process" in capsys.readouterr().out
        drain_inbox(workload, owned, open_embedder())
        assert owned.count() == 0
    finally:
        workload.close()


def test_an_ingest_takes_in_what_another_handed_over(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aios_eccos.history.ingest as module

    first, second = (tmp_path / name for name in ("first.jsonl", "second.jsonl"))
    write(first, rows(2))
    write(second, rows(5)[2:])
    store_records = module.ingest

    def beside(*arguments: Any, **options: Any) -> Any:
        """The second ingest, run while the first owns the history."""
        assert run("ingest", second, "--json", tmp_path / "second.json") == 0
        return store_records(*arguments, **options)

    monkeypatch.setattr(module, "ingest", beside)
    assert run("ingest", first) == 0
    assert json.loads((tmp_path / "second.json").read_text())["handed_over"] is True
    store = history(state)
    assert set(store.table().ids) == {f"q{i}" for i in range(5)}
    store.close()


def test_an_ingest_does_without_a_redis_that_is_away(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aios_eccos.config import Settings

    monkeypatch.setattr(
        "aios_eccos.locate.Settings", lambda: Settings(redis="redis://127.0.0.1:1"), raising=True
    )
    assert run("ingest", write(tmp_path / "d.jsonl", rows(2))) == 0
    store = history(state)
    assert store.count() == 2
    store.close()


def test_only_the_user_can_enter_the_state_folder(state: Path, tmp_path: Path) -> None:
    run("ingest", write(tmp_path / "d.jsonl", rows(1)))
    history(tmp_path / "new" / "folder").close()
    made = (state, state / "history", tmp_path / "new", tmp_path / "new" / "folder")
    assert {folder.stat().st_mode & 0o777 for folder in made} == {0o700}


def test_where_there_is_no_way_to_the_owner_it_is_named(
    owned: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from aios_eccos.config import Settings

    monkeypatch.setattr(
        "aios_eccos.locate.Settings", lambda: Settings(redis="memory"), raising=True
    )
    path = write(tmp_path / "d.jsonl", rows(1))
    for command in (["ingest", path], ["forget", "--agent", "a"]):
        assert run(*command) == 1
        assert "owns the embedded history" in capsys.readouterr().err


# Anew.


@pytest.fixture(params=["embedded", "server"])
def place(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return "embedded"
    server: ChromaServer = request.getfixturevalue("clean_server")
    return server.url


def test_another_embedder_takes_over_what_has_text(place: str, tmp_path: Path) -> None:
    store = open_history(place, tmp_path, ToyEmbedder())
    bare = record("bare", source="live")
    store.add([*some_records(9), bare], vectors(10))
    before = store.table()
    store.close()
    other = ToyEmbedder("other", dimension=5)
    with pytest.raises(EmbedderError):
        open_history(place, tmp_path, other)
    progress: list[int] = []
    report = rebuild(place, tmp_path, other, progress=progress.append)
    assert (report.carried, report.lost, report.aside) == (9, 1, None)
    assert sum(progress) == 9
    store = open_history(place, tmp_path, other)
    after = store.table()
    before = before.rows([bool(text) for text in before.texts])
    assert after.ids == before.ids
    assert after.texts == before.texts
    np.testing.assert_array_equal(after.correctness, before.correctness)
    np.testing.assert_allclose(after.embeddings, other.embed(after.texts), atol=1e-6)
    store.close()
    assert [p.name for p in tmp_path.glob("history/*") if p.name.startswith("old")] == []


def test_the_same_embedder_keeps_rows_without_text(place: str, tmp_path: Path) -> None:
    store = open_history(place, tmp_path, ToyEmbedder())
    bare = record("bare", Outcome("small", None, 3), source="live")
    store.add([bare], vectors(1))
    store.close()
    toy = ToyEmbedder()
    assert rebuild(place, tmp_path, toy).carried == 1
    assert toy.embedded == []
    store = open_history(place, tmp_path, ToyEmbedder())
    np.testing.assert_allclose(store.table().embeddings, vectors(1), atol=1e-6)
    store.close()


def test_the_same_embedder_reads_long_texts_anew(place: str, tmp_path: Path) -> None:
    """What is read of them may have changed since."""
    store = open_history(place, tmp_path, ToyEmbedder())
    long = replace(record("long"), text="The river passes the mill. " * 100 + "\n\nWhy?")
    store.add([record("short"), long], vectors(2))
    store.close()
    toy = ToyEmbedder()
    assert rebuild(place, tmp_path, toy).carried == 2
    assert toy.embedded == [long.text]


def test_where_there_is_nothing_a_rebuild_makes_an_empty_history(
    place: str, tmp_path: Path
) -> None:
    report = rebuild(place, tmp_path, ToyEmbedder())
    assert (report.carried, report.lost, report.aside) == (0, 0, None)
    store = open_history(place, tmp_path, ToyEmbedder())
    assert store.count() == 0
    store.close()


def test_what_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    open_history("embedded", tmp_path, ToyEmbedder()).close()
    folder = tmp_path / "history" / "chroma"
    (folder / "chroma.sqlite3").write_bytes(b"garbage" * 999)
    report = rebuild("embedded", tmp_path, ToyEmbedder())
    assert report.aside is not None
    assert (Path(report.aside) / "chroma.sqlite3").read_bytes().startswith(b"garbage")
    open_history("embedded", tmp_path, ToyEmbedder()).close()


def test_a_lost_index_costs_nothing_where_texts_are_kept(tmp_path: Path) -> None:
    store = open_history("embedded", tmp_path, ToyEmbedder())
    store.add(some_records(1100), vectors(1100))
    store.close()
    for path in (tmp_path / "history" / "chroma").glob("*/data_level0.bin"):
        path.write_bytes(b"")
    with pytest.raises(HistoryError):
        open_history("embedded", tmp_path, ToyEmbedder())
    report = rebuild("embedded", tmp_path, ToyEmbedder())
    assert (report.carried, report.lost) == (1100, 0)
    store = open_history("embedded", tmp_path, ToyEmbedder())
    assert store.count() == 1100
    store.close()


def test_an_owned_history_is_not_rebuilt(tmp_path: Path) -> None:
    store = open_history("embedded", tmp_path, ToyEmbedder())
    with pytest.raises(HistoryOwned):
        rebuild("embedded", tmp_path, ToyEmbedder())
    store.close()


def test_a_failure_on_the_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_history("embedded", tmp_path, ToyEmbedder())
    store.add(some_records(3), vectors(3))
    store.close()

    class Failing(ToyEmbedder):
        def embed(self, texts: Any) -> Any:
            raise EmbedderError("out of order")

    with pytest.raises(EmbedderError, match="out of order"):
        rebuild("embedded", tmp_path, Failing("other"))
    store = open_history("embedded", tmp_path, ToyEmbedder())
    assert store.count() == 3
    store.close()

    def refuse(*_: object, **__: object) -> None:
        raise HistoryError("disk full")

    monkeypatch.setattr(History, "add", refuse)
    with pytest.raises(HistoryError, match=r"disk full; the old history lies in .*old-"):
        rebuild("embedded", tmp_path, ToyEmbedder())
    assert list(tmp_path.glob("history/old-*/chroma.sqlite3"))


def test_the_command_rebuilds_and_then_ingests(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "d.jsonl", rows(4))
    run("ingest", path)
    (state / "history" / "chroma" / "chroma.sqlite3").write_bytes(b"garbage" * 999)
    capsys.readouterr()
    assert run("ingest", path) == 1
    assert "aios-eccos ingest --rebuild" in capsys.readouterr().err
    assert run("ingest", "--rebuild", path) == 0
    seen = capsys.readouterr().out
    assert "could not be read; it lies in" in seen
    assert "added 4, unchanged 0, bad 0" in seen
    assert run("ingest", "--rebuild", "--json", "-") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["rebuilt"] == {"carried": 4, "lost": 0, "aside": None}
