"""Whatever the umask: folders are 0700, and files and sockets in them 0600 or less."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from aios_eccos.collect.journal import Journal
from aios_eccos.floor.certify import write_papers
from aios_eccos.history.embed.cache import EmbeddingCache
from aios_eccos.history.open import open_history
from aios_eccos.kernel.toolserver import ToolServers
from aios_eccos.kernel.workers import Broadcast
from aios_eccos.lab.fitted import Cache
from aios_eccos.locate import remember_enabled, state_dir_of
from aios_eccos.records import Outcome, Record
from aios_eccos.verdicts.keys import load_secret
from aios_eccos.workload.connect import open_workload


class Flat:
    """An embedder of two numbers."""

    name, dimension, identity = "flat", 2, "flat"

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 2), dtype=np.float32)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder that does not exist yet, under a umask that keeps nobody out."""
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    before = os.umask(0)
    yield state_dir_of(None)
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """What in a folder others may read or enter, itself included."""
    modes = {}
    for each in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):  # Redis' own files come and go
            modes[each] = each.lstat().st_mode
    return [f"{each} {mode:o}" for each, mode in modes.items() if mode & 0o077]


def test_all_that_a_state_folder_holds_is_private(state: Path, tmp_path: Path) -> None:
    remember_enabled(tmp_path)
    store = open_workload("embedded", state_dir=state, timeout_s=60)
    socket = Path((state / "redis/socket").read_text())
    store.set_prices({"floor:": 1.0})
    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert open_to_others(socket.parent) == []
    load_secret(state)
    Broadcast(state).send("mode", "route")
    write_papers(state / "certificates.json", {})
    cache = EmbeddingCache(tmp_path / "state/cache/embeddings.sqlite")
    cache.put({b"k": np.ones(2)})
    Cache(tmp_path / "state/fitted", "key").arrays("x", lambda: {"a": np.ones(2)})
    child = subprocess.Popen(["sleep", "60"])
    servers = ToolServers()
    servers.add(state, child)
    found = open_to_others(state.parent)
    servers.end()
    cache.close()
    store.close()
    assert found == []


def test_chromas_own_files_lie_in_a_private_folder(state: Path) -> None:
    history = open_history("embedded", state, Flat(), store_text=True)
    history.add([Record("a", "a text", 3, (Outcome("m", 1.0, 5),))], np.ones((1, 2), np.float32))
    history.close()
    (database,) = state.rglob("chroma.sqlite3")
    for folder in [database.parent, *database.parent.relative_to(state).parents]:
        assert (state / folder).stat().st_mode & 0o077 == 0


def test_what_was_asked_and_answered_is_private(state: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl"):
        assert open_to_others(tmp_path / "journal.jsonl") == []
