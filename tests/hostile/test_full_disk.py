"""A disk that is full: what was there stays whole, and the file is named."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aios_eccos import files
from aios_eccos.cli.main import main
from aios_eccos.collect.journal import Answer, Journal
from aios_eccos.collect.reply import Reply, RowFile
from aios_eccos.errors import DataError, HistoryError
from aios_eccos.history.client import translated
from aios_eccos.verdicts.keys import load_secret

REPLY = Reply("ok", "an answer", "", 10, 5, 3, 4, "usage", 0.5, 2)
ANSWER = Answer("q", "m", "hash", REPLY, "", 0.25, "2026-01-01T00:00:00.000+00:00")


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file grows beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_is_replaced_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "head"
    files.write(path, "old")
    with room(10), pytest.raises(OSError, match=str(path)):
        files.write(path, b"new" * 10_000)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["head"]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), files.replacing(tmp_path / "head"):
        (tmp_path / "elsewhere").read_bytes()


def test_a_journal_keeps_whole_lines_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.append(ANSWER)
        whole = path.read_bytes()
        with room(len(whole) + 20), pytest.raises(DataError, match=f"{path}: cannot be written"):
            journal.append(ANSWER)
        assert path.read_bytes() == whole
        journal.append(ANSWER)
    with Journal(path) as journal:
        assert journal.answers == [ANSWER, ANSWER]


@pytest.mark.parametrize("size", [0, 10])
def test_a_journal_that_cannot_be_begun_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "j"
    with room(size), pytest.raises(DataError, match=f"{path}: cannot be written"):
        Journal(path)
    with Journal(path) as journal:
        assert journal.answers == []


def test_a_data_set_keeps_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    rows = RowFile(path)
    rows.append({"query": "whole"})
    with room(path.stat().st_size + 5), pytest.raises(DataError, match=str(path)):
        rows.append({"query": "cut off"})
    with room(5), pytest.raises(DataError, match=str(path)):
        rows.replace([{"query": "another"}])
    assert json.loads(path.read_text()) == {"query": "whole"}


def test_a_secret_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    with room(0), pytest.raises(OSError, match=r"answers\.key"):
        load_secret(tmp_path)
    assert [*tmp_path.iterdir()] == []
    assert load_secret(tmp_path) == load_secret(tmp_path)


@pytest.mark.parametrize("part", ["metadata segment", "hnsw segment writer"])
def test_what_chroma_says_of_a_full_disk_has_its_remedy(part: str) -> None:
    said = f"Error in compaction: Failed to apply logs to the {part}"
    with pytest.raises(HistoryError, match="make room on its disk"), translated():
        raise ValueError(said)


def test_a_command_names_the_file_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AIOS_ECCOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIOS_HOME", raising=False)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with room(0), pytest.raises(SystemExit) as ended:
        main(["ingest", str(tmp_path / "rows.jsonl")])
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "answers.key" in line], said
    assert not any("Traceback" in line for line in said)
