"""The living toy engine, as a fixture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from observe_world import World, make_engine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    # Another suite's kernel may live as long as the session; only this engine's thread must end.
    before = recorders()
    with make_engine(tmp_path, cooldown_s=0.05) as engine:
        assert engine.wait_ready(60)
        yield World(engine)
    assert recorders() <= before


def recorders() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "eccos-recorder"}
