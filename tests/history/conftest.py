"""History stores of every kind, and the real server behind one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from history_world import DIMENSION, ChromaServer, Open, ToyEmbedder

from aios_eccos.history.history import History
from aios_eccos.history.memory import MemoryHistory
from aios_eccos.history.open import open_history


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    server = ChromaServer(tmp_path_factory.mktemp("chroma"))
    yield server
    server.close()


@pytest.fixture
def clean_server(chroma_server: ChromaServer) -> ChromaServer:
    chroma_server.wipe()
    return chroma_server


@pytest.fixture(params=["memory", "embedded", "server"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an empty store of each kind; keyword arguments as for `open_history`."""
    opened: list[History] = []

    def open_one(**options: object) -> History:
        store: History
        if request.param == "memory":
            store = MemoryHistory(DIMENSION, **options)  # type: ignore[arg-type]
        else:
            setting = "embedded"
            if request.param == "server":
                setting = request.getfixturevalue("clean_server").url
            store = open_history(setting, tmp_path, ToyEmbedder(), **options)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> History:
    return open_store()
